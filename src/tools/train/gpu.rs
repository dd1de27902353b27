//! Training on the GPU: data, model and optimizer stay on the GPU, and the host reads a few numbers back once per epoch.

use std::ops::ControlFlow;

use crate::Tensor;
use crate::io::checkpoint::Checkpoint;
use crate::tools::adapter::Gpu;
use crate::tools::objectives::{GpuMlp, GpuObjective as _, Halves, Outcome, Part, Reading, Split};
use crate::tools::train::builder::builder;
use crate::tools::train::log::{Ended, Epoch, Log};
use crate::tools::train::plan::Plan;
use crate::tools::train::resume;
use crate::{Optimizer, Result};

/// Batches per encoder and submit.
const BATCHES: usize = 8;

/// Submits after which the loop waits, so that the number of steps in flight stays below the optimizer's bound.
const SUBMITS: usize = 16;

pub(super) async fn run(
    plan: &Plan,
    split: &Split,
    gpu: &Gpu,
    mut log: Log<impl FnMut(&Epoch) -> ControlFlow<()>>,
) -> Result<Vec<Epoch>> {
    let mut model = GpuMlp::new(&gpu.device, &plan.mlp, split, plan.batch, plan.seed)?;
    let (optimizer, halves) = optimizer(plan, &mut model, gpu).await?;
    let mut run = Run { plan, gpu, model, optimizer, halves };
    for epoch in run.resume()?..plan.epochs {
        log.begin();
        run.epoch(epoch).await?;
        let (ended, checkpoint) = run.measure().await?;
        // The caller's log comes before the checkpoint, so that the log has every epoch that the checkpoint has.
        let flow = log.end(plan, epoch, &ended);
        if let Some(checkpoint) = checkpoint {
            resume::save(plan, epoch + 1, checkpoint)?;
        }
        if flow.is_break() {
            break;
        }
    }
    Ok(log.epochs)
}

struct Run<'a> {
    plan: &'a Plan,
    gpu: &'a Gpu,
    model: GpuMlp,
    optimizer: Optimizer,
    halves: Halves,
}

impl Run<'_> {
    /// Restores the end of an earlier run, and returns the number of completed epochs.
    fn resume(&mut self) -> Result<u32> {
        let Some((checkpoint, epochs)) = resume::load(self.plan)? else { return Ok(0) };
        checkpoint.restore_fitting(&mut self.optimizer, self.plan.fit())?;
        Ok(epochs)
    }

    async fn epoch(&mut self, epoch: u32) -> Result<()> {
        let batches: Vec<usize> = (0..self.model.batches()).collect();
        for (at, batches) in batches.chunks(BATCHES).enumerate() {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.model.record_epoch(&mut encoder, epoch);
            if self.reads_back() {
                self.gpu.queue.submit([encoder.finish()]);
                for batch in batches {
                    self.step_submitted(*batch).await?;
                }
                continue;
            }
            for batch in batches {
                let Self { model, halves, optimizer, .. } = self;
                let evaluate = |_, slot: Option<wgpu::BufferSlice<'_>>, encoder: &mut wgpu::CommandEncoder| {
                    halves.record(model, *batch, slot, encoder)
                };
                optimizer.step_with(&mut encoder, evaluate)?;
            }
            self.gpu.queue.submit([encoder.finish()]);
            if (at + 1) % SUBMITS == 0 {
                self.gpu.done().await?;
            }
        }
        Ok(())
    }

    /// Whether the rule decides on the host within a step.
    fn reads_back(&self) -> bool {
        self.plan.rule.procedure().is_some_and(|procedure| procedure.reads_back())
    }

    async fn step_submitted(&mut self, batch: usize) -> Result<()> {
        let (model, halves, gpu) = (&self.model, &self.halves, self.gpu);
        let evaluate = |_, slot: Option<wgpu::BufferSlice<'_>>| {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            halves.record(model, batch, slot, &mut encoder)?;
            gpu.queue.submit([encoder.finish()]);
            Ok(())
        };
        self.optimizer.step_with_submits(evaluate).await
    }

    /// Reads the results of the epoch's batches, classifies the held-out rows, and takes a checkpoint if the plan names a file.
    async fn measure(&mut self) -> Result<(Ended, Option<Checkpoint>)> {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let train = self.model.record_outcomes(&mut encoder);
        self.halves.record_params(&mut encoder);
        let held_out = self.model.record_accuracy(&mut encoder, Part::HeldOut)?;
        let snapshot = self.plan.save.as_ref().map(|_| self.optimizer.snapshot(&mut encoder)).transpose()?;
        let mut averaged = None;
        if self.plan.ema.is_some() {
            self.optimizer.swap_ema(&mut encoder)?;
            self.halves.record_params(&mut encoder);
            averaged = Some(self.model.record_accuracy(&mut encoder, Part::HeldOut)?);
            self.optimizer.swap_ema(&mut encoder)?;
        }
        self.gpu.queue.submit([encoder.finish()]);
        let (train, held_out, averaged) = (train.read(), held_out.read(), averaged.map(Reading::read));
        self.gpu.done().await?;
        let checkpoint = match snapshot {
            None => None,
            Some(snapshot) => Some(snapshot.checkpoint().await?),
        };
        let averaged = match averaged {
            None => None,
            Some(reading) => Some(reading.await?),
        };
        let total = |outcomes: Vec<Outcome>| Outcome::total(&outcomes);
        let ended = Ended {
            train: train.await?,
            held_out: held_out.await.map(total)?,
            averaged: averaged.map(total),
            step_count: self.optimizer.read_step_count().await?,
            skipped: self.optimizer.read_skipped().await?,
            scale: f64::from(self.optimizer.read_loss_scale().await?),
        };
        Ok((ended, checkpoint))
    }
}

/// Builds the optimizer with the model's tensors in the optimizer's own buffers. The model binds these buffers if they are f32.
async fn optimizer(plan: &Plan, model: &mut GpuMlp, gpu: &Gpu) -> Result<(Optimizer, Halves)> {
    let optimizer = builder(plan, model.tensors())?.build_async(&gpu.device, &gpu.queue).await?;
    let tensors: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    let halves = Halves::bind(&gpu.device, model, &optimizer, &tensors)?;
    if let Some(scale) = optimizer.loss_scale() {
        model.scale_gradients(scale)?;
    }
    for (tensor, values) in tensors.iter().zip(plan.mlp.initial(plan.seed)) {
        optimizer.write_param(*tensor, &values)?;
    }
    Ok((optimizer, halves))
}
