//! The measurement of a step: bytes moved, and the times of reduction, step and gathering.

use std::time::Duration;

use serde_json::{Value as Json, json};
use wgpu_optim::memory::Role;
use wgpu_optim::optim::Rule;
use wgpu_optim::storage::Storage;
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::{Builder, Group, Optimizer};

use crate::tools::noise;
use crate::{Options, Result, Sharded, StepReport, World};

/// Elements of the largest tensors of the model.
const TENSOR: u64 = 1 << 20;

/// What a benchmark steps.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The rule of all tensors.
    pub rule: Box<dyn Rule>,
    /// The storage of all tensors.
    pub storage: Storage,
    /// Elements of all tensors.
    pub elements: u64,
    /// How ranks work together.
    pub options: Options,
    /// Measured steps.
    pub steps: usize,
    /// Steps before the measured ones.
    pub warmup: usize,
}

impl Bench {
    /// A model of this many elements: tensors of 2²⁰ elements, in a shape that the rule can step, and one with the rest.
    #[must_use]
    pub fn builder(&self) -> Builder {
        let mut builder = Optimizer::builder(self.rule.boxed());
        for (i, first) in (0..self.elements).step_by(TENSOR as usize).enumerate() {
            let shape = builder.sample_shape(Group::DEFAULT, TENSOR.min(self.elements - first) as usize);
            builder.tensor(Group::DEFAULT, format!("t{i}"), &shape);
        }
        builder.storage(self.storage.clone());
        builder
    }

    /// Measures steps in all ranks. Every rank gets the objects of all ranks, in order.
    ///
    /// # Errors
    /// Those of [`Sharded::build`] and [`Sharded::step`].
    pub fn run(&self, world: &World, gpu: &Gpu) -> Result<Vec<Json>> {
        let mut ranks = Sharded::build(&self.builder(), world, self.options, &gpu.device, &gpu.queue)?;
        for (tensor, _, shape) in ranks.optimizer().tensors() {
            let seed = tensor.index() as u32 + 1000 * world.rank() as u32;
            let numbers: Vec<f32> = (0..shape.iter().product::<usize>() as u32).map(|at| noise(seed, at)).collect();
            ranks.optimizer().write_grad(tensor, &numbers)?;
        }
        let mut reports = Vec::with_capacity(self.steps);
        for step in 0..self.warmup + self.steps.max(1) {
            ranks.step()?;
            if step >= self.warmup {
                reports.push(ranks.report());
            }
        }
        let own = self.object(&ranks, &reports, gpu).to_string();
        let all = world.all_gather("gather measurements", own.as_bytes())?;
        Ok(all.iter().filter_map(|text| serde_json::from_slice(text).ok()).collect())
    }

    fn object(&self, ranks: &Sharded, reports: &[StepReport], gpu: &Gpu) -> Json {
        let median = |of: &dyn Fn(&StepReport) -> f64| {
            let mut numbers: Vec<f64> = reports.iter().map(of).collect();
            numbers.sort_unstable_by(f64::total_cmp);
            numbers[numbers.len() / 2]
        };
        let seconds = |of: fn(&StepReport) -> Duration| median(&|report| of(report).as_secs_f64());
        let memory = ranks.optimizer().memory_usage();
        let last = reports.last().copied().unwrap_or_default();
        json!({
            "rank": ranks.world().rank(),
            "ranks": ranks.world().size(),
            "adapter": gpu.info.name,
            "optimizer": self.rule.name(),
            "storage": self.storage.to_string(),
            "elements": self.elements,
            "states": format!("{:?}", self.options.states).to_lowercase(),
            "wire": format!("{:?}", self.options.wire).to_lowercase(),
            "bucket": self.options.bucket,
            "parameter_bytes": memory.of(Role::Parameters),
            "gradient_bytes": memory.of(Role::Gradients),
            "state_bytes": memory.states() + memory.of(Role::Master) + memory.of(Role::Remainder),
            "staging_bytes": ranks.staging_bytes(),
            "sent_bytes": last.traffic().sent,
            "received_bytes": last.traffic().received,
            "reduce_s": seconds(|report| report.reduce),
            "step_s": seconds(|report| report.step),
            "gather_s": seconds(|report| report.gather),
            "total_s": seconds(StepReport::total),
            "exchange_share": median(&StepReport::exchange_share),
            "overlap": median(&|report| report.traffic().overlap()),
        })
    }
}
