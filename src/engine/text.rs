//! A pipeline's text: the rule's file, a few lines of bindings and constants written here, and the harness.

use std::fmt::Write as _;

use super::layout::{CHUNK_LANES, FINAL_LANES, SUM_LANES};
use crate::optim::{Depends, Rule, Scalar, StateSpec};

const TABLES: &str = include_str!("../../shaders/harness/tables.wgsl");
const UPDATE: &str = include_str!("../../shaders/harness/update.wgsl");
const STATS: &str = include_str!("../../shaders/harness/stats.wgsl");
const FINALIZE: &str = include_str!("../../shaders/harness/finalize.wgsl");

/// What a pipeline does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Sums a span a workgroup, read-only.
    Stats,
    /// Adds the sums and decides, in one workgroup.
    Finalize,
    /// Changes parameters and states.
    Update,
}

impl Stage {
    /// All stages in the order of a step.
    pub const ALL: [Self; 3] = [Self::Stats, Self::Finalize, Self::Update];
}

/// Everything that changes a pipeline's text: a class of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub(super) name: &'static str,
    pub(super) rule: &'static str,
    pub(super) flags: Vec<(&'static str, bool)>,
    pub(super) states: Vec<StateSpec>,
    pub(super) scalars: Vec<(&'static str, Depends)>,
    pub(super) decision: &'static [&'static str],
    pub(super) totals: usize,
    pub(super) may_refuse: bool,
    /// Gradients lie in the parameters' buffer, which is bound once.
    pub(super) shared: bool,
    /// Gradients move from step to step.
    pub(super) moving: bool,
}

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

impl Variant {
    /// The variant of a rule with these settings.
    #[must_use]
    pub fn of(rule: &dyn Rule, shared: bool, moving: bool) -> Self {
        let sums = rule.sums();
        Self {
            name: rule.name(),
            rule: rule.text(),
            flags: rule.flags(),
            states: rule.states(),
            scalars: rule.scalars(1).iter().map(|s| (s.name, s.depends)).collect(),
            decision: rule.decision(),
            totals: sums.totals,
            may_refuse: sums.may_refuse,
            shared,
            moving,
        }
    }

    /// The states that are kept.
    pub(super) fn kept(&self) -> usize {
        self.states.iter().filter(|s| s.used).count()
    }

    /// Vec4s of a decision.
    pub(super) fn decision_vec4s(&self) -> usize {
        self.decision.len().div_ceil(4)
    }

    /// A stage's bindings; the index is the binding's number.
    pub(super) fn bindings(&self, stage: Stage) -> Vec<Binding> {
        let b = |name, access, ty| Binding { name, access, ty };
        let call = b("wo_call", Access::Uniform, "wo_Call");
        let scalars = b("wo_scalars", Access::Read, "array<vec4<f32>>");
        let chunks = b("wo_chunks", Access::Read, "array<wo_Chunk>");
        let control = |access| b("wo_control", access, "wo_Control");
        let partials = b("wo_partials", Access::ReadWrite, "array<f32>");
        if stage == Stage::Finalize {
            return vec![
                call,
                scalars,
                control(Access::ReadWrite),
                partials,
                b("wo_segments", Access::Read, "array<wo_Segment>"),
                b("wo_tensors", Access::Read, "array<wo_Tensor>"),
                b("wo_totals", Access::ReadWrite, "array<vec4<f32>>"),
            ];
        }
        let elements = if stage == Stage::Update { Access::ReadWrite } else { Access::Read };
        let mut bindings = vec![call, scalars, control(Access::Read), chunks];
        bindings.push(b("wo_params", elements, "array<vec4<f32>>"));
        if !self.shared {
            bindings.push(b("wo_grads", Access::Read, "array<vec4<f32>>"));
        }
        bindings.push(b("wo_arena", elements, "array<vec4<f32>>"));
        if stage == Stage::Stats {
            bindings.push(partials);
        }
        if self.moving {
            bindings.push(b("wo_run", Access::Uniform, "vec4<u32>"));
        }
        bindings
    }

    /// The joined text of a stage.
    #[must_use]
    pub fn text(&self, stage: Stage) -> String {
        let harness = match stage {
            Stage::Stats => STATS,
            Stage::Finalize => FINALIZE,
            Stage::Update => UPDATE,
        };
        [self.rule, &self.constants(stage), &self.accessors(stage), TABLES, harness].join("\n")
    }

    fn constants(&self, stage: Stage) -> String {
        let mut out = format!("// ---- {} {stage:?}: written by the host\n", self.name);
        for (name, on) in &self.flags {
            put(&mut out, format_args!("const {name}: bool = {on};"));
        }
        if self.decision.is_empty() {
            put(&mut out, format_args!("struct Decision {{ none: f32 }}"));
        }
        put(&mut out, format_args!("const wo_CHUNK_LANES = {CHUNK_LANES}u;"));
        put(&mut out, format_args!("const wo_SUM_LANES = {SUM_LANES}u;"));
        put(&mut out, format_args!("const wo_FINAL_LANES = {FINAL_LANES}u;"));
        put(&mut out, format_args!("const wo_STATES = {}u;", self.kept()));
        put(&mut out, format_args!("const wo_CAN_SKIP = {};", self.may_refuse));
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

    fn accessors(&self, stage: Stage) -> String {
        let mut out = self.hyper();
        if stage == Stage::Finalize {
            out.push_str(&self.store_decision());
            let refuse = if self.may_refuse { "refuse(totals)" } else { "false" };
            put(&mut out, format_args!("fn wo_refuse(totals: array<f32, TOTALS>) -> bool {{ return {refuse}; }}"));
        } else {
            out.push_str(&self.load_state());
            out.push_str(&self.gradient());
        }
        if stage == Stage::Update {
            out.push_str(&self.load_decision());
            out.push_str(&self.store_state());
            out.push_str(&self.first_state());
        }
        out
    }

    /// `wo_hyper`: each member from the call's row, from the count's row, or their product.
    fn hyper(&self) -> String {
        let (calls, counts) = scalar_columns(&self.scalars);
        let members: Vec<String> = self
            .scalars
            .iter()
            .map(|(name, _)| {
                let column = |table: &str, columns: &[&str]| {
                    columns.iter().position(|c| c == name).map(|i| format!("{table}{}.{}", i / 4, axis(i)))
                };
                let factors = [column("call", &calls), column("count", &counts)];
                factors.into_iter().flatten().collect::<Vec<_>>().join(" * ")
            })
            .collect();
        let mut out = String::from("fn wo_hyper(group: u32, applied: u32) -> Hyper {\n");
        let (a, b) = (calls.len().div_ceil(4), counts.len().div_ceil(4));
        put(&mut out, format_args!("    let call = wo_call.settings + group * {a}u;"));
        for i in 0..a {
            put(&mut out, format_args!("    let call{i} = wo_scalars[call + {i}u];"));
        }
        if b > 0 {
            put(
                &mut out,
                format_args!(
                    "    let count = wo_call.counts + ((applied & wo_call.count_mask) * wo_call.groups + group) * {b}u;"
                ),
            );
        }
        for i in 0..b {
            put(&mut out, format_args!("    let count{i} = wo_scalars[count + {i}u];"));
        }
        put(&mut out, format_args!("    return Hyper({});\n}}", members.join(", ")));
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
        for (i, state) in self.states.iter().filter(|s| s.used).enumerate() {
            put(&mut out, format_args!("    wo_arena[at + {i}u * stride] = s.{};", state.name));
        }
        out + "}\n"
    }

    fn first_state(&self) -> String {
        let members: Vec<String> = self.states.iter().map(|s| format!("vec4(f32({:e}))", s.initial)).collect();
        format!("fn wo_first_state() -> State {{ return State({}); }}\n", members.join(", "))
    }

    fn gradient(&self) -> String {
        let buffer = if self.shared { "wo_params" } else { "wo_grads" };
        let (moved, run) = if self.moving {
            ("bitcast<vec4<u32>>(wo_scalars[wo_call.moved + chunk.tensor / 4u])[chunk.tensor % 4u] + ", "wo_run.x")
        } else {
            ("", "0u")
        };
        format!(
            "fn wo_gradient(chunk: wo_Chunk, i: u32) -> vec4<f32> {{ return {buffer}[{moved}chunk.grad + i]; }}\n\
             fn wo_first_record() -> u32 {{ return {run}; }}\n"
        )
    }

    fn load_decision(&self) -> String {
        let members: Vec<String> = (0..self.decision.len())
            .map(|i| format!("wo_control.decisions[tensor * {}u + {}u].{}", self.decision_vec4s(), i / 4, axis(i)))
            .collect();
        let value = if members.is_empty() { "0.0".to_owned() } else { members.join(", ") };
        format!("fn wo_load_decision(tensor: u32) -> Decision {{ return Decision({value}); }}\n")
    }

    fn store_decision(&self) -> String {
        let rows: Vec<String> = self.decision.iter().map(|name| format!("d.{name}")).collect();
        let mut out = String::from("fn wo_store_decision(tensor: u32, d: Decision) {\n");
        for (i, row) in rows.chunks(4).enumerate() {
            let mut row = row.to_vec();
            row.resize(4, "0.0".to_owned());
            put(
                &mut out,
                format_args!(
                    "    wo_control.decisions[tensor * {}u + {i}u] = vec4({});",
                    self.decision_vec4s(),
                    row.join(", ")
                ),
            );
        }
        out + "}\n"
    }
}

/// The members that the call's rows and the counts' rows hold, in order.
pub(super) fn scalar_columns<'a>(scalars: &[(&'a str, Depends)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let pick = |without: Depends| scalars.iter().filter(|(_, d)| *d != without).map(|(name, _)| *name).collect();
    (pick(Depends::Count), pick(Depends::Call))
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

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
