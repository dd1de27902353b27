//! The exchange of norms, and of counts of numbers that are not finite, between the parts of an optimizer.

use crate::Result;
use crate::gpu::build::buffers::{Buffers, TABLE, Which};
use crate::gpu::kernel::pipelines::Compiler;
use crate::gpu::kernel::text::{Access, Binding, declared};
use crate::optim::rule::Origin;

const TEXT: &str = include_str!("../../../shaders/harness/exchange.wgsl");

/// The dispatch of the exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

impl Exchange {
    /// `totals` holds the totals of all parts. `norms` are the indices of their squared norms in it, in vec4s.
    pub(crate) fn new(
        buffers: &Buffers<'_>,
        compiler: &Compiler<'_>,
        totals: &wgpu::Buffer,
        norms: &[u32],
    ) -> Result<Self> {
        let table = buffers.create_with(Which::Exchange, TABLE, bytemuck::cast_slice(norms))?;
        let label = format!("{} exchange", compiler.label);
        let made =
            compiler.compile_text(&label, text(), Origin::CRATE, &bindings(), vec!["wo_exchange"]).swap_remove(0);
        let group = compiler.bind_group(&made, |name| match name {
            "wo_totals" => totals.as_entire_binding(),
            // The kernel reads the count of parts from the length of the binding.
            _ => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &table,
                offset: 0,
                size: wgpu::BufferSize::new(size_of_val(norms) as u64),
            }),
        });
        Ok(Self { pipeline: made.pipeline, group })
    }

    /// Records the exchange.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}

fn bindings() -> [Binding; 2] {
    [
        Binding::new("wo_totals", Access::ReadWrite, "array<vec4<f32>>"),
        Binding::new("wo_norms", Access::Read, "array<u32>"),
    ]
}

/// The text of the exchange.
pub(crate) fn text() -> String {
    format!("{}\n{TEXT}", declared("exchange", &bindings()))
}
