//! A pipeline's text: the rule's file, a few lines of bindings and constants written here, and the harness.

use std::fmt::Write as _;
use std::sync::Arc;

use super::arrays;
use super::layout::{ARENA_HEADER, CHUNK, CHUNK_LANES, FINAL_BATCH, FINAL_LANES, SUM_LANES};
use super::rows::RowText;
use crate::around::{Around, Clip, evaluation_scalar};
use crate::optim::procedure::{Directions, Scheme};
use crate::optim::rule::Origin;
use crate::optim::{Depends, Procedure, Rule, Scalar, StateSpec, Sums};

const TABLES: &str = include_str!("../../shaders/harness/tables.wgsl");
const RECORD: &str = include_str!("../../shaders/harness/record.wgsl");
const GRADIENT: &str = include_str!("../../shaders/harness/gradient.wgsl");
const CHUNKS: &str = include_str!("../../shaders/harness/chunks.wgsl");
const UPDATE: &str = include_str!("../../shaders/harness/update.wgsl");
const STATS: &str = include_str!("../../shaders/harness/stats.wgsl");
const TELEMETRY: &str = include_str!("../../shaders/harness/telemetry.wgsl");
const FINALIZE: &str = include_str!("../../shaders/harness/finalize.wgsl");
const RANDOM: &str = include_str!("../../shaders/harness/random.wgsl");
const PROBE: &str = include_str!("../../shaders/harness/probe.wgsl");
const PERTURB: &str = include_str!("../../shaders/harness/perturb.wgsl");
const WAY: &str = include_str!("../../shaders/harness/way.wgsl");
const FLOW: &str = include_str!("../../shaders/harness/flow.wgsl");
const WARP: &str = include_str!("../../shaders/harness/warp.wgsl");

/// What stands for [`TELEMETRY`] where it is off.
const UNMEASURED: &str = "\
fn wo_squares_of(p: vec4<f32>, change: vec4<f32>, live: vec4<bool>) -> vec2<f32> { return vec2(0.0); }
fn wo_measure(index: u32, lane: u32, squares: vec2<f32>) {}
";

/// What a pipeline does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Sums a span a workgroup, read-only.
    Stats,
    /// Adds the sums and decides, in one workgroup.
    Finalize,
    /// Moves parameters along a probe's direction and back: rules that probe.
    Probe,
    /// Moves parameters between evaluations: rules that integrate.
    Flow,
    /// Multiplies gradients by a matrix: WarpAdam.
    Warp,
    /// Changes parameters and states.
    Update,
    /// Lets rows change places and begin anew; in no step, and only where there are row sets.
    Rows,
}

impl Stage {
    /// The stages of a step, in order.
    pub const ALL: [Self; 6] = [Self::Stats, Self::Finalize, Self::Probe, Self::Flow, Self::Warp, Self::Update];
}

/// Which sums a pair of stats and finalize makes. Mostly one round makes all; a rule whose sums need the clipped gradient has a
/// second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// The rule's sums and the harness's.
    Only,
    /// The harness's.
    First,
    /// The rule's, of the clipped gradient.
    Second,
    /// The squares of probes' directions.
    Directions,
    /// The rule's once more, after an integrator has been along.
    Settle,
    /// The error of an integrator's step.
    Error,
}

impl Round {
    /// Whether it comes after the round that tested the gradient and clipped it.
    const fn is_later(self) -> bool {
        !matches!(self, Self::Only | Self::First)
    }
}

/// Everything that changes a pipeline's text: a class of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub(super) name: &'static str,
    pub(super) rule: Arc<str>,
    pub(super) origin: Origin,
    pub(super) flags: Vec<(&'static str, bool)>,
    pub(super) states: Vec<StateSpec>,
    pub(super) scalars: Vec<(&'static str, Depends)>,
    pub(super) decision: Vec<&'static str>,
    pub(super) memory: Vec<&'static str>,
    pub(super) procedure: Procedure,
    pub(super) sums: Sums,
    pub(super) around: Around,
    /// The state along which the parameters move to where the rule is evaluated.
    pub(super) evaluated: Option<&'static str>,
    pub(super) round: Round,
    /// Groups of the optimizer.
    pub(super) groups: usize,
    /// Threads of a workgroup of [`Stage::Stats`].
    pub(super) sum_lanes: u32,
    /// Gradients lie in the parameters' buffer, which is bound once.
    pub(super) shared: bool,
    /// Gradients move from step to step.
    pub(super) moving: bool,
    /// Probes' directions lie in the arena.
    pub(super) given: bool,
    /// The rule squares with `wo_square`, so that rows may share a second moment.
    pub(super) shares_rows: bool,
    /// What rows ask for; `None` where the class has none.
    pub(super) rows: Option<RowText>,
    /// The elements that are stepped are counted, because some are not and the rule has sums.
    pub(super) counted: bool,
    /// The scalars lie in the control buffer, this many vec4s behind its head: with a mask the sums have no binding left for them.
    pub(super) packed: Option<usize>,
}

/// The names of the arena's arrays that are not a rule's.
pub(crate) const ACCUMULATOR: &str = "gradient_accumulator";
pub(crate) const AVERAGE: &str = "ema";

/// Words from one loss slot to the next: each begins where every device can bind a buffer.
pub(super) const LOSS_STRIDE: usize = 64;

/// How a binding is declared, in WGSL and in its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
    Uniform,
}

/// One binding of a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) name: &'static str,
    pub(super) access: Access,
    ty: &'static str,
}

impl Binding {
    pub(super) const fn new(name: &'static str, access: Access, ty: &'static str) -> Self {
        Self { name, access, ty }
    }
}

impl Variant {
    /// The variant of a rule with these settings and nothing around it.
    #[must_use]
    pub fn of(rule: &dyn Rule, shared: bool, moving: bool) -> Self {
        Self { shared, moving, ..Self::with(rule, Around::default(), 1) }
    }

    pub(super) fn with(rule: &dyn Rule, around: Around, groups: usize) -> Self {
        let scalars = around.scalars(rule.scalars(1), false, 1).into_iter();
        Self {
            name: rule.name(),
            rule: rule.text().into(),
            origin: rule.origin(),
            flags: rule.flags(),
            states: rule.states(),
            scalars: scalars.chain(evaluation_scalar(rule)).map(|s| (s.name, s.depends)).collect(),
            evaluated: rule.evaluation().map(|(state, _)| state),
            decision: rule.decision().to_vec(),
            memory: rule.memory().to_vec(),
            procedure: rule.procedure(),
            sums: rule.sums(),
            around,
            round: Round::Only,
            groups,
            sum_lanes: SUM_LANES,
            shared: false,
            moving: false,
            given: false,
            shares_rows: rule.shares_rows(),
            rows: None,
            counted: false,
            packed: None,
        }
    }

    /// The stages that a step of the rule has.
    pub fn stages(&self) -> impl Iterator<Item = Stage> + '_ {
        let rounds = !self.rounds().is_empty();
        Stage::ALL.into_iter().filter(move |stage| match stage {
            Stage::Stats => rounds && self.sum_counts().0 > 0,
            Stage::Finalize => rounds,
            Stage::Update => true,
            own => self.procedure_stage() == Some(*own),
        })
    }

    /// The stage that the rule's procedure adds.
    pub(super) const fn procedure_stage(&self) -> Option<Stage> {
        match self.procedure {
            Procedure::Plain => None,
            Procedure::Probe(_) => Some(Stage::Probe),
            Procedure::Integrate(_) => Some(Stage::Flow),
            Procedure::Warp(_) => Some(Stage::Warp),
        }
    }

    /// The rounds of sums that a step makes.
    pub(super) fn rounds(&self) -> Vec<Round> {
        match (self.sums.sums > 0, self.around.sums()) {
            (false, false) if self.probes() > 0 => vec![Round::Only],
            (false, false) => Vec::new(),
            (true, _) if self.sums.after_clip && self.around.clips_norm() => vec![Round::First, Round::Second],
            _ => vec![Round::Only],
        }
    }

    /// The rule's sums and the harness's in this round.
    fn counts(&self) -> (Sums, bool) {
        let none = Sums::default();
        match self.round {
            Round::Only => (self.sums, self.around.sums()),
            Round::First => (none, true),
            Round::Second | Round::Settle => (self.sums, false),
            Round::Directions => (Sums { sums: self.probes(), totals: self.probes(), ..none }, false),
            Round::Error => (Sums { sums: 2, totals: 2, ..none }, false),
        }
    }

    /// How many directions the rule probes.
    pub(super) const fn probes(&self) -> usize {
        if let Procedure::Probe(probe) = self.procedure { probe.count } else { 0 }
    }

    /// The rounds of sums that a step makes beside [`rounds`](Self::rounds), where its procedure asks for them.
    pub(super) fn later_rounds(&self) -> Vec<Round> {
        match self.procedure {
            Procedure::Plain | Procedure::Warp(_) => Vec::new(),
            Procedure::Probe(_) => vec![Round::Directions],
            Procedure::Integrate(Scheme::Rk4) => vec![Round::Settle],
            Procedure::Integrate(Scheme::Dopri5 { .. }) => vec![Round::Settle, Round::Error],
        }
    }

    /// How many sums and totals the round makes.
    pub(super) fn sum_counts(&self) -> (usize, usize) {
        let (rule, harness) = self.counts();
        let own = if harness { 2 } else { 0 };
        (rule.sums + own + usize::from(self.counts_elements()), rule.totals + own)
    }

    /// Whether the round's last sum is the count of elements that are stepped.
    fn counts_elements(&self) -> bool {
        self.counted && self.counts().0.sums > 0
    }

    /// The states that are kept.
    pub(super) fn kept(&self) -> impl Iterator<Item = &StateSpec> {
        self.states.iter().filter(|s| s.used)
    }

    /// The arena's arrays, in order: the kept states, the accumulator, the average of the weights, the procedure's.
    pub(super) fn slots(&self) -> Vec<&'static str> {
        let accumulator = self.around.accumulate.map(|_| ACCUMULATOR);
        let average = self.around.ema.map(|_| AVERAGE);
        let states = self.kept().map(|s| s.name).chain(accumulator).chain(average);
        states.chain(arrays::of(self.procedure, self.given)).collect()
    }

    /// Vec4s of what decisions remember, which lie before the first tensor's.
    pub(super) fn memory_vec4s(&self) -> usize {
        self.memory.len().div_ceil(4)
    }

    /// Vec4s of a tensor's decision: the rule's members, then the clip factor.
    pub(super) fn decision_vec4s(&self) -> usize {
        (self.decision.len() + usize::from(self.around.clips_norm())).div_ceil(4)
    }

    /// Vec4s of the memory and the decisions of so many tensors, at least one.
    pub(super) fn all_decisions(&self, tensors: usize) -> usize {
        self.memory_vec4s() + tensors.max(1) * self.decision_vec4s().max(1)
    }

    /// A stage's bindings; the index is the binding's number.
    pub(super) fn bindings(&self, stage: Stage) -> Vec<Binding> {
        let b = Binding::new;
        if stage == Stage::Rows {
            return self.remap_bindings();
        }
        let call = b("wo_call", Access::Uniform, "wo_Call");
        let scalars = self.packed.is_none().then(|| self.scalars_binding());
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
        let grads = if self.around.zero_gradients { elements } else { Access::Read };
        let mut bindings: Vec<Binding> =
            std::iter::once(call).chain(scalars).chain([control(Access::Read), chunks]).collect();
        bindings.push(b("wo_params", elements, "array<vec4<f32>>"));
        let reads_gradients = self.reads_gradients(stage);
        if !self.shared && reads_gradients {
            bindings.push(b("wo_grads", grads, "array<vec4<f32>>"));
        }
        bindings.push(b("wo_arena", elements, "array<vec4<f32>>"));
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
    pub(super) fn scalars_binding(&self) -> Binding {
        match self.packed {
            None => Binding::new("wo_scalars", Access::Read, "array<vec4<f32>>"),
            Some(_) => Binding::new("wo_control", Access::Read, "wo_Control"),
        }
    }

    /// Vec4 number `at` of the scalars.
    pub(super) fn scalar_at(&self, at: &str) -> String {
        match self.packed {
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
        let mut parts = vec![self.rule.as_ref(), &own[0], &own[1]];
        parts.extend(harness);
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
        let slots = self.slots();
        let slot = |name: &str| slots.iter().position(|s| *s == name).unwrap_or(0);
        let scale = a.loss_scale.unwrap_or_default();
        for (name, value) in [
            ("SETTINGS", call_vec4s(&self.scalars, self.groups)),
            ("STATES", slots.len()),
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

    /// Where the procedure's arrays lie in the arena, and its numbers.
    fn procedure_constants(&self, out: &mut String) {
        let slots = self.slots();
        let slot = |name: &str| slots.iter().position(|s| *s == name).unwrap_or(0);
        put(out, format_args!("const wo_WARP = {};", matches!(self.procedure, Procedure::Warp(_))));
        put(out, format_args!("const wo_WARPED = {}u;", slot(arrays::WARPED)));
        match self.procedure {
            Procedure::Plain => {}
            Procedure::Probe(probe) => {
                put(out, format_args!("const wo_GIVEN = {};", self.given));
                put(out, format_args!("const wo_GLOBAL = {};", probe.directions == Directions::Global));
                put(out, format_args!("const wo_ANCHOR = {}u;", slot(arrays::ANCHOR)));
                put(out, format_args!("const wo_DIRECTIONS = {}u;", slot(arrays::DIRECTIONS[0])));
            }
            Procedure::Integrate(scheme) => {
                put(out, format_args!("const wo_STAGES = {}u;", scheme.stages()));
                put(out, format_args!("const wo_GRADIENT = {}u;", slot("g_prev")));
                put(out, format_args!("const wo_DISPLACEMENT = {}u;", slot("displacement")));
                put(out, format_args!("const wo_BASE = {}u;", slot(arrays::BASE)));
                put(out, format_args!("const wo_DERIVATIVES = {}u;", slot(arrays::DERIVATIVES[0])));
            }
            Procedure::Warp(warp) => {
                put(out, format_args!("const wo_CHUNK = {CHUNK}u;"));
                put(out, format_args!("const wo_BLOCK = {}u;", warp.block));
                put(out, format_args!("const wo_LEARNED = {};", warp.learned));
                put(out, format_args!("const wo_BEFORE = {}u;", slot(arrays::BEFORE)));
                put(out, format_args!("const wo_MATRIX = {}u;", slot(arrays::COLUMNS[0])));
            }
        }
    }

    fn accessors(&self, stage: Stage) -> String {
        if stage == Stage::Rows {
            return self.square_text(stage) + &self.rows_text(stage) + &self.remap_text();
        }
        let mut out = self.scalar_loads();
        out.push_str(&self.square_text(stage));
        out.push_str(&self.load_clip());
        if stage == Stage::Finalize {
            out.push_str(&self.store_decision());
            out.push_str(&self.memory());
            if self.decides_from_slopes() {
                out.push_str(&self.slopes());
            }
            if self.round == Round::Settle {
                out.push_str(&self.load_decision());
            }
            out.push_str(&self.conclude());
        } else {
            out.push_str(&self.load_state());
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

    /// Whether a step leaves the count of applied steps where it is.
    fn hold(&self) -> String {
        let hold = if self.sums.may_hold { "hold(d)" } else { "false" };
        format!("fn wo_hold(d: Decision) -> bool {{ return {hold}; }}\n")
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
                let first = self.packed.map_or_else(String::new, |first| format!("{first}u + "));
                let row = format!("{first}(applied & wo_call.count_mask) * {}u", width * self.groups);
                let place = self.scalar_at(&format!("{row} + {}{i}u", group(width)));
                put(&mut out, format_args!("    let count{i} = {place};"));
            }
            put(&mut out, format_args!("    return {name}({});\n}}", members.join(", ")));
        }
        out
    }

    fn load_state(&self) -> String {
        let mut kept = 0;
        let members: Vec<String> = self
            .states
            .iter()
            .map(|state| {
                if !state.used {
                    return "vec4(0.0)".to_owned();
                }
                kept += 1;
                format!("wo_arena[at + {}u * stride]", kept - 1)
            })
            .collect();
        format!("fn wo_load_state(at: u32, stride: u32) -> State {{\n    return State({});\n}}\n", members.join(", "))
    }

    fn store_state(&self) -> String {
        let mut out = String::from("fn wo_store_state(at: u32, stride: u32, s: State) {\n");
        for (i, state) in self.kept().enumerate() {
            put(&mut out, format_args!("    wo_arena[at + {i}u * stride] = s.{};", state.name));
        }
        out + "}\n"
    }

    fn first_state(&self) -> String {
        let members: Vec<String> = self.states.iter().map(|s| format!("vec4(f32({:e}))", s.initial)).collect();
        format!("fn wo_first_state() -> State {{ return State({}); }}\n", members.join(", "))
    }

    fn gradient(&self) -> String {
        let run = if self.moving { "wo_run.x" } else { "0u" };
        format!(
            "fn wo_gradient(chunk: wo_Chunk, i: u32) -> vec4<f32> {{ return {}; }}\n\
             fn wo_first_record() -> u32 {{ return {run}; }}\n",
            self.gradient_at("i")
        )
    }

    /// The gradient's vec4 number `i` of a chunk, as a place.
    fn gradient_at(&self, i: &str) -> String {
        let buffer = if self.shared { "wo_params" } else { "wo_grads" };
        let positions = self.scalar_at("wo_call.moved + chunk.tensor / 4u");
        let moved = format!("bitcast<vec4<u32>>({positions})[chunk.tensor % 4u] + ");
        format!("{buffer}[{}chunk.grad + {i}]", if self.moving { &moved } else { "" })
    }

    fn clear_gradient(&self) -> String {
        let arguments = "chunk: wo_Chunk, lane: u32, live: vec4<bool>";
        let mut out = format!("fn wo_zero_gradient({arguments}) {{\n");
        if self.around.zero_gradients {
            let place = self.gradient_at("lane");
            put(&mut out, format_args!("    {place} = select({place}, vec4(0.0), live);"));
        }
        put(&mut out, format_args!("}}"));
        put(
            &mut out,
            format_args!(
                "fn wo_clear_gradient(chunk: wo_Chunk, lane: u32, state: u32, stride: u32, live: vec4<bool>) {{\n    \
                 wo_zero_gradient(chunk, lane, live);\n    \
                 if wo_ACCUMULATE {{ wo_arena[state + wo_ACCUMULATOR * stride] = vec4(0.0); }}\n}}"
            ),
        );
        out
    }

    /// An element's terms of the round's sums: the rule's, then g² and whether it is not finite.
    fn terms(&self) -> String {
        let (rule, harness) = self.counts();
        let mut terms: Vec<String> = match self.round {
            Round::Directions => (0..rule.sums).map(|j| format!("wo_direction_square({j}u, place)")).collect(),
            Round::Error => ["position * position", "error * error"].map(str::to_owned).to_vec(),
            _ => (0..rule.sums).map(|k| format!("own[{k}]")).collect(),
        };
        if harness {
            terms.extend(["g * g".to_owned(), "wo_nonfinite(raw)".to_owned()]);
        }
        if self.counts_elements() {
            terms.push("vec4(1.0)".to_owned());
        }
        let own = match self.round {
            _ if rule.sums == 0 => "",
            Round::Directions => "",
            Round::Error => concat!(
                "    let y = wo_arena[place.at + wo_BASE * place.stride] + wo_arena[place.at + wo_DISPLACEMENT * place.stride];\n",
                "    let scale = wo_pass.tolerance * (1.0 + max(abs(y), wo_pass.next * abs(p)));\n",
                "    let position = y / scale;\n",
                "    let error = wo_way(place.at, place.stride, 1.0) / scale;\n",
            ),
            _ => "    let own = contribute(h, p, g, s);\n",
        };
        let square = if self.round == Round::Directions {
            "fn wo_direction_square(j: u32, place: wo_Place) -> vec4<f32> {\n    \
             let u = wo_direction(j, place.tensor, place.index, place.at, place.stride);\n    return u * u;\n}\n"
        } else {
            ""
        };
        format!(
            "{square}fn wo_terms(\n    h: Hyper, place: wo_Place, p: vec4<f32>, raw: vec4<f32>, g: vec4<f32>, s: State,\n\
             ) -> array<vec4<f32>, wo_SUMS> {{\n\
             {own}    return array<vec4<f32>, wo_SUMS>({});\n}}\n",
            terms.join(", ")
        )
    }

    /// The round's totals, and what the rule makes of them.
    fn conclude(&self) -> String {
        let (rule, harness) = self.counts();
        let list = |array: &str, n: usize| (0..n).map(|k| format!("{array}[{k}]")).collect::<Vec<_>>().join(", ");
        let mut totals: Vec<String> = (0..rule.totals).map(|k| format!("own[{k}]")).collect();
        if harness {
            totals.push(format!("vec3(0.0, 0.0, sums[{}])", rule.sums));
            totals.push(format!("vec3(sums[{}], 0.0, 0.0)", rule.sums + 1));
        }
        let counted = format!("sums[{}]", self.sum_counts().0.saturating_sub(1));
        let elements = if self.counts_elements() { &counted } else { "elements" };
        let own = match self.round {
            _ if rule.sums == 0 => String::new(),
            Round::Directions | Round::Error => {
                let each = (0..rule.sums).map(|k| format!("vec3(sums[{k}], 0.0, 0.0)")).collect::<Vec<_>>().join(", ");
                format!("    let own = array<vec3<f32>, {}>({each});\n", rule.sums)
            }
            _ => format!("    let own = total(h, array<f32, SUMS>({}), {elements});\n", list("sums", rule.sums)),
        };
        let part = |name: &str| format!("array<f32, TOTALS>({})", list(name, rule.totals));
        let decide = self.decide(&part("totals"), &part("own"));
        if totals.is_empty() {
            totals.push("vec3(0.0)".to_owned());
        }
        let refuse = match (self.decides_from_slopes(), rule.may_refuse) {
            (true, _) => "wo_losses_lost()".to_owned(),
            (false, true) => format!("refuse({})", part("totals")),
            (false, false) => "false".to_owned(),
        };
        format!(
            "fn wo_total(h: Hyper, sums: array<f32, wo_SUMS>, elements: f32) -> array<vec3<f32>, wo_TOTALS> {{\n\
             {own}    return array<vec3<f32>, wo_TOTALS>({});\n}}\n\
             fn wo_decide(\n    t: u32, h: Hyper, totals: array<f32, wo_TOTALS>, own: array<f32, wo_TOTALS>, memory: ptr<function, wo_Memory>,\n\
             ) {{ {decide} }}\n\
             fn wo_refuse(totals: array<f32, wo_TOTALS>) -> bool {{ return {refuse}; }}\n",
            totals.join(", ")
        )
    }

    /// What a tensor's decision is made of in this round, and that it is kept.
    fn decide(&self, totals: &str, own: &str) -> String {
        let decision = match self.round {
            Round::Settle => format!("settle(h, {totals}, {own}, wo_load_decision(t))"),
            Round::Directions | Round::Error => return String::new(),
            _ if self.decides_from_slopes() => "decide(h, wo_slopes(h))".to_owned(),
            _ if self.counts().0.sums == 0 => return String::new(),
            _ if self.memory.is_empty() => format!("decide(h, {totals}, {own})"),
            _ => format!("decide(h, {totals}, {own}, memory)"),
        };
        format!("wo_store_decision(t, {decision});")
    }

    /// Whether this round decides, and from probes' slopes.
    fn decides_from_slopes(&self) -> bool {
        self.probes() > 0 && !self.round.is_later()
    }

    /// Whether this round changes what decisions remember.
    fn remembers(&self) -> bool {
        !self.memory.is_empty() && matches!(self.round, Round::Only | Round::Second)
    }

    /// `wo_Memory`, and how it is loaded and stored.
    fn memory(&self) -> String {
        if self.memory.is_empty() {
            return "struct wo_Memory { none: f32 }\n\
                    fn wo_load_memory() -> wo_Memory { return wo_Memory(0.0); }\n\
                    fn wo_store_memory(memory: wo_Memory) {}\n"
                .to_owned();
        }
        let place = |i: usize| format!("wo_control.decisions[{}u].{}", i / 4, axis(i));
        let loads: Vec<String> = (0..self.memory.len()).map(place).collect();
        let stores = self.memory.iter().enumerate().map(|(i, name)| format!("    {} = memory.{name};\n", place(i)));
        format!(
            "alias wo_Memory = Memory;\n\
             fn wo_load_memory() -> Memory {{ return Memory({}); }}\n\
             fn wo_store_memory(memory: Memory) {{\n{}}}\n",
            loads.join(", "),
            stores.collect::<String>()
        )
    }

    /// The slopes of the probes, from the losses in their slots, and whether one of these is not finite: then the step is left out.
    fn slopes(&self) -> String {
        let slope = |j: usize| format!("(wo_losses[{}u] - wo_losses[0u]) / h.sigma", j * LOSS_STRIDE);
        let slopes: Vec<String> = (1..=self.probes()).map(slope).collect();
        let lost = |j: usize| format!("(bitcast<u32>(wo_losses[{}u]) & 0x7f800000u) == 0x7f800000u", j * LOSS_STRIDE);
        let lost: Vec<String> = (0..=self.probes()).map(lost).collect();
        let lost = format!("fn wo_losses_lost() -> bool {{\n    return {};\n}}\n", lost.join("\n        || "));
        lost + &format!(
            "fn wo_slopes(h: Hyper) -> array<f32, PROBES> {{\n    return array<f32, PROBES>({});\n}}\n",
            slopes.join(", ")
        )
    }

    /// Where a tensor's clip factor lies: behind the members of its decision.
    fn clip_at(&self, tensor: &str) -> String {
        self.decision_at(tensor, self.decision.len())
    }

    /// The same as a word behind the control buffer's head.
    pub(super) fn clip_word(&self, tensor: usize) -> usize {
        (self.memory_vec4s() + tensor * self.decision_vec4s()) * 4 + self.decision.len()
    }

    /// Where the `i`-th member of a tensor's decision lies.
    fn decision_at(&self, tensor: &str, i: usize) -> String {
        let first = self.memory_vec4s() + i / 4;
        format!("wo_control.decisions[{tensor} * {}u + {first}u].{}", self.decision_vec4s(), axis(i))
    }

    fn load_clip(&self) -> String {
        let value = if self.around.clips_norm() { self.clip_at("tensor") } else { "1.0".to_owned() };
        format!("fn wo_load_clip(tensor: u32) -> f32 {{ return {value}; }}\n")
    }

    fn load_decision(&self) -> String {
        let members: Vec<String> = (0..self.decision.len()).map(|i| self.decision_at("tensor", i)).collect();
        let value = if members.is_empty() { "0.0".to_owned() } else { members.join(", ") };
        format!("fn wo_load_decision(tensor: u32) -> Decision {{ return Decision({value}); }}\n")
    }

    fn store_decision(&self) -> String {
        let mut out = String::from("fn wo_store_decision(tensor: u32, d: Decision) {\n");
        for (i, name) in self.decision.iter().enumerate() {
            put(&mut out, format_args!("    {} = d.{name};", self.decision_at("tensor", i)));
        }
        let clip =
            if self.around.clips_norm() { format!("{} = factor;", self.clip_at("tensor")) } else { String::new() };
        put(&mut out, format_args!("}}\nfn wo_store_clip(tensor: u32, factor: f32) {{ {clip} }}"));
        out
    }
}

/// What a pass over spans calls where it has no gradient to read.
const NO_GRADIENT: &str = "\
fn wo_gradient(chunk: wo_Chunk, i: u32) -> vec4<f32> { return vec4(0.0); }
fn wo_first_record() -> u32 { return 0u; }
";

/// The members that the call's rows and the counts' rows hold, in order.
pub(super) fn scalar_columns<'a>(scalars: &[(&'a str, Depends)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let pick = |without: Depends| scalars.iter().filter(|(_, d)| *d != without).map(|(name, _)| *name).collect();
    (pick(Depends::Count), pick(Depends::Call))
}

/// Vec4s of a call's rows, one row a group; at least one, because WGSL has no empty arrays.
fn call_vec4s(scalars: &[(&str, Depends)], groups: usize) -> usize {
    (scalar_columns(scalars).0.len().div_ceil(4) * groups).max(1)
}

/// Rounds one group's scalars into the two rows that [`scalar_columns`] describes, each padded to whole vec4s.
pub(super) fn scalar_rows(scalars: &[Scalar]) -> (Vec<f32>, Vec<f32>) {
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

pub(super) fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
