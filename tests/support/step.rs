//! A step of a host optimizer.

use wgpu_optim::cpu::{Number, Optimizer};

/// Takes one step, which must not fail.
#[track_caller]
pub(crate) fn step<F: Number>(optimizer: &mut Optimizer<F>, params: &mut [Vec<F>], grads: &[Vec<F>]) {
    let mut params: Vec<&mut [F]> = params.iter_mut().map(Vec::as_mut_slice).collect();
    let grads: Vec<&[F]> = grads.iter().map(Vec::as_slice).collect();
    optimizer.step(&mut params, &grads).expect("a step");
}
