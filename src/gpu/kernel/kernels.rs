//! The bindings of a dispatch: pipelines with their bind groups, tables and arenas.

use std::sync::Arc;

use crate::gpu::build::spec::Slice;
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::arena::Arena;
use crate::gpu::kernel::factors::FactorPasses;
use crate::gpu::kernel::matrices::Matrices;
use crate::gpu::kernel::passes;
use crate::gpu::kernel::pipelines::Pipeline;
use crate::gpu::layout::runs::Runs;

/// Everything that a step dispatches, and the buffers that its pipelines share.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// One per shard of the layout.
    pub(crate) dispatches: Vec<DispatchSet>,
    pub(crate) rounds: Vec<RoundDispatch>,
    /// The count of rounds that every step makes; the other rounds belong to the procedure.
    pub(crate) main_rounds: usize,
    pub(crate) control: wgpu::Buffer,
    /// `Some` if some tensor keeps factors.
    pub(crate) factors: Option<FactorPasses>,
    /// A slot for the loss at the parameters and one for each probe, if the rule probes.
    pub(crate) losses: Option<wgpu::Buffer>,
    /// The records of the procedure's passes.
    pub(crate) passes: Option<wgpu::Buffer>,
    /// `Some` if the rule iterates over matrices.
    pub(crate) matrices: Option<Matrices>,
    /// `Some` if the caller gives gradients with each step.
    pub(crate) runs: Option<Runs>,
    /// The gradients of a step that names none; no kernel reads them.
    pub(crate) stand_in: Option<wgpu::Buffer>,
}

/// The dispatches of a shard, with their bindings.
#[derive(Debug)]
pub(crate) struct DispatchSet {
    pub(crate) update: Pass,
    /// One per round; `None` if the round has no sums.
    pub(crate) stats: Vec<Option<Pass>>,
    pub(crate) procedure: Option<Pass>,
    /// `Some` if the shard has matrices that keep factors.
    pub(crate) tiles: Option<Pass>,
    pub(crate) accumulate: Option<wgpu::ComputePipeline>,
    pub(crate) swap: Option<wgpu::ComputePipeline>,
    /// Moves the parameters to the point at which the model is evaluated, and back.
    pub(crate) evaluation: Option<[wgpu::ComputePipeline; 2]>,
    pub(crate) arena: Arena,
}

/// A dispatch of a whole table of records.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) pipeline: Arc<Pipeline>,
    /// `None` if gradients are rebound: then each run has its own bind group.
    pub(crate) group: Option<wgpu::BindGroup>,
    /// For entry points that read no gradient, where gradients are rebound: another buffer takes their place.
    pub(crate) without_grads: Option<wgpu::BindGroup>,
    pub(crate) table: wgpu::Buffer,
    pub(crate) grid: (u32, u32),
    /// The round of sums to which the pass belongs.
    pub(crate) round: usize,
}

impl Pass {
    /// The bindings of a dispatch of the whole table. `None`: the dispatch reads rebound gradients.
    pub(crate) fn group_of(&self, kind: Kind) -> Option<&wgpu::BindGroup> {
        let reads = !matches!(kind, Kind::Swap | Kind::ToEvaluation | Kind::ToTraining);
        self.group.as_ref().or(self.without_grads.as_ref().filter(|_| !reads))
    }
}

/// The dynamic offsets of a dispatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    /// Of the scalars of the call.
    pub(crate) slot: u32,
    /// The number of the record of the procedure's pass.
    pub(crate) record: usize,
    /// Of the first record of a run.
    pub(crate) run: u32,
}

/// Offsets in the order of the bindings that take them.
#[derive(Debug, Default)]
pub(crate) struct OffsetList {
    offsets: [u32; 3],
    length: usize,
}

impl OffsetList {
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.offsets[..self.length]
    }
}

impl Offsets {
    /// The offsets that the bindings of this pipeline take.
    pub(crate) fn of(self, pipeline: &Pipeline) -> OffsetList {
        let mut list = OffsetList::default();
        for binding in &pipeline.bindings {
            let offset = match binding.name {
                "wo_call" => self.slot,
                "wo_pass" => passes::offset(self.record),
                "wo_run" => self.run,
                _ => continue,
            };
            list.offsets[list.length] = offset;
            list.length += 1;
        }
        list
    }
}

/// The second half of a round of sums.
#[derive(Debug)]
pub(crate) struct RoundDispatch {
    pub(crate) finalize: wgpu::ComputePipeline,
    /// The totals without the decisions.
    pub(crate) reduce: wgpu::ComputePipeline,
    /// The decisions without the totals, if a step may be recorded in two halves.
    pub(crate) conclude: Option<wgpu::ComputePipeline>,
    /// After a micro-batch, where it may leave out tensors.
    pub(crate) wait: Option<wgpu::ComputePipeline>,
    pub(crate) group: wgpu::BindGroup,
    pub(crate) partials: wgpu::Buffer,
    /// A range of the buffer of all parts, if the parts exchange their norms.
    pub(crate) totals: Slice,
}

/// The kinds of a shard's dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The sums over the tiles of matrices.
    Tiles,
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
        let others = self.stats.iter_mut().flatten().chain(&mut self.procedure).chain(&mut self.tiles);
        std::iter::once(&mut self.update).chain(others)
    }

    /// A pass with the pipeline that it runs now, if the class has such a pass.
    pub(crate) fn pass(&self, kind: Kind) -> Option<(&Pass, &wgpu::ComputePipeline)> {
        match kind {
            Kind::Tiles => self.tiles.as_ref().map(|p| (p, &p.pipeline.pipeline)),
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
