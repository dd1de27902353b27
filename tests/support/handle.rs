//! Handles by the order of tensors, for tests that name no tensor.

use wgpu_optim::Tensor;
use wgpu_optim::cpu::{Number, Optimizer};

/// The tensor at a place in the order in which tensors were added.
pub(crate) fn tensor<F: Number>(optimizer: &Optimizer<F>, index: usize) -> Tensor {
    optimizer.tensors().nth(index).expect("the tensor exists").0
}
