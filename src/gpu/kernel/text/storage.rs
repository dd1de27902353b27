//! How a pipeline loads and stores parameters, gradients and states: the formats of its class.

use crate::gpu::kernel::text::put;
use crate::gpu::layout::arena::Array;
use crate::gpu::layout::class::{Class, Stage};
use crate::gpu::layout::units::{BLOCK_VEC4S, Counts, keeps_precision};
use crate::optim::Kind;
use crate::options::storage::blockwise::Map;
use crate::options::storage::{Form, Format, RoundingMode};

const HALF: &str = include_str!("../../../../shaders/harness/half.wgsl");
const RANDOM: &str = include_str!("../../../../shaders/harness/random.wgsl");
const CHANCES: &str = include_str!("../../../../shaders/harness/chances.wgsl");
const BLOCKWISE: &str = include_str!("../../../../shaders/harness/blockwise.wgsl");
const BLOCKS: &str = include_str!("../../../../shaders/harness/blocks.wgsl");

/// The type of a binding of numbers of this format.
const fn elements(format: Format) -> &'static str {
    match format {
        Format::F32 => "array<vec4<f32>>",
        Format::F16 | Format::Bf16 => "array<vec2<u32>>",
    }
}

/// A place of four numbers as vec4.
fn widened(format: Format, place: &str) -> String {
    match format {
        Format::F32 => place.to_owned(),
        Format::F16 => format!("wo_widen_f16(wo_unpack({place}))"),
        Format::Bf16 => format!("wo_widen_bf16(wo_unpack({place}))"),
    }
}

/// The bits of four numbers in half precision, to the nearest.
const fn nearest(format: Format) -> &'static str {
    match format {
        Format::F16 => "wo_nearest_f16",
        Format::F32 | Format::Bf16 => "wo_nearest_bf16",
    }
}

const fn chanced(format: Format) -> &'static str {
    match format {
        Format::F16 => "wo_chanced_f16",
        Format::F32 | Format::Bf16 => "wo_chanced_bf16",
    }
}

/// The first word of a packed array: what [`Counts::words`] says of those before it.
fn first_word(before: Counts) -> String {
    let numbers = 2 * before.halves + before.bytes;
    match before.bytes {
        0 => format!("{numbers}u * stride"),
        blocks => format!("({numbers}u * stride + {blocks}u * (stride / wo_BLOCK_LANES))"),
    }
}

impl Class {
    /// The types of parameters and gradients.
    pub(crate) const fn element_types(&self) -> [&'static str; 2] {
        [elements(self.formats.params.format()), elements(self.formats.grads)]
    }

    /// The type of the packed arrays: pairs of words where all are halves.
    pub(crate) fn packed_type(&self) -> Option<&'static str> {
        let counts = self.array_counts();
        counts.packs().then_some(if counts.bytes == 0 { "array<vec2<u32>>" } else { "array<u32>" })
    }

    /// The harness files that the formats need.
    pub(crate) fn storage_files(&self, stage: Stage) -> Vec<&'static str> {
        let counts = self.array_counts();
        let halves = self.formats.params.keep().is_some() || self.formats.grads != Format::F32 || counts.halves > 0;
        let (update, chances) = (stage == Stage::Update, self.takes_chances());
        let (elements, blocks) = (stage != Stage::Finalize, counts.bytes > 0);
        [
            (HALF, elements && halves),
            (RANDOM, update && chances),
            (CHANCES, update && chances),
            (BLOCKWISE, elements && blocks),
            (BLOCKS, update && blocks),
        ]
        .into_iter()
        .filter_map(|(file, needed)| needed.then_some(file))
        .collect()
    }

    /// `wo_stride`: vec4s from one of the arena's arrays to the next, and what packed arrays are found with.
    pub(crate) fn stride(&self) -> String {
        let counts = self.array_counts();
        let mut out = String::new();
        if counts.bytes > 0 {
            put(
                &mut out,
                format_args!("const wo_BLOCK_LANES = {BLOCK_VEC4S}u;\nconst wo_BLOCKWISE = {}u;", counts.bytes),
            );
            for (name, map) in [("SIGNED", Map::Signed), ("POSITIVE", Map::Unsigned)] {
                let edges = map.edges().map(|edge| format!("{edge:e}")).join(", ");
                put(&mut out, format_args!("const wo_{name}_EDGES = array<f32, 8>({edges});"));
            }
        }
        let pairs = if counts.bytes == 0 { "wo_packed[at]" } else { "vec2(wo_packed[at], wo_packed[at + 1u])" };
        if counts.halves > 0 {
            put(&mut out, format_args!("fn wo_pair(at: u32) -> vec2<u32> {{ return {pairs}; }}"));
        }
        let value = match counts {
            Counts { whole, halves, bytes } if whole > 0 || halves + bytes == 0 => {
                "(arrayLength(&wo_arena) - wo_ARENA_HEADER) / max(wo_STATES, 1u)".to_owned()
            }
            Counts { halves, bytes: 0, .. } => format!("arrayLength(&wo_packed) / {halves}u"),
            // A block's share of the words, and its largest magnitudes.
            counts => {
                let words = counts.words(BLOCK_VEC4S);
                format!("arrayLength(&wo_packed) / {words}u * wo_BLOCK_LANES")
            }
        };
        put(&mut out, format_args!("fn wo_stride() -> u32 {{ return {value}; }}"));
        out
    }

    /// Where a vec4's pair of words lies, `at` as in the arena.
    fn pair_at(&self, array: &Array, at: &str) -> String {
        let vec4 = format!("({at} - wo_ARENA_HEADER)");
        if self.array_counts().bytes == 0 {
            return format!("{}u * stride + {vec4}", array.before.halves);
        }
        format!("{} + 2u * {vec4}", first_word(array.before))
    }

    /// `wo_load_state`.
    pub(crate) fn load_state(&self) -> String {
        let arrays = self.arrays();
        let load = |array: &Array| match array.form {
            Form::Whole => format!("wo_arena[at + {}u * stride]", array.before.whole),
            Form::Half { .. } | Form::Remainder => {
                widened(Format::Bf16, &format!("wo_pair({})", self.pair_at(array, "at")))
            }
            Form::Blocks(map) => {
                let first = first_word(array.before);
                let function = if map == Map::Signed { "wo_signed" } else { "wo_positive" };
                let (word, block) = ("(at - wo_ARENA_HEADER)", "(at - wo_ARENA_HEADER) / wo_BLOCK_LANES");
                format!("{function}(wo_packed[{first} + {word}], bitcast<f32>(wo_packed[{first} + stride + {block}]))")
            }
        };
        let mut kept = arrays.iter();
        let mut member = |used: bool| match used.then(|| kept.next()).flatten() {
            Some(array) => load(array),
            None => "vec4(0.0)".to_owned(),
        };
        let members: Vec<String> = self.states.iter().map(|state| member(state.used)).collect();
        format!("fn wo_load_state(at: u32, stride: u32) -> State {{\n    return State({});\n}}\n", members.join(", "))
    }

    /// `wo_store_state`, and `wo_store_blocks` for what waits until its block's largest magnitude is known.
    pub(crate) fn store_state(&self) -> String {
        let arguments = "chunk: wo_Chunk, lane: u32, at: u32, stride: u32, s: State, live: vec4<bool>, by_chance: bool";
        let mut out = format!("fn wo_store_state({arguments}) {{\n");
        let states: Vec<Array> = self.arrays().into_iter().zip(self.kept()).map(|(array, _)| array).collect();
        let blocks: Vec<&Array> = states.iter().filter(|array| matches!(array.form, Form::Blocks(_))).collect();
        for (number, array) in states.iter().enumerate() {
            let Array { name, before, .. } = array;
            match array.form {
                Form::Whole => put(&mut out, format_args!("    wo_arena[at + {}u * stride] = s.{name};", before.whole)),
                Form::Half { chance } => self.store_half(&mut out, array, number, chance),
                Form::Blocks(_) => {
                    put(&mut out, format_args!("    wo_waiting.{name} = select(vec4(0.0), s.{name}, live);"));
                }
                Form::Remainder => {}
            }
        }
        if blocks.is_empty() {
            return out + "}\nfn wo_store_blocks(index: u32, lane: u32) {}\n";
        }
        out + "    wo_waits = true;\n}\n" + &store_blocks(&blocks)
    }

    fn store_half(&self, out: &mut String, array: &Array, number: usize, chance: bool) {
        let (x, halves) = (format!("s.{}", array.name), format!("halves{number}"));
        put(out, format_args!("    var {halves} = wo_nearest_bf16({x});"));
        if chance {
            let chances = format!("wo_chances(chunk.tensor, {}u, chunk.position / 4u + lane)", number + 1);
            put(out, format_args!("    if by_chance {{ {halves} = wo_chanced_bf16({x}, {chances}); }}"));
        }
        if array.kind == Kind::Positive {
            // By bits: a comparison may take a denormal for zero.
            let some = format!("bitcast<vec4<u32>>({x}) != vec4(0u)");
            put(out, format_args!("    {halves} = max({halves}, select(vec4(0u), vec4(1u), {some}));"));
        }
        self.put_pair(out, &self.pair_at(array, "at"), &format!("wo_pack({halves})"));
    }

    fn put_pair(&self, out: &mut String, at: &str, words: &str) {
        if self.array_counts().bytes == 0 {
            put(out, format_args!("    wo_packed[{at}] = {words};"));
        } else {
            put(
                out,
                format_args!(
                    "    {{\n        let pair = {words};\n        wo_packed[{at}] = pair.x;\n        wo_packed[{at} + 1u] = pair.y;\n    }}"
                ),
            );
        }
    }

    /// `wo_first_state`.
    pub(crate) fn first_state(&self) -> String {
        let members: Vec<String> = self.states.iter().map(|s| format!("vec4(f32({:e}))", s.initial)).collect();
        format!("fn wo_first_state() -> State {{ return State({}); }}\n", members.join(", "))
    }

    /// The parameters: `wo_param` as the model sees them, `wo_load_param` and `wo_store_param` with what keeps their precision, as far as
    /// the stage may write.
    pub(crate) fn params(&self, stage: Stage) -> String {
        let format = self.formats.params.format();
        let mut out = String::new();
        let seen = widened(format, "wo_params[at]");
        put(&mut out, format_args!("fn wo_param(at: u32) -> vec4<f32> {{ return {seen}; }}"));
        if stage == Stage::Rows {
            let value = if format == Format::F32 { "x".to_owned() } else { format!("wo_pack({}(x))", nearest(format)) };
            put(&mut out, format_args!("fn wo_put_param(at: u32, x: vec4<f32>) {{ wo_params[at] = {value}; }}"));
            return out;
        }
        let arguments = "chunk: wo_Chunk, lane: u32, state: u32, stride: u32";
        let load = self.load_param();
        put(
            &mut out,
            format_args!("fn wo_load_param({arguments}) -> vec4<f32> {{\n    let at = chunk.param + lane;\n{load}}}"),
        );
        if stage == Stage::Update {
            let arguments = format!("{arguments}, before: vec4<f32>, next: vec4<f32>, chosen: vec4<bool>");
            let store = self.store_param();
            put(
                &mut out,
                format_args!("fn wo_store_param({arguments}) {{\n    let at = chunk.param + lane;\n{store}}}"),
            );
        }
        out
    }

    /// The array that keeps the parameters' precision.
    fn precision(&self) -> Option<Array> {
        self.arrays().into_iter().find(|array| keeps_precision(array.name))
    }

    fn load_param(&self) -> String {
        let Some(array) = self.precision() else { return "    return wo_param(at);\n".to_owned() };
        if array.form == Form::Remainder {
            let pair = self.pair_at(&array, "state");
            return format!("    return wo_join(wo_unpack(wo_params[at]), wo_unpack(wo_pair({pair})));\n");
        }
        // A parameter that is not its copy's nearest was written by somebody else: the copy begins anew from it.
        format!(
            "    let master = wo_arena[state + {}u * stride];\n    \
             let is_nearest = {}(master) == wo_unpack(wo_params[at]);\n    \
             return select(wo_param(at), master, is_nearest);\n",
            array.before.whole,
            nearest(self.formats.params.format())
        )
    }

    fn store_param(&self) -> String {
        let format = self.formats.params.format();
        let Some(keep) = self.formats.params.keep() else {
            return "    wo_params[at] = select(before, next, chosen);\n".to_owned();
        };
        let mut out = String::new();
        match (keep, self.precision()) {
            (RoundingMode::Master, Some(array)) => {
                let place = format!("wo_arena[state + {}u * stride]", array.before.whole);
                put(&mut out, format_args!("    {place} = select(before, next, chosen);"));
            }
            (RoundingMode::Split, Some(array)) => {
                put(&mut out, format_args!("    let rest = wo_pack(wo_remainder(select(before, next, chosen)));"));
                self.put_pair(&mut out, &self.pair_at(&array, "state"), "rest");
            }
            _ => {}
        }
        let halves = match keep {
            RoundingMode::Split => "wo_high(next)".to_owned(),
            RoundingMode::Stochastic => {
                format!("{}(next, wo_chances(chunk.tensor, 0u, chunk.position / 4u + lane))", chanced(format))
            }
            RoundingMode::Nearest | RoundingMode::Master => format!("{}(next)", nearest(format)),
        };
        put(&mut out, format_args!("    var words = wo_pack({halves});"));
        out + "    if !all(chosen) {\n        words = wo_mixed(wo_params[at], words, chosen);\n    }\n    wo_params[at] = words;\n"
    }

    /// `wo_gradient`, and which record is a launch's first.
    pub(crate) fn gradient(&self) -> String {
        let run = if self.moving { "wo_run.x" } else { "0u" };
        format!(
            "fn wo_gradient(chunk: wo_Chunk, i: u32) -> vec4<f32> {{ return {}; }}\n\
             fn wo_first_record() -> u32 {{ return {run}; }}\n",
            widened(self.formats.grads, &self.gradient_at("i"))
        )
    }

    /// The gradient's vec4 number `i` of a chunk, as a place.
    fn gradient_at(&self, i: &str) -> String {
        let buffer = if self.shared { "wo_params" } else { "wo_grads" };
        let positions = self.scalar_at("wo_call.moved + chunk.tensor / 4u");
        let moved = format!("bitcast<vec4<u32>>({positions})[chunk.tensor % 4u] + ");
        format!("{buffer}[{}chunk.grad + {i}]", if self.moving { &moved } else { "" })
    }

    /// `wo_zero_gradient` and `wo_clear_gradient`.
    pub(crate) fn clear_gradient(&self) -> String {
        let arguments = "chunk: wo_Chunk, lane: u32, live: vec4<bool>";
        let mut out = format!("fn wo_zero_gradient({arguments}) {{\n");
        if self.around.zero_grad {
            let place = self.gradient_at("lane");
            let zeroed = match self.formats.grads {
                Format::F32 => format!("select({place}, vec4(0.0), live)"),
                Format::F16 | Format::Bf16 => format!("wo_mixed({place}, vec2(0u), live)"),
            };
            put(&mut out, format_args!("    {place} = {zeroed};"));
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
}

/// `wo_leave_largest` and `wo_store_words` of blocks.wgsl.
fn store_blocks(blocks: &[&Array]) -> String {
    let mut out = String::from("fn wo_leave_largest(lane: u32) {\n");
    for (k, Array { name, .. }) in blocks.iter().enumerate() {
        let largest = format!("wo_largest(wo_waiting.{name})");
        put(&mut out, format_args!("    wo_largest_of_lane[{k}u * wo_CHUNK_LANES + lane] = {largest};"));
    }
    put(&mut out, format_args!("}}\nfn wo_store_words(at: u32, stride: u32, lane: u32) {{"));
    put(&mut out, format_args!("    let vec4_number = at - wo_ARENA_HEADER;"));
    for (k, Array { name, form, before, .. }) in blocks.iter().enumerate() {
        let word = if *form == Form::Blocks(Map::Signed) { "wo_signed_word" } else { "wo_positive_word" };
        let first = first_word(*before);
        put(
            &mut out,
            format_args!(
                "    let largest{k} = wo_largest_of_block({k}u, lane);\n    \
                 wo_packed[{first} + vec4_number] = {word}(wo_waiting.{name}, largest{k});\n    \
                 if lane % wo_BLOCK_LANES == 0u {{\n        \
                 wo_packed[{first} + stride + vec4_number / wo_BLOCK_LANES] = bitcast<u32>(largest{k});\n    }}"
            ),
        );
    }
    out + "}\n"
}
