//! The time that recording a step takes on the caller's thread.

use web_time::Instant;

use serde::Serialize;

use super::sampling::Times;
use super::{Measured, Size, With};
use crate::optim::Rule;
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::{Group, Optimizer, Result, Tensor};

/// Steps that are measured.
const STEPS: usize = 200;
/// Steps before the measured steps.
const WARM_UP: usize = 20;
/// Elements of each tensor. The time to record does not depend on this number.
const ELEMENTS: usize = 16;
/// Bytes from one gradient to the next in the pool, as an allocator would place them.
const STRIDE: u64 = 256;

/// The median CPU times of recording one step, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recording {
    /// The optimizer's name.
    pub optimizer: String,
    /// The number of tensors.
    pub tensors: usize,
    /// Whether every step rebinds every gradient, with [`Optimizer::step_with_grads`].
    pub moved: bool,
    /// The call that records the step.
    pub record_s: f64,
    /// The call of `CommandEncoder::finish` after it, in which wgpu validates the recorded commands.
    pub finish_s: f64,
}

/// Measures the time to record a step over `tensors` tensors. With `rebinds`, every step binds every gradient at another place of one
/// buffer, as a framework's memory pool does.
///
/// # Errors
/// A setting is out of range; a limit of the device is too low; the device was lost.
#[cfg(not(target_arch = "wasm32"))]
pub fn recording(gpu: &Gpu, rule: &dyn Rule, tensors: usize, rebinds: bool) -> Result<Recording> {
    pollster::block_on(recording_async(gpu, rule, tensors, rebinds))
}

/// As `recording`, but in a page the future yields to the event loop while it waits for the GPU.
///
/// # Errors
/// As `recording`.
pub async fn recording_async(gpu: &Gpu, rule: &dyn Rule, tensors: usize, rebinds: bool) -> Result<Recording> {
    let size = Size::new(tensors, ELEMENTS);
    size.total()?;
    let pool = rebinds.then(|| pool(gpu, tensors as u64));
    let mut optimizer = if rebinds {
        with_dynamic_gradients(gpu, rule, tensors).await?
    } else {
        super::gpu::optimizer(gpu, Measured { rule, with: &With::default(), storage: &Storage::default(), size })
            .await?
    };
    let handles: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    let (mut record, mut finish) = (Vec::new(), Vec::new());
    for step in 0..WARM_UP + STEPS {
        let (recorded, finished) =
            one(gpu, &mut optimizer, pool.as_ref().map(|pool| (pool, step as u64 % 2)), &handles).await?;
        if step >= WARM_UP {
            record.push(recorded);
            finish.push(finished);
        }
    }
    Ok(Recording {
        optimizer: rule.name().to_owned(),
        tensors,
        moved: rebinds,
        record_s: Times::new(record).median(),
        finish_s: Times::new(finish).median(),
    })
}

/// Records, finishes and runs one step; returns the seconds that recording and finishing took.
async fn one(
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
    gpu.done().await?;
    Ok((recorded, finished))
}

/// A buffer with room for two gradients per tensor.
fn pool(gpu: &Gpu, tensors: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("rebound gradients"),
        size: 2 * tensors * STRIDE,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

async fn with_dynamic_gradients(gpu: &Gpu, rule: &dyn Rule, tensors: usize) -> Result<Optimizer> {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    let shape = builder.sample_shape(Group::DEFAULT, ELEMENTS);
    for i in 0..tensors {
        builder.tensor(Group::DEFAULT, format!("tensor {i}"), &shape);
    }
    builder.dynamic_gradients(true);
    builder.build_async(&gpu.device, &gpu.queue).await
}
