//! The functions that name members one by one: members of the rule's structs, and of the lists of states and sums of the class.

use std::fmt::Write as _;

use crate::gpu::layout::arena::Array;
use crate::gpu::layout::class::{Class, FactorText};
use crate::optim::{Depends, Kind, Scalar, StateSpec};
use crate::options::storage::Form;
use crate::options::storage::blockwise::Map;

impl Class {
    /// All functions of this file. A text keeps the functions that it calls.
    pub(super) fn members(&self) -> String {
        // A rule that decides with other settings only declares the struct all the same.
        let declared = !self.decision.is_empty() || self.rule.contains("struct Decision");
        let decision = if declared { "" } else { "struct Decision { none: f32 }\n" };
        [
            decision.to_owned(),
            self.scalar_loads(),
            self.factor_scalars(),
            self.decision_members(),
            self.global_state_members(),
            self.progress_members(),
            self.terms(),
            self.load_state(),
            self.store_state(),
            self.block_stores(),
            self.state_lists(),
        ]
        .concat()
    }

    /// `wo_hyper`, `wo_extra` and `wo_own`: each member comes from the call's row or from the count's row, or is the product of both.
    fn scalar_loads(&self) -> String {
        let (calls, counts) = scalar_columns(&self.scalars);
        let member = |name: &str| {
            let column = |table: &str, columns: &[&str]| {
                columns.iter().position(|c| *c == name).map(|i| format!("{table}{}.{}", i / 4, axis(i)))
            };
            let factors: Vec<_> = [column("call", &calls), column("count", &counts)].into_iter().flatten().collect();
            if factors.is_empty() { "1.0".to_owned() } else { factors.join(" * ") }
        };
        let of = |function: &'static str| {
            let names = self.scalars.iter().map(|(name, _)| *name);
            names.filter(|name| self.loads(name) == function).map(member).collect::<Vec<String>>()
        };
        let extra = ["wo_clip", "wo_factor", "wo_ema", "wo_evaluation"].map(member).to_vec();
        let rows = |columns: &[&str], function: &str| -> Vec<usize> {
            let own = columns.iter().enumerate().filter(|(_, name)| self.loads(name) == function);
            let mut rows: Vec<usize> = own.map(|(i, _)| i / 4).collect();
            rows.dedup();
            rows
        };
        // One group needs no index.
        let group = |rows: usize| if self.groups == 1 { String::new() } else { format!("group * {rows}u + ") };
        let mut out = String::new();
        let structs =
            [("Hyper", "wo_hyper", of("wo_hyper")), ("wo_Extra", "wo_extra", extra), ("Own", "wo_own", of("wo_own"))];
        let structs = structs.into_iter().filter(|(_, function, _)| *function != "wo_own" || !self.own.is_empty());
        for (name, function, members) in structs {
            put(&mut out, format_args!("fn {function}(group: u32, step_count: u32) -> {name} {{"));
            for i in rows(&calls, function) {
                let first = group(calls.len().div_ceil(4));
                put(&mut out, format_args!("    let call{i} = wo_call.settings[{first}{i}u];"));
            }
            for i in rows(&counts, function) {
                let width = counts.len().div_ceil(4);
                let first = self.scalars_in_control.map_or_else(String::new, |first| format!("{first}u + "));
                let row = format!("{first}(step_count & wo_call.count_mask) * {}u", width * self.groups);
                put(&mut out, format_args!("    let count{i} = wo_scalar({row} + {}{i}u);", group(width)));
            }
            put(&mut out, format_args!("    return {name}({});\n}}", members.join(", ")));
        }
        out
    }

    /// The scalars of the passes over factors.
    fn factor_scalars(&self) -> String {
        let Some(FactorText { spec, .. }) = self.factors else { return String::new() };
        let of = |(function, name)| format!("fn wo_factor_{function}(h: Hyper) -> f32 {{\n    return h.{name};\n}}\n");
        [("share", spec.share), ("least", spec.least)].map(of).concat()
    }

    /// The function that loads a scalar: of the rule, of the harness, or of the scalars of another step count.
    fn loads(&self, scalar: &str) -> &'static str {
        match scalar {
            harness if harness.starts_with("wo_") => "wo_extra",
            own if self.own.contains(&own) => "wo_own",
            _ => "wo_hyper",
        }
    }

    /// The place of a tensor's clip factor, in words after the control buffer's head: the factor follows the members of the decision.
    pub(crate) fn clip_word(&self, tensor: usize) -> usize {
        (self.global_state_vec4s() + tensor * self.decision_vec4s()) * 4 + self.decision.len()
    }

    /// The first number of a tensor's progress, as a word behind the control buffer's head.
    pub(crate) fn progress_word(&self, tensor: usize) -> usize {
        (self.global_state_vec4s() + tensor * self.decision_vec4s()) * 4 + self.first_of_progress()
    }

    /// The place of the `i`-th member of a tensor's decision, in WGSL.
    fn decision_at(&self, i: usize) -> String {
        let first = self.global_state_vec4s() + i / 4;
        format!("wo_control.decisions[tensor * wo_DECISION_VEC4S + {first}u].{}", axis(i))
    }

    fn decision_members(&self) -> String {
        if self.decision.is_empty() {
            return String::new();
        }
        let places: Vec<String> = (0..self.decision.len()).map(|i| self.decision_at(i)).collect();
        let stores: String =
            self.decision.iter().zip(&places).map(|(name, place)| format!("    {place} = d.{name};\n")).collect();
        format!(
            "fn wo_load_decision(tensor: u32) -> Decision {{\n    return Decision({});\n}}\n\
             fn wo_store_decision(tensor: u32, d: Decision) {{\n{stores}}}\n",
            places.join(", ")
        )
    }

    fn global_state_members(&self) -> String {
        if self.global_state.is_empty() {
            return String::new();
        }
        let place = |i: usize| format!("wo_control.decisions[{}].{}", i / 4, axis(i));
        let loads: Vec<String> = (0..self.global_state.len()).map(place).collect();
        let store = |(i, name): (usize, &&str)| format!("    {} = state.{name};\n", place(i));
        let stores: String = self.global_state.iter().enumerate().map(store).collect();
        format!(
            "fn wo_load_global_state() -> GlobalState {{\n    return GlobalState({});\n}}\n\
             fn wo_store_global_state(state: GlobalState) {{\n{stores}}}\n",
            loads.join(", ")
        )
    }

    /// The progress of a tensor, which lies behind its decision and its clip factor.
    fn progress_members(&self) -> String {
        if self.progress.is_empty() {
            return String::new();
        }
        let place = |i: usize| self.decision_at(self.first_of_progress() + i);
        let loads: Vec<String> = (0..self.progress.len()).map(place).collect();
        let store = |(i, name): (usize, &&str)| format!("    {} = progress.{name};\n", place(i));
        let stores: String = self.progress.iter().enumerate().map(store).collect();
        format!(
            "fn wo_load_progress(tensor: u32) -> Progress {{\n    return Progress({});\n}}\n\
             fn wo_store_progress(tensor: u32, progress: Progress) {{\n{stores}}}\n",
            loads.join(", ")
        )
    }

    /// `wo_terms`: an element's terms of the round's sums. They are the terms of the rule or of the procedure; then g², and 1 if the gradient
    /// is not finite; then 1, which counts the element.
    fn terms(&self) -> String {
        let (rule, harness) = self.counts();
        let mut parameters = Vec::new();
        if rule.sums > 0 {
            parameters.push(format!("own: array<vec4<f32>, {}>", rule.sums));
        }
        if !self.sums_own_terms() {
            parameters.extend(["unclipped: vec4<f32>".to_owned(), "g: vec4<f32>".to_owned()]);
        }
        let mut terms: Vec<String> = (0..rule.sums).map(|k| format!("own[{k}]")).collect();
        if harness {
            terms.extend(["g * g".to_owned(), "wo_nonfinite(unclipped)".to_owned()]);
        }
        if self.counts_elements() {
            terms.push("vec4(1.0)".to_owned());
        }
        format!(
            "fn wo_terms({}) -> array<vec4<f32>, wo_SUMS> {{\n    return array<vec4<f32>, wo_SUMS>({});\n}}\n",
            parameters.join(", "),
            terms.join(", ")
        )
    }

    fn load_state(&self) -> String {
        let arrays = self.arrays();
        let load = |array: &Array| match array.form {
            Form::Whole => format!("wo_arena[wo_at(l, {}u)]", array.before.whole),
            Form::Half { .. } | Form::Remainder => format!("wo_load_half({})", place(array)),
            Form::Blocks(Map::Signed) => format!("wo_load_signed({})", place(array)),
            Form::Blocks(Map::Unsigned) => format!("wo_load_positive({})", place(array)),
        };
        let mut kept = arrays.iter();
        let mut member = |state: &StateSpec| match state.used.then(|| kept.next()).flatten() {
            Some(array) => load(array),
            None if self.factored().is_some_and(|factors| factors.state == state.name) => "wo_factored(l)".to_owned(),
            None => "vec4(0.0)".to_owned(),
        };
        let members: Vec<String> = self.states.iter().map(&mut member).collect();
        format!("fn wo_load_state(l: wo_Lane) -> State {{\n    return State({});\n}}\n", members.join(", "))
    }

    /// The arrays of the rule's states.
    fn state_arrays(&self) -> Vec<Array> {
        self.arrays().into_iter().zip(self.kept()).map(|(array, _)| array).collect()
    }

    /// `wo_store_state`. It keeps 8-bit states in registers until the largest magnitude of their block is known.
    fn store_state(&self) -> String {
        let states = self.state_arrays();
        let stochastic = if states.iter().any(Array::is_stochastic) { ", stochastic: bool" } else { "" };
        let mut out = format!("fn wo_store_state(l: wo_Lane, s: State{stochastic}) {{\n");
        for (number, array) in states.iter().enumerate().filter(|(_, array)| !array.scratch) {
            let Array { name, before, .. } = array;
            match array.form {
                Form::Whole => put(&mut out, format_args!("    wo_arena[wo_at(l, {}u)] = s.{name};", before.whole)),
                Form::Half { stochastic } => {
                    let mut rounded = if stochastic {
                        format!("wo_rounded_half(l, {}u, s.{name}, stochastic)", number + 1)
                    } else {
                        format!("wo_nearest_bf16(s.{name})")
                    };
                    if array.kind == Kind::Positive {
                        rounded = format!("wo_positive_half({rounded}, s.{name})");
                    }
                    put(&mut out, format_args!("    wo_store_half({}, {rounded});", place(array)));
                }
                Form::Blocks(_) => {
                    put(&mut out, format_args!("    wo_waiting.{name} = select(vec4(0.0), s.{name}, l.live);"));
                }
                Form::Remainder => {}
            }
        }
        if states.iter().any(is_blocks) {
            out.push_str("    wo_waits = true;\n");
        }
        out + "}\n"
    }

    /// `wo_Largest`, `wo_leave_largest` and `wo_store_words`, which blocks.wgsl uses.
    fn block_stores(&self) -> String {
        let states = self.state_arrays();
        let blocks: Vec<&Array> = states.iter().filter(|array| is_blocks(array)).collect();
        let width = if blocks.len() > 2 { 4 } else { 2 };
        let mut leaves = String::from("fn wo_leave_largest(part: u32, lane: u32) {\n");
        let mut stores = String::from("fn wo_store_words(l: wo_Lane) {\n");
        for (vector, states) in blocks.chunks(width).enumerate() {
            let mut largest: Vec<String> =
                states.iter().map(|state| format!("wo_largest(wo_waiting.{})", state.name)).collect();
            largest.resize(width, "0u".to_owned());
            put(
                &mut leaves,
                format_args!("    wo_largest_of_lane[{vector}][part][lane] = wo_Largest({});", largest.join(", ")),
            );
            put(
                &mut stores,
                format_args!(
                    "    let largest{vector} = bitcast<vec{width}<f32>>(wo_largest_of_block({vector}u, l.number));"
                ),
            );
            for (k, array) in states.iter().enumerate() {
                let word = if array.form == Form::Blocks(Map::Signed) { "wo_signed_word" } else { "wo_positive_word" };
                let largest = format!("largest{vector}.{}", axis(k));
                put(
                    &mut stores,
                    format_args!(
                        "    wo_store_word({}, {word}(wo_waiting.{}, {largest}), {largest});",
                        place(array),
                        array.name
                    ),
                );
            }
        }
        format!("alias wo_Largest = vec{width}<u32>;\n{leaves}}}\n{stores}}}\n")
    }

    /// `wo_first_state`, `wo_merged` (row sets) and `wo_initial` (remaps), which numbers the arena's arrays from 1.
    fn state_lists(&self) -> String {
        let list = |member: fn(&str, f64) -> String| {
            self.states.iter().map(|s| member(s.name, s.initial)).collect::<Vec<_>>().join(", ")
        };
        let first = list(|_, initial| format!("vec4(f32({initial:e}))"));
        let merged = list(|name, _| format!("select(kept.{name}, s.{name}, stepped)"));
        let mut firsts = vec!["0.0".to_owned(); 1 + self.arrays().len()];
        for (first, (_, state)) in firsts[1..].iter_mut().zip(self.kept()) {
            *first = format!("f32({:e})", state.initial);
        }
        let (count, firsts) = (firsts.len(), firsts.join(", "));
        format!(
            "fn wo_first_state() -> State {{\n    return State({first});\n}}\n\
             fn wo_merged(kept: State, s: State, stepped: vec4<bool>) -> State {{\n    return State({merged});\n}}\n\
             fn wo_initial(slot: u32) -> f32 {{\n    var firsts = array<f32, {count}>({firsts});\n    return firsts[slot];\n}}\n"
        )
    }
}

/// The arguments with which `states.wgsl` finds a packed array.
fn place(array: &Array) -> String {
    format!("l, {}u, {}u", array.before.halves, array.before.bytes)
}

fn is_blocks(array: &Array) -> bool {
    matches!(array.form, Form::Blocks(_))
}

/// The members that the call's rows and the counts' rows hold, in order.
fn scalar_columns<'a>(scalars: &[(&'a str, Depends)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let pick = |without: Depends| scalars.iter().filter(|(_, d)| *d != without).map(|(name, _)| *name).collect();
    (pick(Depends::Count), pick(Depends::Call))
}

/// Vec4s of a call's rows, one row per group; at least one, because WGSL has no empty arrays.
pub(super) fn call_vec4s(scalars: &[(&str, Depends)], groups: usize) -> usize {
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

pub(super) fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
