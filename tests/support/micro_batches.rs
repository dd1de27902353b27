//! A step from several micro-batches, on the host and on the GPU.

use wgpu_optim::cpu::{self, Number};
use wgpu_optim::{Optimizer, Tensor};

use super::gpu::GPU;
use super::step::step;

/// Accumulates all micro-batches of gradients but the last and steps with the last.
#[track_caller]
pub(crate) fn on_host<F: Number>(host: &mut cpu::Optimizer<F>, params: &mut [Vec<F>], batches: &[Vec<Vec<f32>>]) {
    let number = |x: &f32| F::from_f64(f64::from(*x));
    let batches = batches.iter().map(|batch| batch.iter().map(|g| g.iter().map(number).collect()).collect());
    let batches: Vec<Vec<Vec<F>>> = batches.collect();
    let (last, others) = batches.split_last().expect("a step has gradients");
    for batch in others {
        host.accumulate(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("accumulated");
    }
    step(host, params, last);
}

/// The same on the GPU.
#[track_caller]
pub(crate) fn on_gpu(optimizer: &mut Optimizer, tensors: &[Tensor], batches: &[Vec<Vec<f32>>]) {
    for (i, batch) in batches.iter().enumerate() {
        for (tensor, gradient) in tensors.iter().zip(batch) {
            optimizer.write_grad(*tensor, gradient).expect("the length fits");
        }
        let last = i + 1 == batches.len();
        GPU.run(|e| if last { optimizer.step(e) } else { optimizer.accumulate(e) }).expect("a step");
    }
}
