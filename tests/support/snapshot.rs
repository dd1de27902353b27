//! A checkpoint of an optimizer on the tests' GPU.

use wgpu_optim::Optimizer;
use wgpu_optim::checkpoint::Checkpoint;

use super::gpu::GPU;

pub(crate) fn snapshot(optimizer: &Optimizer) -> Checkpoint {
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let snapshot = optimizer.snapshot(&mut encoder).expect("it is recorded");
    GPU.queue.submit([encoder.finish()]);
    pollster::block_on(snapshot.checkpoint()).expect("it is read")
}
