//! The bindings of each stage, in WGSL and for bind group layouts.

use crate::gpu::kernel::text::members::put;
use crate::gpu::layout::class::{Class, Stage};
use crate::options::storage::Format;

/// The declaration of a binding, in WGSL and in its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    Uniform,
}

/// One binding of a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) name: &'static str,
    pub(crate) access: Access,
    ty: &'static str,
}

impl Binding {
    pub(crate) const fn new(name: &'static str, access: Access, ty: &'static str) -> Self {
        Self { name, access, ty }
    }
}

/// The type of a binding of numbers of this format.
const fn elements(format: Format) -> &'static str {
    match format {
        Format::F32 => "array<vec4<f32>>",
        Format::F16 | Format::Bf16 => "array<vec2<u32>>",
    }
}

/// The bindings of a pipeline as WGSL declares them.
pub(crate) fn declared(pipeline: &str, bindings: &[Binding]) -> String {
    let mut out = format!("// ---- {pipeline}: written by the host\n");
    for (number, binding) in bindings.iter().enumerate() {
        let space = match binding.access {
            Access::Read => "storage, read",
            Access::ReadWrite => "storage, read_write",
            Access::Uniform => "uniform",
        };
        put(&mut out, format_args!("@group(0) @binding({number}) var<{space}> {}: {};", binding.name, binding.ty));
    }
    out
}

impl Class {
    /// A stage's bindings; the index is the binding's number.
    pub(crate) fn bindings(&self, stage: Stage) -> Vec<Binding> {
        match stage {
            Stage::Finalize => self.finalize_bindings(),
            Stage::Fold => self.fold_bindings(),
            Stage::Rows => self.remap_bindings(),
            _ => self.element_bindings(stage),
        }
    }

    /// The bindings as WGSL declares them.
    pub(super) fn declarations(&self, stage: Stage) -> String {
        declared(&format!("{} {stage:?}", self.name), &self.bindings(stage))
    }

    fn element_bindings(&self, stage: Stage) -> Vec<Binding> {
        let b = Binding::new;
        let elements = if matches!(stage, Stage::Stats | Stage::Tiles) { Access::Read } else { Access::ReadWrite };
        let grads = if self.around.zero_grad { elements } else { Access::Read };
        let measures = self.around.telemetry && stage == Stage::Update;
        let chunks = if measures { Access::ReadWrite } else { Access::Read };
        let reads_gradients = self.binds_gradients(stage);
        let [params_type, grads_type] = self.element_types();
        let packed = self.packed_type().map(|packed| b("wo_packed", elements, packed));
        [
            Some(b("wo_call", Access::Uniform, "wo_Call")),
            self.scalars_in_control.is_none().then(|| self.scalars_binding()),
            Some(b("wo_control", Access::Read, "wo_Control")),
            Some(b("wo_chunks", chunks, "array<vec4<u32>>")),
            Some(b("wo_params", elements, params_type)),
            (!self.shared && reads_gradients).then(|| b("wo_grads", grads, grads_type)),
            Some(b("wo_arena", elements, "array<vec4<f32>>")),
            packed,
            (stage == Stage::Stats).then(|| b("wo_partials", Access::ReadWrite, "array<f32>")),
            (stage == Stage::Tiles).then(|| b("wo_tile_sums", Access::ReadWrite, "array<f32>")),
            self.binds_totals(stage).then(|| b("wo_totals", Access::Read, "array<vec4<f32>>")),
            self.masked().then(|| b("wo_mask", Access::Read, "array<u32>")),
            self.binds_pass(stage).then(|| b("wo_pass", Access::Uniform, "wo_Pass")),
            self.binds_run(stage).then(|| b("wo_run", Access::Uniform, "vec4<u32>")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn finalize_bindings(&self) -> Vec<Binding> {
        let b = Binding::new;
        [
            Some(b("wo_call", Access::Uniform, "wo_Call")),
            self.scalars_in_control.is_none().then(|| self.scalars_binding()),
            Some(b("wo_control", Access::ReadWrite, "wo_Control")),
            Some(b("wo_partials", Access::ReadWrite, "array<f32>")),
            Some(b("wo_segments", Access::Read, "array<wo_Segment>")),
            Some(b("wo_tensors", Access::Read, "array<wo_Tensor>")),
            Some(b("wo_totals", Access::ReadWrite, "array<vec4<f32>>")),
            self.decides_from_slopes().then(|| b("wo_losses", Access::Read, "array<f32>")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn fold_bindings(&self) -> Vec<Binding> {
        let b = Binding::new;
        [
            Some(b("wo_call", Access::Uniform, "wo_Call")),
            self.scalars_in_control.is_none().then(|| self.scalars_binding()),
            Some(b("wo_control", Access::ReadWrite, "wo_Control")),
            Some(b("wo_tile_sums", Access::Read, "array<f32>")),
            Some(b("wo_factor_table", Access::Read, "array<vec4<u32>>")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn remap_bindings(&self) -> Vec<Binding> {
        let b = Binding::new;
        let [params, _] = self.element_types();
        vec![
            b("wo_call", Access::Uniform, "wo_Call"),
            b("wo_task", Access::Uniform, "vec4<u32>"),
            self.scalars_binding(),
            b("wo_chunks", Access::Read, "array<vec4<u32>>"),
            b("wo_params", Access::ReadWrite, params),
            b("wo_arena", Access::ReadWrite, "array<vec4<f32>>"),
            b("wo_indices", Access::Read, "array<u32>"),
            b("wo_scratch", Access::ReadWrite, "array<vec4<f32>>"),
        ]
    }

    /// Whether a stage over elements binds gradients.
    fn binds_gradients(&self, stage: Stage) -> bool {
        match stage {
            Stage::Procedure => self.pass().is_some_and(|pass| pass.reads_gradient),
            Stage::Stats => !self.sums_own_terms(),
            _ => true,
        }
    }

    /// Whether a stage over elements reads the record of a procedure's pass.
    fn binds_pass(&self, stage: Stage) -> bool {
        match stage {
            Stage::Procedure => self.pass().is_some_and(|pass| pass.reads_record),
            Stage::Stats => self.sums_own_terms(),
            _ => false,
        }
    }

    /// Whether a stage over elements reads the totals of the last round of sums.
    fn binds_totals(&self, stage: Stage) -> bool {
        stage == Stage::Procedure && self.pass().is_some_and(|pass| pass.reads_totals)
    }

    /// Whether a dispatch of the stage covers one run of its records, because gradients are rebound.
    pub(super) fn binds_run(&self, stage: Stage) -> bool {
        let elements = !matches!(stage, Stage::Finalize | Stage::Fold | Stage::Rows);
        self.dynamic_gradients && elements && self.binds_gradients(stage)
    }

    /// The scalars' own binding, or the control buffer that holds them.
    fn scalars_binding(&self) -> Binding {
        match self.scalars_in_control {
            None => Binding::new("wo_scalars", Access::Read, "array<vec4<f32>>"),
            Some(_) => Binding::new("wo_control", Access::Read, "wo_Control"),
        }
    }

    pub(super) fn masked(&self) -> bool {
        self.rows.is_some_and(|rows| rows.mask.is_some())
    }

    /// The types of parameters and gradients.
    const fn element_types(&self) -> [&'static str; 2] {
        [elements(self.formats.params.format()), elements(self.formats.grads)]
    }

    /// The type of the packed arrays: pairs of words if all packed arrays hold 16-bit numbers.
    fn packed_type(&self) -> Option<&'static str> {
        let counts = self.array_counts();
        counts.packs().then_some(if counts.bytes == 0 { "array<vec2<u32>>" } else { "array<u32>" })
    }
}
