//! A part of an optimizer: the groups of one rule.

use crate::Result;
use crate::gpu::access::telemetry::Telemetry;
use crate::gpu::build::spec::{Slice, Spec, Tensor};
use crate::gpu::hyper::scalars::Scalars;
use crate::gpu::kernel::context::Context;
use crate::gpu::kernel::factors::FactorPasses;
use crate::gpu::kernel::kernels::{DispatchSet, Kernels};
use crate::gpu::kernel::matrices::Matrices;
use crate::gpu::layout::memory::MemoryUsage;
use crate::gpu::layout::placement::Placement;
use crate::gpu::record::mode::Modes;
use crate::gpu::record::probed::Probed;
use crate::gpu::record::rows::Remap;

/// The groups of one rule, with their tensors: the buffers, the pipelines and the scalars of the rule. The optimizer hands its calls to its
/// parts. A part numbers its groups, tensors and row sets itself, so its handles differ from the optimizer's.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) context: Context,
    pub(crate) spec: Spec,
    pub(crate) placement: Placement,
    pub(crate) kernels: Kernels,
    /// `Some` if there are row sets.
    pub(crate) remap: Option<Remap>,
    pub(crate) scalars: Scalars,
    /// Whether probes were recorded or their losses given, for rules that probe.
    pub(crate) probed: Probed,
    pub(crate) modes: Modes,
    /// `Some` if the optimizer measures each step.
    pub(crate) telemetry: Option<Telemetry>,
    pub(crate) memory_usage: MemoryUsage,
}

impl Part {
    /// The range of a buffer in which the parameters of a tensor lie.
    pub(crate) fn param(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        Ok(self.placement.param(self.spec.tensor(tensor)?))
    }

    /// The range of a buffer from which a step reads the gradients of a tensor.
    pub(crate) fn grad(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        let index = self.spec.tensor(tensor)?;
        let missing = || self.spec.tensors[index].error("it was bound without gradients".to_owned());
        self.placement.grad(index).ok_or_else(missing)
    }

    /// The count of dispatches of a step: one per class for the update, and with sums one more per class and one for the totals. A pass
    /// before the update has one per class, and an iteration over matrices has its own. Factors of matrices need one more per class, and three.
    pub(crate) fn dispatches(&self) -> usize {
        let passes = self.passes_before_update();
        let of_set = |l: &DispatchSet| {
            let stats = l.stats.iter().take(self.kernels.main_rounds).flatten().count();
            1 + stats + usize::from(passes) + usize::from(l.tiles.is_some())
        };
        let of_matrices = self.kernels.matrices.as_ref().map_or(0, Matrices::count);
        let factors = self.kernels.factors.as_ref().map_or(0, |_| FactorPasses::DISPATCHES);
        self.kernels.dispatches.iter().map(of_set).sum::<usize>() + self.kernels.main_rounds + of_matrices + factors
    }

    /// The count of dispatches of a micro-batch ([`accumulate`](Self::accumulate)): one per class.
    pub(crate) fn accumulate_dispatches(&self) -> usize {
        self.kernels.dispatches.iter().filter(|l| l.accumulate.is_some()).count()
    }

    /// The totals of the last recorded round of sums: one record over all tensors, then one record per tensor.
    pub(crate) fn totals(&self) -> Option<&Slice> {
        let sums = self.placement.classes[0].sums.sums > 0 || self.spec.around.sums();
        let rounds = &self.kernels.rounds[..self.kernels.main_rounds];
        rounds.get(self.scalars.half_round()).filter(|_| sums).map(|r| &r.totals)
    }

    /// The loss scale, one f32: bind it in the loss kernel.
    pub(crate) fn loss_scale(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.spec.around.loss_scale.map(|_| self.kernels.control.slice(16..20))
    }
}
