//! The walk that takes the tensors of a step out of a module.

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::error::{Error, Result};
use crate::module::index::Index;
use crate::module::path::Path;
use crate::tensor::exchange::Numbered;
use crate::tensor::primitive::{Primitive, Tracking, primitive};

/// What a walk found at a float parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Visit {
    /// The optimizer does not hold it.
    Other,
    /// Its tensor was taken.
    Taken { number: usize, tracking: Tracking },
    /// It is tied to one whose tensor was taken before.
    Tied { number: usize },
}

/// The tensors of a step.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In the module's order.
    pub(crate) visits: Vec<Visit>,
    pub(crate) params: Vec<Numbered<Primitive>>,
    pub(crate) grads: Vec<Numbered<Primitive>>,
    /// Parameters with another id than before, found by path.
    pub(crate) renamed: Vec<(usize, ParamId)>,
}

/// Takes the parameters that `index` knows, and their gradients, all on `device`. The module comes back with stand-ins in their places.
///
/// # Errors
/// A parameter that `index` knows is missing or has another shape; a gradient belongs to a parameter that `index` does not know; a tensor is on
/// another device.
pub(crate) fn take<M: Module>(module: M, index: &Index, device: &Device, grads: GradientsParams) -> Result<(M, Taken)> {
    let stand_in = Tensor::<1>::empty([1], device).into_dispatch();
    let seen = vec![false; index.params.len()];
    let mut taker =
        Taker { path: Path::default(), index, device, stand_in, grads, seen, taken: Taken::default(), problem: None };
    let module = module.map(&mut taker);
    if let Some(problem) = taker.problem {
        return Err(problem);
    }
    if let Some(number) = taker.seen.iter().position(|seen| !seen) {
        return Err(Error::param(
            &index.params[number].path,
            "the optimizer holds states of it, and the module does not have it any more: call WgpuOptimizer::init_again",
        ));
    }
    Ok((module, taker.taken))
}

struct Taker<'a> {
    path: Path,
    index: &'a Index,
    /// Without autodiff.
    device: &'a Device,
    stand_in: DispatchTensor,
    grads: GradientsParams,
    seen: Vec<bool>,
    taken: Taken,
    /// The first one.
    problem: Option<Error>,
}

impl Taker<'_> {
    fn complain(&mut self, problem: impl Into<String>) {
        let path = self.path.as_str();
        self.problem.get_or_insert_with(|| Error::param(path, problem));
    }

    fn primitive<const D: usize>(
        &mut self,
        number: usize,
        what: &str,
        tensor: Tensor<D>,
    ) -> Option<Numbered<Primitive>> {
        let tensor = tensor.without_autodiff();
        let device = tensor.device();
        // Burn's thread of a device knows no tensors of others.
        if device != *self.device {
            self.complain(format!(
                "its {what} is on {device:?}, and the optimizer on {:?}: make an optimizer for the module where it is now",
                self.device
            ));
            return None;
        }
        match primitive(tensor) {
            Ok(tensor) => Some(Numbered { number, tensor }),
            Err(error) => {
                self.complain(format!("its {what} is not a float tensor of Burn's wgpu backend: {error}"));
                None
            }
        }
    }

    /// The number of a parameter, if the optimizer holds it and it has its shape.
    fn number<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<usize> {
        let number = self.index.number(param.id, self.path.as_str())?;
        let (shape, known) = (param.shape(), &self.index.params[number]);
        if shape != known.shape {
            let problem = format!(
                "it has shape {:?}, and the optimizer holds it with shape {:?}: call WgpuOptimizer::init_again",
                shape.as_slice(),
                known.shape.as_slice()
            );
            self.complain(problem);
            return None;
        }
        if param.id != known.id {
            self.taken.renamed.push((number, param.id));
        }
        Some(number)
    }

    /// A parameter like this one with a stand-in for its tensor, and the tensor.
    fn replace<const D: usize>(&self, param: Param<Tensor<D>>) -> (Param<Tensor<D>>, Tensor<D>) {
        let (id, tensor, mapper) = param.consume();
        (Param::from_mapped_value(id, Tensor::from_dispatch(self.stand_in.clone()), mapper), tensor)
    }
}

impl ModuleMapper for Taker<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let Some(number) = self.number(&param) else {
            if self.grads.remove::<D>(id).is_some() {
                self.complain(
                    "it has a gradient, and the optimizer does not hold it, because it was added or was frozen when the optimizer began: \
                     call WgpuOptimizer::init_again",
                );
            }
            self.taken.visits.push(Visit::Other);
            return param;
        };
        let (param, tensor) = self.replace(param);
        if std::mem::replace(&mut self.seen[number], true) {
            self.taken.visits.push(Visit::Tied { number });
            return param;
        }
        let tracking = Tracking::of(&tensor);
        let Some(taken) = self.primitive(number, "tensor", tensor) else { return param };
        self.taken.params.push(taken);
        self.taken.visits.push(Visit::Taken { number, tracking });
        if let Some(grad) = self.grads.remove::<D>(id) {
            let grad = self.primitive(number, "gradient", grad);
            self.taken.grads.extend(grad);
        }
        param
    }
}
