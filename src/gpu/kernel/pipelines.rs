//! Pipelines and their bind group layouts, one per class and stage.

use crate::gpu::kernel::text::{Access, Binding};
use crate::gpu::layout::class::{Class, Stage};
use crate::optim::rule::Origin;

/// A stage's pipeline with the layout of its one bind group.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) entry: &'static str,
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) bindings: Vec<Binding>,
}

/// Compiles pipelines with an optimizer's label and cache.
pub(crate) struct Compiler<'a> {
    pub(crate) device: &'a wgpu::Device,
    pub(crate) label: &'a str,
    pub(crate) cache: Option<&'a wgpu::PipelineCache>,
}

impl Compiler<'_> {
    /// The pipelines of a stage, one per entry point; they share one layout.
    pub(crate) fn compile(&self, class: &Class, stage: Stage) -> Vec<Pipeline> {
        let label = format!("{} {} {stage:?}", self.label, class.name);
        self.compile_text(&label, class.text(stage), class.origin, &class.bindings(stage), class.entries(stage))
    }

    /// The pipelines of a text, one per entry point; they share one layout.
    pub(crate) fn compile_text(
        &self,
        label: &str,
        text: String,
        origin: Origin,
        bindings: &[Binding],
        entries: Vec<&'static str>,
    ) -> Vec<Pipeline> {
        let module = self.module(label, text, origin);
        let layout = self.layout(label, bindings);
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let make = |entry: &'static str| Pipeline {
            entry,
            pipeline: self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // The memory needs no zeros: the kernels write every word before a lane reads it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: self.cache,
            }),
            layout: layout.clone(),
            bindings: bindings.to_vec(),
        };
        entries.into_iter().map(make).collect()
    }

    fn module(&self, label: &str, text: String, origin: Origin) -> wgpu::ShaderModule {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
        if !origin.is_own() {
            return self.device.create_shader_module(descriptor);
        }
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        // SAFETY: only the bounding of loops is off, because its counter keeps compilers from unrolling loops. The text is this crate's own:
        // every loop runs to a constant or to a length in a table that the host wrote and that the GPU only reads.
        unsafe { self.device.create_shader_module_trusted(descriptor, checks) }
    }

    fn layout(&self, label: &str, bindings: &[Binding]) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = bindings
            .iter()
            .enumerate()
            .map(|(number, binding)| wgpu::BindGroupLayoutEntry {
                binding: number as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match binding.access {
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                    },
                    has_dynamic_offset: binding.access == Access::Uniform,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
    }

    /// A bind group for `pipeline`; `resource` finds each binding by its name.
    pub(crate) fn bind_group<'r>(
        &self,
        pipeline: &Pipeline,
        resource: impl Fn(&str) -> wgpu::BindingResource<'r>,
    ) -> wgpu::BindGroup {
        bind_group(self.device, self.label, pipeline, resource)
    }
}

/// A bind group for `pipeline`; `resource` finds each binding by its name.
pub(crate) fn bind_group<'r>(
    device: &wgpu::Device,
    label: &str,
    pipeline: &Pipeline,
    resource: impl Fn(&str) -> wgpu::BindingResource<'r>,
) -> wgpu::BindGroup {
    let entries: Vec<_> = pipeline
        .bindings
        .iter()
        .enumerate()
        .map(|(number, binding)| wgpu::BindGroupEntry { binding: number as u32, resource: resource(binding.name) })
        .collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(label),
        layout: &pipeline.layout,
        entries: &entries,
    })
}
