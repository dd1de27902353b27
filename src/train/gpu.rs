//! Training on the GPU: data, model and optimizer stay there, and a number comes back once an epoch.

use std::ops::ControlFlow;

use super::{Epoch, Log, Plan};
use crate::gpu::Gpu;
use crate::objective::{GpuMlp, GpuObjective as _, Outcome, Part, Split};
use crate::{Group, Optimizer, Result};

/// Batches of one encoder and submit.
const BATCHES: usize = 8;

/// Submits after which the loop waits, so that the steps under way stay below the optimizer's bound.
const SUBMITS: usize = 16;

pub(super) fn run(
    plan: &Plan,
    split: &Split,
    gpu: &Gpu,
    mut log: Log<impl FnMut(&Epoch) -> ControlFlow<()>>,
) -> Result<Vec<Epoch>> {
    let (device, queue) = (&gpu.device, &gpu.queue);
    let mut model = GpuMlp::new(device, &plan.mlp, split, plan.batch, plan.seed)?;
    let mut optimizer = optimizer(plan, &mut model, gpu)?;
    for epoch in 0..plan.epochs {
        log.begin();
        let batches: Vec<usize> = (0..model.batches()).collect();
        for (at, batches) in batches.chunks(BATCHES).enumerate() {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            model.record_epoch(&mut encoder, epoch);
            for batch in batches {
                model.record_gradient(&mut encoder, *batch)?;
                optimizer.step(&mut encoder)?;
            }
            queue.submit([encoder.finish()]);
            if (at + 1) % SUBMITS == 0 {
                gpu.wait()?;
            }
        }
        let (train, held_out) = measure(&model, gpu)?;
        if log.end(&train, Outcome::total(&held_out)).is_break() {
            break;
        }
    }
    Ok(log.epochs)
}

/// The optimizer's tensors are the model's, in the optimizer's own buffers, which the model binds.
fn optimizer(plan: &Plan, model: &mut GpuMlp, gpu: &Gpu) -> Result<Optimizer> {
    let mut builder = Optimizer::builder(plan.rule.clone());
    let specs = model.tensors();
    let tensors: Vec<_> = specs.iter().map(|t| builder.tensor(Group::DEFAULT, &t.name, &t.shape)).collect();
    let optimizer = builder.build(&gpu.device, &gpu.queue)?;
    let params: Vec<_> = tensors.iter().map(|t| optimizer.param(*t)).collect();
    let grads: Vec<_> = tensors.iter().map(|t| optimizer.grad(*t)).collect();
    model.bind(&params, &grads)?;
    for (tensor, values) in tensors.iter().zip(plan.mlp.initial(plan.seed)) {
        optimizer.write_param(*tensor, &values)?;
    }
    Ok(optimizer)
}

/// What the batches found on their way, and the held-out rows as they are classified now.
fn measure(model: &GpuMlp, gpu: &Gpu) -> Result<(Vec<Outcome>, Vec<Outcome>)> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let train = model.record_outcomes(&mut encoder);
    let held_out = model.record_accuracy(&mut encoder, Part::HeldOut)?;
    gpu.queue.submit([encoder.finish()]);
    let (train, held_out) = (train.read(), held_out.read());
    gpu.wait()?;
    Ok((pollster::block_on(train)?, pollster::block_on(held_out)?))
}
