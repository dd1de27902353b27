//! A pipeline's text: the rule's file, a few lines of bindings and constants written here, and the harness.

mod procedure;
pub(crate) mod rows;
mod storage;
mod sums;

use std::fmt::Write as _;

use crate::gpu::layout::class::{Class, Round, Stage};
use crate::gpu::layout::units::{ACCUMULATOR, ARENA_HEADER, AVERAGE, CHUNK_LANES, FINAL_BATCH, FINAL_LANES};
use crate::optim::{Depends, Scalar};
use crate::options::around::Clip;

const TABLES: &str = include_str!("../../../../shaders/harness/tables.wgsl");
const RECORD: &str = include_str!("../../../../shaders/harness/record.wgsl");
const GRADIENT: &str = include_str!("../../../../shaders/harness/gradient.wgsl");
const CHUNKS: &str = include_str!("../../../../shaders/harness/chunks.wgsl");
const UPDATE: &str = include_str!("../../../../shaders/harness/update.wgsl");
const STATS: &str = include_str!("../../../../shaders/harness/stats.wgsl");
const TELEMETRY: &str = include_str!("../../../../shaders/harness/telemetry.wgsl");
const FINALIZE: &str = include_str!("../../../../shaders/harness/finalize.wgsl");
const RANDOM: &str = include_str!("../../../../shaders/harness/random.wgsl");
const PROBE: &str = include_str!("../../../../shaders/harness/probe.wgsl");
const PERTURB: &str = include_str!("../../../../shaders/harness/perturb.wgsl");
const WAY: &str = include_str!("../../../../shaders/harness/way.wgsl");
const FLOW: &str = include_str!("../../../../shaders/harness/flow.wgsl");
const WARP: &str = include_str!("../../../../shaders/harness/warp.wgsl");

/// What stands for [`TELEMETRY`] where it is off.
const UNMEASURED: &str = "\
fn wo_squares_of(p: vec4<f32>, change: vec4<f32>, live: vec4<bool>) -> vec2<f32> { return vec2(0.0); }
fn wo_measure(index: u32, lane: u32, squares: vec2<f32>) {}
";

/// How a binding is declared, in WGSL and in its layout.
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

impl Class {
    /// A stage's bindings; the index is the binding's number.
    pub(crate) fn bindings(&self, stage: Stage) -> Vec<Binding> {
        let b = Binding::new;
        if stage == Stage::Rows {
            return self.remap_bindings();
        }
        let call = b("wo_call", Access::Uniform, "wo_Call");
        let scalars = self.scalars_in_control.is_none().then(|| self.scalars_binding());
        let measures = self.around.telemetry && stage == Stage::Update;
        let chunks = if measures { Access::ReadWrite } else { Access::Read };
        let chunks = b("wo_chunks", chunks, "array<vec4<u32>>");
        let control = |access| b("wo_control", access, "wo_Control");
        let partials = b("wo_partials", Access::ReadWrite, "array<f32>");
        if stage == Stage::Finalize {
            let losses = b("wo_losses", Access::Read, "array<f32>");
            return std::iter::once(call)
                .chain(scalars)
                .chain([
                    control(Access::ReadWrite),
                    partials,
                    b("wo_segments", Access::Read, "array<wo_Segment>"),
                    b("wo_tensors", Access::Read, "array<wo_Tensor>"),
                    b("wo_totals", Access::ReadWrite, "array<vec4<f32>>"),
                ])
                .chain(self.decides_from_slopes().then_some(losses))
                .collect();
        }
        let elements = if stage == Stage::Stats { Access::Read } else { Access::ReadWrite };
        let grads = if self.around.zero_grad { elements } else { Access::Read };
        let [params_type, grads_type] = self.element_types();
        let mut bindings: Vec<Binding> =
            std::iter::once(call).chain(scalars).chain([control(Access::Read), chunks]).collect();
        bindings.push(b("wo_params", elements, params_type));
        let reads_gradients = self.reads_gradients(stage);
        if !self.shared && reads_gradients {
            bindings.push(b("wo_grads", grads, grads_type));
        }
        bindings.push(b("wo_arena", elements, "array<vec4<f32>>"));
        if let Some(packed_type) = self.packed_type() {
            bindings.push(b("wo_packed", elements, packed_type));
        }
        match stage {
            Stage::Stats => bindings.push(partials),
            Stage::Probe => bindings.push(b("wo_totals", Access::Read, "array<vec4<f32>>")),
            _ => {}
        }
        if self.masked() {
            bindings.push(b("wo_mask", Access::Read, "array<u32>"));
        }
        if matches!(stage, Stage::Probe | Stage::Flow) || matches!(self.round, Round::Directions | Round::Error) {
            bindings.push(b("wo_pass", Access::Uniform, "wo_Pass"));
        } else if self.moving && reads_gradients {
            bindings.push(b("wo_run", Access::Uniform, "vec4<u32>"));
        }
        bindings
    }

    /// Whether a stage over the chunks reads gradients.
    fn reads_gradients(&self, stage: Stage) -> bool {
        stage != Stage::Probe && !(stage == Stage::Stats && self.round == Round::Directions)
    }

    /// Where the scalars are bound: by themselves, or in the control buffer.
    pub(crate) fn scalars_binding(&self) -> Binding {
        match self.scalars_in_control {
            None => Binding::new("wo_scalars", Access::Read, "array<vec4<f32>>"),
            Some(_) => Binding::new("wo_control", Access::Read, "wo_Control"),
        }
    }

    /// Vec4 number `at` of the scalars.
    pub(crate) fn scalar_at(&self, at: &str) -> String {
        match self.scalars_in_control {
            None => format!("wo_scalars[{at}]"),
            Some(_) => format!("wo_control.decisions[{at}]"),
        }
    }

    /// The joined text of a stage.
    #[must_use]
    pub fn text(&self, stage: Stage) -> String {
        let harness: &[&str] = match stage {
            Stage::Stats if self.round == Round::Directions => &[TABLES, RECORD, GRADIENT, STATS, RANDOM, PROBE],
            Stage::Stats if self.round == Round::Error => &[TABLES, RECORD, GRADIENT, STATS, WAY],
            Stage::Stats => &[TABLES, RECORD, GRADIENT, STATS],
            Stage::Finalize => &[TABLES, FINALIZE],
            Stage::Probe => &[TABLES, RECORD, RANDOM, PROBE, PERTURB],
            Stage::Flow => &[TABLES, RECORD, GRADIENT, WAY, FLOW],
            Stage::Warp => &[TABLES, RECORD, GRADIENT, WARP],
            Stage::Update if self.around.telemetry => &[TABLES, RECORD, GRADIENT, UPDATE, TELEMETRY, CHUNKS],
            Stage::Update => &[TABLES, RECORD, GRADIENT, UPDATE, UNMEASURED, CHUNKS],
            Stage::Rows => &[TABLES, RECORD],
        };
        let own = [self.constants(stage), self.accessors(stage)];
        let mut parts: Vec<&str> = vec![self.rule.as_ref(), &own[0], &own[1]];
        parts.extend(harness);
        let stored = self.storage_files(stage);
        parts.extend(stored.iter().copied().filter(|file| !harness.contains(file)));
        parts.join("\n")
    }

    fn constants(&self, stage: Stage) -> String {
        let mut out = format!("// ---- {} {stage:?}: written by the host\n", self.name);
        for (name, on) in &self.flags {
            put(&mut out, format_args!("const {name}: bool = {on};"));
        }
        if self.decision.is_empty() {
            put(&mut out, format_args!("struct Decision {{ none: f32 }}"));
        }
        if self.probes() > 0 {
            put(&mut out, format_args!("const PROBES = {}u;", self.probes()));
        }
        put(&mut out, format_args!("const wo_CHUNK_LANES = {CHUNK_LANES}u;"));
        put(&mut out, format_args!("const wo_ARENA_HEADER = {ARENA_HEADER}u;"));
        put(&mut out, format_args!("const wo_SUM_LANES = {}u;", self.sum_lanes));
        put(&mut out, format_args!("const wo_FINAL_LANES = {FINAL_LANES}u;"));
        self.features(&mut out);
        self.procedure_constants(&mut out);
        for (number, binding) in self.bindings(stage).iter().enumerate() {
            let space = match binding.access {
                Access::Read => "storage, read",
                Access::ReadWrite => "storage, read_write",
                Access::Uniform => "uniform",
            };
            put(&mut out, format_args!("@group(0) @binding({number}) var<{space}> {}: {};", binding.name, binding.ty));
        }
        out
    }

    /// What is on around the rule, as constants that compilers fold.
    fn features(&self, out: &mut String) {
        let a = &self.around;
        let (sums, totals) = self.sum_counts();
        let slot = |name: &str| self.whole(name) as usize;
        let scale = a.loss_scale.unwrap_or_default();
        for (name, value) in [
            ("SETTINGS", call_vec4s(&self.scalars, self.groups)),
            ("STATES", self.array_counts().whole as usize),
            ("ACCUMULATOR", slot(ACCUMULATOR)),
            ("AVERAGE", slot(AVERAGE)),
            ("EVALUATED", self.evaluated.map_or(0, slot)),
            ("SUMS", sums.max(1)),
            ("TOTALS", totals.max(1)),
            ("BATCH", totals.clamp(1, FINAL_BATCH)),
            ("NORM", totals.saturating_sub(2)),
            ("BAD", totals.saturating_sub(1)),
            ("INTERVAL", scale.interval as usize),
        ] {
            put(out, format_args!("const wo_{name} = {value}u;"));
        }
        put(out, format_args!("const wo_GROWTH = f32({:e});", scale.growth as f32));
        put(out, format_args!("const wo_BACKOFF = f32({:e});", scale.backoff as f32));
        for (name, on) in [
            ("CHANCES", self.chances),
            ("CAN_SKIP", self.sums.may_refuse || self.probes() > 0 || a.guards()),
            ("GUARD", a.guards() && !self.round.is_later()),
            ("SECOND_ROUND", self.round.is_later()),
            ("REMEMBERS", self.remembers()),
            ("SCALE", a.loss_scale.is_some()),
            ("FACTOR", a.scales_groups()),
            ("ACCUMULATE", a.accumulate.is_some()),
            ("EMA", a.ema.is_some()),
            ("CLIP_VALUE", matches!(a.clip, Some(Clip::Value(_)))),
            ("CLIP_NORM", a.clips_norm()),
            ("CLIP_GLOBAL", matches!(a.clip, Some(Clip::GlobalNorm(_))) && !self.round.is_later()),
            ("CLIP_GROUP", matches!(a.clip, Some(Clip::GroupNorm(_))) && !self.round.is_later()),
            ("CLIP_TENSOR", matches!(a.clip, Some(Clip::TensorNorm(_))) && !self.round.is_later()),
        ] {
            put(out, format_args!("const wo_{name} = {on};"));
        }
    }

    fn accessors(&self, stage: Stage) -> String {
        if stage == Stage::Rows {
            let places = self.stride() + &self.params(stage);
            return self.square_text(stage) + &places + &self.rows_text(stage) + &self.remap_text();
        }
        let mut out = self.scalar_loads();
        out.push_str(&self.square_text(stage));
        out.push_str(&self.load_clip());
        if stage == Stage::Finalize {
            out.push_str(&self.store_decision());
            out.push_str(&self.global_state_text());
            if self.decides_from_slopes() {
                out.push_str(&self.slopes());
            }
            if self.round == Round::Settle {
                out.push_str(&self.load_decision());
            }
            out.push_str(&self.conclude());
        } else {
            out.push_str(&self.stride());
            out.push_str(&self.load_state());
            out.push_str(&self.params(stage));
            if self.reads_gradients(stage) {
                out.push_str(&self.gradient());
            } else if stage == Stage::Stats {
                out.push_str(NO_GRADIENT);
            }
            out.push_str(&self.rows_text(stage));
        }
        if stage == Stage::Flow {
            out.push_str(&self.load_decision());
            out.push_str(&self.hold());
        }
        if stage == Stage::Stats {
            out.push_str(&self.terms());
        }
        if stage == Stage::Update {
            out.push_str(&self.load_decision());
            out.push_str(&self.hold());
            out.push_str(&self.store_state());
            out.push_str(&self.first_state());
            out.push_str(&self.clear_gradient());
        }
        out
    }

    /// `wo_hyper` and `wo_extra`: each member from the call's row, from the count's row, or their product.
    fn scalar_loads(&self) -> String {
        let (calls, counts) = scalar_columns(&self.scalars);
        let member = |name: &str| {
            let column = |table: &str, columns: &[&str]| {
                columns.iter().position(|c| *c == name).map(|i| format!("{table}{}.{}", i / 4, axis(i)))
            };
            let factors: Vec<_> = [column("call", &calls), column("count", &counts)].into_iter().flatten().collect();
            if factors.is_empty() { "1.0".to_owned() } else { factors.join(" * ") }
        };
        let rule: Vec<String> =
            self.scalars.iter().filter(|(n, _)| !n.starts_with("wo_")).map(|(n, _)| member(n)).collect();
        let extra = ["wo_clip", "wo_factor", "wo_ema", "wo_evaluation"].map(member);
        let rows = |columns: &[&str], of_rule: bool| -> Vec<usize> {
            let ours = columns.iter().enumerate().filter(|(_, name)| name.starts_with("wo_") != of_rule);
            let mut rows: Vec<usize> = ours.map(|(i, _)| i / 4).collect();
            rows.dedup();
            rows
        };
        // With one group there is no index to load, and what is left are constants.
        let group = |rows: usize| if self.groups == 1 { String::new() } else { format!("group * {rows}u + ") };
        let mut out = String::new();
        for (name, of_rule, members) in [("Hyper", true, rule.as_slice()), ("wo_Extra", false, &extra)] {
            let function = if of_rule { "wo_hyper" } else { "wo_extra" };
            put(&mut out, format_args!("fn {function}(group: u32, applied: u32) -> {name} {{"));
            for i in rows(&calls, of_rule) {
                let first = group(calls.len().div_ceil(4));
                put(&mut out, format_args!("    let call{i} = wo_call.settings[{first}{i}u];"));
            }
            for i in rows(&counts, of_rule) {
                let width = counts.len().div_ceil(4);
                let first = self.scalars_in_control.map_or_else(String::new, |first| format!("{first}u + "));
                let row = format!("{first}(applied & wo_call.count_mask) * {}u", width * self.groups);
                let place = self.scalar_at(&format!("{row} + {}{i}u", group(width)));
                put(&mut out, format_args!("    let count{i} = {place};"));
            }
            put(&mut out, format_args!("    return {name}({});\n}}", members.join(", ")));
        }
        out
    }
}

/// What a pass over spans calls where it has no gradient to read.
const NO_GRADIENT: &str = "\
fn wo_gradient(chunk: wo_Chunk, i: u32) -> vec4<f32> { return vec4(0.0); }
fn wo_first_record() -> u32 { return 0u; }
";

/// The members that the call's rows and the counts' rows hold, in order.
pub(crate) fn scalar_columns<'a>(scalars: &[(&'a str, Depends)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let pick = |without: Depends| scalars.iter().filter(|(_, d)| *d != without).map(|(name, _)| *name).collect();
    (pick(Depends::Count), pick(Depends::Call))
}

/// Vec4s of a call's rows, one row a group; at least one, because WGSL has no empty arrays.
fn call_vec4s(scalars: &[(&str, Depends)], groups: usize) -> usize {
    (scalar_columns(scalars).0.len().div_ceil(4) * groups).max(1)
}

/// Rounds one group's scalars into the two rows that [`scalar_columns`] describes, each padded to whole vec4s.
pub(crate) fn scalar_rows(scalars: &[Scalar]) -> (Vec<f32>, Vec<f32>) {
    let row = |without: Depends, factor: fn(&Scalar) -> f64| {
        let mut row: Vec<f32> = scalars.iter().filter(|s| s.depends != without).map(|s| factor(s) as f32).collect();
        row.resize(row.len().next_multiple_of(4), 0.0);
        row
    };
    (row(Depends::Count, |s| s.call), row(Depends::Call, |s| s.count))
}

fn axis(i: usize) -> char {
    ['x', 'y', 'z', 'w'][i % 4]
}

pub(crate) fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
