//! The text of the sums' second half: totals, decisions, what they remember, and where all that lies.

use crate::gpu::kernel::text::{axis, put};
use crate::gpu::layout::class::{Class, Round};
use crate::gpu::layout::units::LOSS_STRIDE;

impl Class {
    /// Whether a step leaves the count of applied steps where it is.
    pub(crate) fn hold(&self) -> String {
        let hold = if self.sums.may_hold { "hold(d)" } else { "false" };
        format!("fn wo_hold(d: Decision) -> bool {{ return {hold}; }}\n")
    }

    /// An element's terms of the round's sums: the rule's, then g² and whether it is not finite.
    pub(crate) fn terms(&self) -> String {
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
    pub(crate) fn conclude(&self) -> String {
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
             fn wo_decide(\n    t: u32, h: Hyper, totals: array<f32, wo_TOTALS>, own: array<f32, wo_TOTALS>, memory: ptr<function, wo_GlobalState>,\n\
             ) {{ {decide} }}\n\
             fn wo_refuse(totals: array<f32, wo_TOTALS>) -> bool {{ return {refuse}; }}\n",
            totals.join(", ")
        )
    }

    /// What a tensor's decision is made of in this round, and that it is kept.
    pub(crate) fn decide(&self, totals: &str, own: &str) -> String {
        let decision = match self.round {
            Round::Settle => format!("settle(h, {totals}, {own}, wo_load_decision(t))"),
            Round::Directions | Round::Error => return String::new(),
            _ if self.decides_from_slopes() => "decide(h, wo_slopes(h))".to_owned(),
            _ if self.counts().0.sums == 0 => return String::new(),
            _ if self.global_state.is_empty() => format!("decide(h, {totals}, {own})"),
            _ => format!("decide(h, {totals}, {own}, memory)"),
        };
        format!("wo_store_decision(t, {decision});")
    }

    /// Whether this round decides, and from probes' slopes.
    pub(crate) fn decides_from_slopes(&self) -> bool {
        self.probes() > 0 && !self.round.is_later()
    }

    /// Whether this round changes what decisions remember.
    pub(crate) fn remembers(&self) -> bool {
        !self.global_state.is_empty() && matches!(self.round, Round::Only | Round::Second)
    }

    /// `wo_GlobalState`, and how it is loaded and stored.
    pub(crate) fn global_state_text(&self) -> String {
        if self.global_state.is_empty() {
            return "struct wo_GlobalState { none: f32 }\n\
                    fn wo_load_global_state() -> wo_GlobalState { return wo_GlobalState(0.0); }\n\
                    fn wo_store_global_state(memory: wo_GlobalState) {}\n"
                .to_owned();
        }
        let place = |i: usize| format!("wo_control.decisions[{}u].{}", i / 4, axis(i));
        let loads: Vec<String> = (0..self.global_state.len()).map(place).collect();
        let stores =
            self.global_state.iter().enumerate().map(|(i, name)| format!("    {} = memory.{name};\n", place(i)));
        format!(
            "alias wo_GlobalState = GlobalState;\n\
             fn wo_load_global_state() -> GlobalState {{ return GlobalState({}); }}\n\
             fn wo_store_global_state(memory: GlobalState) {{\n{}}}\n",
            loads.join(", "),
            stores.collect::<String>()
        )
    }

    /// The slopes of the probes, from the losses in their slots, and whether one of these is not finite: then the step is left out.
    pub(crate) fn slopes(&self) -> String {
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
    pub(crate) fn clip_at(&self, tensor: &str) -> String {
        self.decision_at(tensor, self.decision.len())
    }

    /// The same as a word behind the control buffer's head.
    pub(crate) fn clip_word(&self, tensor: usize) -> usize {
        (self.memory_vec4s() + tensor * self.decision_vec4s()) * 4 + self.decision.len()
    }

    /// Where the `i`-th member of a tensor's decision lies.
    pub(crate) fn decision_at(&self, tensor: &str, i: usize) -> String {
        let first = self.memory_vec4s() + i / 4;
        format!("wo_control.decisions[{tensor} * {}u + {first}u].{}", self.decision_vec4s(), axis(i))
    }

    pub(crate) fn load_clip(&self) -> String {
        let value = if self.around.clips_norm() { self.clip_at("tensor") } else { "1.0".to_owned() };
        format!("fn wo_load_clip(tensor: u32) -> f32 {{ return {value}; }}\n")
    }

    pub(crate) fn load_decision(&self) -> String {
        let members: Vec<String> = (0..self.decision.len()).map(|i| self.decision_at("tensor", i)).collect();
        let value = if members.is_empty() { "0.0".to_owned() } else { members.join(", ") };
        format!("fn wo_load_decision(tensor: u32) -> Decision {{ return Decision({value}); }}\n")
    }

    pub(crate) fn store_decision(&self) -> String {
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
