//! What recording a step costs the caller's thread.

use std::time::Instant;

use serde::Serialize;

use super::sampling::Times;
use super::{Measured, Size, With};
use crate::optim::Rule;
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::{Group, Optimizer, Result, Tensor};

/// Steps recorded for one measurement, and those before them that are not counted.
const STEPS: usize = 200;
const WARM: usize = 20;
/// Elements of each tensor: recording does not depend on them.
const ELEMENTS: usize = 16;
/// From one gradient to the next in their buffer, as an allocator would place them.
const STRIDE: u64 = 256;

/// The CPU time of recording one step, in seconds; medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recording {
    /// The optimizer's name.
    pub optimizer: String,
    /// How many tensors.
    pub tensors: usize,
    /// Whether every gradient moved, with [`Optimizer::step_with_grads`].
    pub moved: bool,
    /// The call that records the step.
    pub record_s: f64,
    /// `CommandEncoder::finish` after it, where wgpu validates what was recorded.
    pub finish_s: f64,
}

/// Measures what recording a step over `tensors` tensors costs; with `moved`, every gradient is somewhere else at every step, all in one
/// buffer as a framework's memory pool holds them.
///
/// # Errors
/// A setting out of range; a limit of the device; the device was lost.
pub fn recording(gpu: &Gpu, rule: &dyn Rule, tensors: usize, moved: bool) -> Result<Recording> {
    let size = Size { tensors, elements: ELEMENTS };
    size.total()?;
    let pool = moved.then(|| pool(gpu, tensors as u64));
    let mut optimizer = if moved {
        moving(gpu, rule, tensors)?
    } else {
        super::gpu::optimizer(gpu, Measured { rule, with: &With::default(), storage: &Storage::default(), size })?
    };
    let handles: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    let (mut record, mut finish) = (Vec::new(), Vec::new());
    for step in 0..WARM + STEPS {
        let (recorded, finished) =
            one(gpu, &mut optimizer, pool.as_ref().map(|pool| (pool, step as u64 % 2)), &handles)?;
        if step >= WARM {
            record.push(recorded);
            finish.push(finished);
        }
    }
    Ok(Recording {
        optimizer: rule.name().to_owned(),
        tensors,
        moved,
        record_s: Times::new(record).median(),
        finish_s: Times::new(finish).median(),
    })
}

/// Records, finishes and runs one step; returns the seconds of the first two.
fn one(
    gpu: &Gpu,
    optimizer: &mut Optimizer,
    pool: Option<(&wgpu::Buffer, u64)>,
    tensors: &[Tensor],
) -> Result<(f64, f64)> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("bench") });
    let start = Instant::now();
    match pool {
        None => optimizer.step(&mut encoder)?,
        Some((pool, first)) => {
            let place = |i: u64| (first + 2 * i) * STRIDE..(first + 2 * i) * STRIDE + 4 * ELEMENTS as u64;
            optimizer
                .step_with_grads(&mut encoder, tensors.iter().zip(0..).map(|(&t, i)| (t, pool.slice(place(i)))))?;
        }
    }
    let recorded = start.elapsed().as_secs_f64();
    let commands = encoder.finish();
    let finished = start.elapsed().as_secs_f64() - recorded;
    gpu.queue.submit([commands]);
    gpu.wait()?;
    Ok((recorded, finished))
}

/// Room for two gradients a tensor.
fn pool(gpu: &Gpu, tensors: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("moved gradients"),
        size: 2 * tensors * STRIDE,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

fn moving(gpu: &Gpu, rule: &dyn Rule, tensors: usize) -> Result<Optimizer> {
    let mut builder = Optimizer::builder(rule.boxed());
    for i in 0..tensors {
        builder.tensor(Group::DEFAULT, format!("tensor {i}"), &[ELEMENTS]);
    }
    builder.dynamic_gradients(true);
    builder.build(&gpu.device, &gpu.queue)
}
