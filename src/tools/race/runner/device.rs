//! A run on the GPU. The objective and the optimizer stay on the GPU; a measurement of the run reads a few numbers back.

use futures::future::try_join_all;

use super::super::controls::Treatment;
use super::super::heat::Track;
use super::super::rates::rate;
use super::damping::random_schedules;
use super::run::{Advance, Course, Run};
use crate::options::storage::Packed;
use crate::tools::adapter::Gpu;
use crate::tools::objectives::{GpuObjective, Halves, Problem};
use crate::{Error, Group, Optimizer, Result, Tensor, read_buffer};

pub(super) struct Device<'a> {
    gpu: &'a Gpu,
    objective: Box<dyn GpuObjective>,
    optimizer: Optimizer,
    halves: Halves,
    tensors: Vec<Tensor>,
    /// The buffer into which an evaluation copies its loss.
    loss: wgpu::Buffer,
    /// The number of batches so far, over all epochs.
    batch: usize,
    triggers: f64,
}

impl<'a> Device<'a> {
    pub(super) async fn new(run: &Run<'_>, problem: &dyn Problem, gpu: &'a Gpu) -> Result<Self> {
        let mut objective = problem.gpu(&gpu.device)?;
        let mut builder = run.builder(problem, run.rule.clone());
        match run.entrant.treatment {
            Treatment::None => {}
            Treatment::RandomDamping { probes, lambda } => {
                for (setting, schedule) in random_schedules(run.rule.as_ref(), probes, lambda, run.seed)? {
                    builder.schedule_setting(Group::DEFAULT, setting, schedule);
                }
            }
            host @ (Treatment::Stay | Treatment::LearnedWarp { .. }) => {
                return Err(Error::Usage(format!("`{host}` needs --backend cpu or reference")));
            }
        }
        let optimizer = builder.build_async(&gpu.device, &gpu.queue).await?;
        let tensors: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
        let halves = Halves::bind(&gpu.device, objective.as_mut(), &optimizer, &tensors)?;
        for (tensor, values) in tensors.iter().zip(Track::initial(problem, run.seed)) {
            optimizer.write_param(*tensor, &values)?;
        }
        let loss = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("a race's loss"),
            size: 4,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Ok(Self { gpu, objective, optimizer, halves, tensors, loss, batch: 0, triggers: 0.0 })
    }

    /// Gives the memory back, for a page with many runs.
    pub(super) fn destroy(self) {
        self.optimizer.destroy();
        self.loss.destroy();
    }

    fn next_batch(&mut self, encoder: &mut wgpu::CommandEncoder) -> usize {
        let batches = self.objective.batches();
        let batch = self.batch % batches;
        if batch == 0 {
            self.objective.record_epoch(encoder, (self.batch / batches) as u32);
        }
        self.batch += 1;
        batch
    }

    /// Takes some steps, in one submit if no step needs a readback.
    async fn steps(&mut self, count: u64) -> Result<()> {
        if self.optimizer.rule(Group::DEFAULT)?.procedure().is_some_and(|procedure| procedure.needs_call().is_some()) {
            for _ in 0..count {
                self.submitted_step().await?;
            }
            return Ok(());
        }
        let mut encoder = self.encoder();
        for _ in 0..count {
            let batch = self.next_batch(&mut encoder);
            let Self { objective, optimizer, halves, .. } = self;
            let evaluate = |_, loss: Option<wgpu::BufferSlice<'_>>, encoder: &mut wgpu::CommandEncoder| {
                halves.record(objective.as_ref(), batch, loss, encoder)
            };
            optimizer.step_with(&mut encoder, evaluate)?;
        }
        self.gpu.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Takes a step of an integrator, which reads back within the step.
    async fn submitted_step(&mut self) -> Result<()> {
        let mut encoder = self.encoder();
        let batch = self.next_batch(&mut encoder);
        self.gpu.queue.submit([encoder.finish()]);
        let Self { objective, optimizer, halves, gpu, .. } = self;
        let evaluate = |_, loss: Option<wgpu::BufferSlice<'_>>| {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            halves.record(objective.as_ref(), batch, loss, &mut encoder)?;
            gpu.queue.submit([encoder.finish()]);
            Ok(())
        };
        optimizer.step_with_submits(evaluate).await
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// The number of steps since the last call on which a trigger fired.
    async fn new_triggers(&mut self) -> Result<Option<u64>> {
        let rule = self.optimizer.rule(Group::DEFAULT)?;
        let Some(at) = rule.global_state().iter().position(|name| *name == "triggers") else { return Ok(None) };
        let now = self.optimizer.read_global_state().await?.get(at).copied().map_or(0.0, f64::from);
        let new = now - std::mem::replace(&mut self.triggers, now);
        Ok(Some(new.max(0.0) as u64))
    }

    /// The factor that the last step put on the learning rate.
    async fn damping(&self) -> Result<Option<f64>> {
        let rule = self.optimizer.rule(Group::DEFAULT)?;
        let names = rule.decision();
        let decision = self.optimizer.read_decision(self.tensors[0]).await?;
        let member = |name: &str| Some(f64::from(*decision.get(names.iter().position(|n| *n == name)?)?));
        Ok(member("damp").or_else(|| Some(member("eta")? / rate(rule)?)))
    }

    async fn mean_loss(&mut self, batches: std::ops::Range<usize>) -> Result<f64> {
        let count = batches.len() as f64;
        let mut sum = 0.0;
        for batch in batches {
            let slot = Some(self.loss.slice(..));
            self.gpu.run_async(|encoder| self.halves.record(self.objective.as_ref(), batch, slot, encoder)).await?;
            let bytes = read_buffer(&self.gpu.device, &self.gpu.queue, self.loss.slice(..)).await?;
            sum += f64::from(bytemuck::pod_read_unaligned::<f32>(&bytes));
        }
        Ok(sum / count)
    }
}

impl Course for Device<'_> {
    /// Takes `most` steps. The loss is that of the last mini-batch after its step, and the damping is that of the last step. The report
    /// counts both for all the steps.
    async fn advance(&mut self, most: u64) -> Result<Advance> {
        let before = self.optimizer.evaluations();
        self.steps(most).await?;
        self.gpu.done().await?;
        let after = self.optimizer.evaluations();
        let last = (self.batch - 1) % self.objective.batches();
        let steps = most as f64;
        Ok(Advance {
            steps: most,
            gradients: after.gradients - before.gradients,
            losses: after.losses - before.losses,
            loss: steps * self.mean_loss(last..last + 1).await?,
            triggers: self.new_triggers().await?,
            damping: self.damping().await?.map(|factor| steps * factor),
        })
    }

    async fn loss(&mut self) -> Result<f64> {
        self.mean_loss(0..self.objective.batches()).await
    }

    async fn params(&mut self) -> Result<Vec<Vec<f32>>> {
        // The stored values, with which the objective is evaluated.
        let seen = self.tensors.iter().map(|tensor| self.optimizer.read_seen(tensor.index()));
        Ok(try_join_all(seen).await?.iter().map(Packed::values).collect())
    }
}
