//! The bindings of a dispatch: pipelines with their bind groups, tables and arenas.

use std::sync::Arc;

use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::pipelines::Pipeline;
use crate::gpu::layout::runs::Runs;

/// The caller's device with the label of everything that is made on it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) label: String,
}

/// Everything that a step dispatches, and the buffers that its pipelines share.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// One per shard of the layout.
    pub(crate) dispatches: Vec<DispatchSet>,
    pub(crate) rounds: Vec<RoundDispatch>,
    /// How many of the rounds every step makes; the others are the procedure's.
    pub(crate) main_rounds: usize,
    pub(crate) control: wgpu::Buffer,
    /// A slot for the loss at the parameters and one for each probe, where the rule probes.
    pub(crate) losses: Option<wgpu::Buffer>,
    /// The records of the procedure's passes.
    pub(crate) passes: Option<wgpu::Buffer>,
    /// `Some` where gradients are given with each step.
    pub(crate) runs: Option<Runs>,
}

/// The dispatches of a shard, with their bindings.
#[derive(Debug)]
pub(crate) struct DispatchSet {
    pub(crate) update: Pass,
    /// One per round, where the round has sums.
    pub(crate) stats: Vec<Option<Pass>>,
    pub(crate) procedure: Option<Pass>,
    pub(crate) accumulate: Option<wgpu::ComputePipeline>,
    pub(crate) swap: Option<wgpu::ComputePipeline>,
    /// To the point at which the rule is evaluated, and back.
    pub(crate) evaluation: Option<[wgpu::ComputePipeline; 2]>,
    pub(crate) arena: Arena,
}

/// The arena of a shard, which is bound as two: f32 and packed numbers.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    pub(crate) buffer: wgpu::Buffer,
    /// Bytes of the f32.
    pub(crate) whole: u64,
    /// Where the packed numbers begin.
    pub(crate) packed: u64,
}

impl Arena {
    pub(crate) fn binding(&self, range: std::ops::Range<u64>) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: range.start,
            size: wgpu::BufferSize::new(range.end - range.start),
        })
    }
}

/// A dispatch of a whole table of records.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) pipeline: Arc<Pipeline>,
    /// `None` where gradients are rebound: then each run has its own.
    pub(crate) group: Option<wgpu::BindGroup>,
    pub(crate) table: wgpu::Buffer,
    pub(crate) grid: (u32, u32),
    /// The round of sums that it belongs to.
    pub(crate) round: usize,
}

/// The second half of a round of sums.
#[derive(Debug)]
pub(crate) struct RoundDispatch {
    pub(crate) finalize: wgpu::ComputePipeline,
    /// The totals without the decisions.
    pub(crate) reduce: wgpu::ComputePipeline,
    /// The decisions without the totals, where a step may be recorded in two halves.
    pub(crate) conclude: Option<wgpu::ComputePipeline>,
    pub(crate) group: wgpu::BindGroup,
    pub(crate) partials: wgpu::Buffer,
    pub(crate) totals: wgpu::Buffer,
}

/// Which of a shard's dispatches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The sums of a round.
    Stats(usize),
    /// The pass that the rule's procedure adds.
    Procedure,
    Update,
    Accumulate,
    Swap,
    ToEvaluation,
    ToTraining,
}

impl DispatchSet {
    /// The passes with bindings of their own.
    pub(crate) fn passes_mut(&mut self) -> impl Iterator<Item = &mut Pass> {
        let others = self.stats.iter_mut().flatten().chain(&mut self.procedure);
        std::iter::once(&mut self.update).chain(others)
    }

    /// A pass with the pipeline that it runs now, where the class has one.
    pub(crate) fn pass(&self, kind: Kind) -> Option<(&Pass, &wgpu::ComputePipeline)> {
        match kind {
            Kind::Stats(round) => self.stats.get(round)?.as_ref().map(|p| (p, &p.pipeline.pipeline)),
            Kind::Procedure => self.procedure.as_ref().map(|p| (p, &p.pipeline.pipeline)),
            Kind::Update => Some((&self.update, &self.update.pipeline.pipeline)),
            Kind::Accumulate => self.accumulate.as_ref().map(|p| (&self.update, p)),
            Kind::Swap => self.swap.as_ref().map(|p| (&self.update, p)),
            Kind::ToEvaluation => self.evaluation.as_ref().map(|[p, _]| (&self.update, p)),
            Kind::ToTraining => self.evaluation.as_ref().map(|[_, p]| (&self.update, p)),
        }
    }
}

impl RoundDispatch {
    /// Runs one of the pipelines, in one workgroup.
    pub(crate) fn finish(&self, pass: &mut wgpu::ComputePass<'_>, pipeline: &wgpu::ComputePipeline, slot: &Slot) {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.group, &[slot.offset]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}
