//! The conversion between Burn's tensors and its primitives, with what autodiff keeps beside them.

use burn::backend::{BackendTypes, Wgpu};
use burn::module::ParamId;
use burn::tensor::{GradientCheckpointingStrategy, Int, Tensor};

/// A float tensor as the backend has it.
pub(crate) type Primitive = <Wgpu as BackendTypes>::FloatTensorPrimitive;

/// A tensor of integers as the backend has it.
pub(crate) type IntPrimitive = <Wgpu as BackendTypes>::IntTensorPrimitive;

/// What autodiff keeps beside the numbers of a parameter. A step gives the module new tensors; they must take part in the next forward
/// pass as the ones before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracking {
    requires_grad: bool,
    distributed: bool,
    /// `None`: the tensor is not on an autodiff device.
    checkpointing: Option<GradientCheckpointingStrategy>,
}

impl Tracking {
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let checkpointing = tensor.gradient_checkpointing_strategy();
        let autodiff = checkpointing.is_some();
        Self {
            requires_grad: autodiff && tensor.is_require_grad(),
            distributed: autodiff && tensor.is_distributed(),
            checkpointing,
        }
    }

    /// The tensor of the parameter `id` from its primitive.
    pub(crate) fn restore<const D: usize>(self, primitive: Primitive, id: ParamId) -> Tensor<D> {
        let plain = Tensor::from_primitive::<Wgpu>(primitive);
        let Some(strategy) = self.checkpointing else { return plain };
        let tensor = Tensor::from_inner(plain).with_gradient_checkpointing_strategy(strategy);
        let tensor = if self.requires_grad { tensor.require_grad() } else { tensor };
        if self.distributed { tensor.set_distributed(id) } else { tensor }
    }
}

/// The primitive of a tensor, without autodiff.
///
/// # Errors
/// The tensor is quantized, or on another backend; the text says which.
pub(crate) fn primitive<const D: usize>(tensor: Tensor<D>) -> Result<Primitive, String> {
    tensor.without_autodiff().try_into_primitive::<Wgpu>().map_err(|error| format!("{error:?}"))
}

/// As [`primitive`], for integers.
///
/// # Errors
/// The tensor is on another backend.
pub(crate) fn int_primitive(tensor: Tensor<1, Int>) -> Result<IntPrimitive, String> {
    let tensor = tensor.without_autodiff().try_into_primitive::<Wgpu>();
    tensor.map_err(|error| format!("the indices are not on Burn's wgpu backend: {error:?}"))
}
