//! The passes over the factors of matrices, in one dispatch each for all tensors.

use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::pipelines::Pipeline;
use crate::gpu::layout::tables::fold;

/// The passes over the factors of matrices, with their bindings.
#[derive(Debug)]
pub(crate) struct FactorPasses {
    fold: wgpu::ComputePipeline,
    divide: wgpu::ComputePipeline,
    keep: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    /// The sums of tiles.
    pub(crate) sums: wgpu::Buffer,
    /// The grids over lines and over matrices.
    lines: (u32, u32),
    matrices: (u32, u32),
}

impl FactorPasses {
    /// The dispatches of a step.
    pub(crate) const DISPATCHES: usize = 3;

    /// From the pipelines of [`Stage::Fold`](crate::gpu::layout::class::Stage::Fold) and the counts of workgroups over lines and over matrices.
    pub(crate) fn new(
        pipelines: &[Pipeline],
        group: wgpu::BindGroup,
        sums: wgpu::Buffer,
        workgroups: [usize; 2],
        limit: u32,
    ) -> Option<Self> {
        let [fold_pass, divide, keep] = pipelines else { return None };
        let [lines, matrices] = workgroups.map(|n| fold(n, limit));
        let pipeline = |made: &Pipeline| made.pipeline.clone();
        Some(Self {
            fold: pipeline(fold_pass),
            divide: pipeline(divide),
            keep: pipeline(keep),
            group,
            sums,
            lines,
            matrices,
        })
    }

    /// Records the move of the factors to the sums of the tiles.
    pub(crate) fn fold(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot) {
        self.dispatch(pass, &self.fold, self.lines, slot);
        self.dispatch(pass, &self.divide, self.matrices, slot);
    }

    /// Records that the step's factors are those of the next.
    pub(crate) fn keep(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot) {
        self.dispatch(pass, &self.keep, self.lines, slot);
    }

    fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        pipeline: &wgpu::ComputePipeline,
        grid: (u32, u32),
        slot: &Slot,
    ) {
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.group, &[slot.offset]);
        pass.dispatch_workgroups(grid.0, grid.1, 1);
    }
}
