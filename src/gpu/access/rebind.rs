//! Parameters that move to another buffer between two steps.

use crate::Result;
use crate::gpu::Part;
use crate::gpu::build::buffers::{OWNED, buffer};
use crate::gpu::layout::units::VEC4;

impl Part {
    /// Replaces a buffer of parameters, in the placement and in the specification.
    pub(crate) fn put_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) {
        let placement = &mut self.placement;
        let buffers = placement.buffers.iter_mut().chain(&mut placement.callers);
        buffers.filter(|buffer| *buffer == from).for_each(|buffer| *buffer = to.clone());
        self.spec.put_params(from, to);
    }

    /// Creates the bind groups with parameters again.
    pub(crate) fn bind_again(&mut self) -> Result<()> {
        let mut dispatches = std::mem::take(&mut self.kernels.dispatches);
        let bound = dispatches.iter_mut().enumerate().try_for_each(|(index, set)| {
            let arena = set.arena.clone();
            set.passes_mut().try_for_each(|pass| {
                pass.group = self.pass_group(&pass.pipeline, index, &arena, &pass.table, pass.round);
                if pass.without_grads.is_some() {
                    let unused = buffer(&self.context.device, &self.context.label, "stand-in", VEC4, OWNED)?;
                    let group = self.group_without_grads(&unused, index, &arena, &pass.table, &pass.pipeline);
                    pass.without_grads = Some(group);
                }
                Ok(())
            })
        });
        self.kernels.dispatches = dispatches;
        self.rebind_remap();
        bound
    }
}
