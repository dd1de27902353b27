//! What row sets add to a pipeline's text.

use crate::gpu::kernel::text::{Access, Binding, put};
use crate::gpu::layout::class::{Class, Round, Stage};

const ROWS: &str = include_str!("../../../../shaders/harness/rows.wgsl");
const SHARED: &str = include_str!("../../../../shaders/harness/shared.wgsl");
const REMAP: &str = include_str!("../../../../shaders/harness/remap.wgsl");

impl Class {
    /// The bindings of [`Stage::Rows`].
    pub(crate) fn remap_bindings(&self) -> Vec<Binding> {
        let [params, _] = self.element_types();
        vec![
            Binding::new("wo_call", Access::Uniform, "wo_Call"),
            Binding::new("wo_task", Access::Uniform, "vec4<u32>"),
            self.scalars_binding(),
            Binding::new("wo_chunks", Access::Read, "array<vec4<u32>>"),
            Binding::new("wo_params", Access::ReadWrite, params),
            Binding::new("wo_arena", Access::ReadWrite, "array<vec4<f32>>"),
            Binding::new("wo_indices", Access::Read, "array<u32>"),
            Binding::new("wo_scratch", Access::ReadWrite, "array<vec4<f32>>"),
        ]
    }

    pub(crate) fn masked(&self) -> bool {
        self.rows.is_some_and(|rows| rows.mask.is_some())
    }

    /// The constants of rows.wgsl, or functions that let everything pass.
    pub(crate) fn rows_text(&self, stage: Stage) -> String {
        let mut out = format!("const wo_ROWS: bool = {};\n", self.rows.is_some());
        let Some(rows) = self.rows else {
            out.push_str(
                "fn wo_used(chunk: wo_Chunk, lane: u32, live: vec4<bool>) -> vec4<bool> { return live; }\n\
                 fn wo_flagged(chunk: wo_Chunk, lane: u32, used: vec4<bool>) -> vec4<bool> { return used; }\n\
                 fn wo_moved(raw: vec4<f32>, flagged: vec4<bool>) -> vec4<bool> { return flagged; }\n",
            );
            if stage == Stage::Update {
                out.push_str(
                    "fn wo_rated(chunk: wo_Chunk, lane: u32, change: vec4<f32>) -> vec4<f32> { return change; }\n\
                     fn wo_merged(kept: State, s: State, stepped: vec4<bool>) -> State { return s; }\n",
                );
            }
            return out;
        };
        // Directions have no gradient that could be zero.
        let nonzero = rows.nonzero && self.round != Round::Directions;
        for (name, on) in [("MASK", rows.mask.is_some()), ("NONZERO", nonzero), ("COLUMNS", rows.columns)] {
            put(&mut out, format_args!("const wo_{name}: bool = {on};"));
        }
        let flag = if rows.mask.is_some() && stage != Stage::Rows { "wo_mask[word]" } else { "1u" };
        put(&mut out, format_args!("fn wo_flag(word: u32) -> u32 {{ return {flag}; }}"));
        let words = self.scalar_at("at");
        put(&mut out, format_args!("fn wo_words(at: u32) -> vec4<u32> {{ return bitcast<vec4<u32>>({words}); }}"));
        if stage == Stage::Update {
            let members: Vec<String> =
                self.states.iter().map(|s| format!("select(kept.{0}, s.{0}, stepped)", s.name)).collect();
            put(
                &mut out,
                format_args!(
                    "fn wo_merged(kept: State, s: State, stepped: vec4<bool>) -> State {{ return State({}); }}",
                    members.join(", ")
                ),
            );
        }
        out + ROWS
    }

    /// `wo_square`, and in the update `wo_share`: as shared.wgsl has them, or as if there were no rows.
    pub(crate) fn square_text(&self, stage: Stage) -> String {
        if stage == Stage::Update && self.rows.is_some_and(|rows| rows.shared) {
            return SHARED.to_owned();
        }
        let mut out = String::new();
        if self.shares_rows {
            out.push_str("fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> { return weight * x * x; }\n");
        }
        if stage == Stage::Update {
            let arguments = "chunk: wo_Chunk, lane: u32, h: Hyper, d: Decision, e: wo_Extra, clip: f32";
            put(&mut out, format_args!("fn wo_share({arguments}) {{}}"));
        }
        out
    }

    /// The text of [`Stage::Rows`] behind the rule, the bindings and the tables.
    pub(crate) fn remap_text(&self) -> String {
        let mut firsts = vec!["0.0".to_owned(); 1 + self.arrays().len()];
        for (first, (_, state)) in firsts[1..].iter_mut().zip(self.kept()) {
            *first = format!("f32({:e})", state.initial);
        }
        format!(
            "fn wo_initial(slot: u32) -> f32 {{\n    var firsts = array<f32, {}>({});\n    return firsts[slot];\n}}\n{REMAP}",
            firsts.len(),
            firsts.join(", ")
        )
    }
}
