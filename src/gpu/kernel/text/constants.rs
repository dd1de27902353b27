//! The numbers of a class as constants in WGSL. A text keeps the constants that it reads.

use crate::gpu::kernel::text::members::{call_vec4s, put};
use crate::gpu::layout::class::Class;
use crate::gpu::layout::factors::{DIVIDE_LANES, FEW_ROWS, FOLD_LANES, ROW_LANES};
use crate::gpu::layout::tiles::{TILE, TILE_LANES, TILE_ROWS};
use crate::gpu::layout::units::{
    ABSENT, ACCUMULATOR, ARENA_HEADER, AVERAGE, BLOCK_VEC4S, CHUNK, CHUNK_LANES, Counts, FINAL_BATCH, FINAL_LANES,
    MASTER, REMAINDER, ROW_STEPS,
};
use crate::optim::procedure::record::FLAGS;
use crate::options::storage::blockwise::Map;

impl Class {
    pub(super) fn constants(&self) -> String {
        let mut out = String::new();
        for (name, on) in &self.flags {
            put(&mut out, format_args!("const {name}: bool = {on};"));
        }
        if self.probes() > 0 {
            put(&mut out, format_args!("const PROBES = {}u;", self.probes()));
        }
        let all = [self.sizes(), self.places(), self.factor_numbers(), self.procedure_numbers()].concat();
        for (name, value) in all {
            put(&mut out, format_args!("const wo_{name} = {value}u;"));
        }
        let scale = self.around.loss_scale.unwrap_or_default();
        let factors = [
            ("GROWTH", scale.growth as f32),
            ("BACKOFF", scale.backoff as f32),
            ("LEAST_SCALE", scale.least()),
            ("LAST_SCALE", scale.last()),
        ];
        for (name, value) in factors {
            put(&mut out, format_args!("const wo_{name} = f32({value:e});"));
        }
        for (name, map) in [("SIGNED", Map::Signed), ("POSITIVE", Map::Unsigned)] {
            for (what, lines) in [("MIDDLES", map.middle_lines()), ("CELLS", map.cell_lines())] {
                let lines = lines.map(|[slope, value]| format!("vec2({slope:e}, {value:e})")).join(", ");
                put(&mut out, format_args!("const wo_{name}_{what} = array<vec2<f32>, 7>({lines});"));
            }
            let [.., edge] = map.edges();
            put(&mut out, format_args!("const wo_{name}_EDGE_OF_ONE = f32({edge:e});"));
        }
        out
    }

    /// The counts of threads, sums, totals and scalars.
    fn sizes(&self) -> Vec<(&'static str, u64)> {
        let (sums, totals) = self.sum_counts();
        let size = |n: usize| n as u64;
        vec![
            ("CHUNK", CHUNK),
            ("CHUNK_LANES", CHUNK_LANES.into()),
            ("SUM_LANES", self.sum_lanes.into()),
            ("FINAL_LANES", FINAL_LANES.into()),
            ("SETTINGS", size(call_vec4s(&self.scalars, self.groups))),
            ("SUMS", size(sums.max(1))),
            ("SQUARES", size(self.counts().0.sums)),
            ("ELEMENTS", size(sums.saturating_sub(1))),
            ("TOTALS", size(totals.max(1))),
            ("BATCH", size(totals.clamp(1, FINAL_BATCH))),
            ("NORM", size(totals.saturating_sub(2))),
            ("BAD", size(totals.saturating_sub(1))),
            ("GLOBAL_VEC4S", size(self.global_state_vec4s())),
            ("DECISION_VEC4S", size(self.decision_vec4s())),
            ("CLIP", size(self.decision.len())),
            ("STEPS", size(self.first_of_progress() + self.progress.len())),
            ("WAITING", size(self.first_of_progress() + self.progress.len() + 1)),
            ("TAKES", size(self.first_of_progress() + self.progress.len() + 2)),
            ("ABSENT", ABSENT.into()),
            ("MICRO_BATCHES", self.around.micro_batches().into()),
            ("INTERVAL", self.around.loss_scale.unwrap_or_default().interval.into()),
        ]
    }

    /// The places of the arena's arrays.
    fn places(&self) -> Vec<(&'static str, u64)> {
        let counts = self.array_counts();
        let slot = |name: &str| self.whole(name);
        let remainder = self.arrays().into_iter().find(|array| array.name == REMAINDER).map(|array| array.before);
        let Counts { halves, bytes, .. } = remainder.unwrap_or_default();
        vec![
            ("ARENA_HEADER", ARENA_HEADER),
            ("STATES", counts.whole),
            ("F32_ARRAYS", counts.whole.max(1)),
            ("PACKED_WORDS", if counts.bytes == 0 { counts.halves } else { counts.words(BLOCK_VEC4S) }),
            ("LARGEST_VECTORS", counts.bytes.div_ceil(4)),
            ("BLOCK_LANES", BLOCK_VEC4S),
            ("REMAINDER_HALVES", halves),
            ("REMAINDER_BYTES", bytes),
            ("MASTER", slot(MASTER)),
            ("ACCUMULATOR", slot(ACCUMULATOR)),
            ("AVERAGE", slot(AVERAGE)),
            ("ROW_STEPS", slot(ROW_STEPS)),
            ("EVALUATED", self.evaluated.map_or(0, slot)),
        ]
    }

    /// The sizes of the passes over factors, and the place of their table.
    fn factor_numbers(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("TILE", TILE as u64),
            ("TILE_LANES", TILE_LANES.into()),
            ("TILE_ROWS", TILE_ROWS.into()),
            ("FOLD_LANES", FOLD_LANES.into()),
            ("DIVIDE_LANES", DIVIDE_LANES.into()),
            ("ROW_LANES", ROW_LANES.into()),
            ("FEW_ROWS", FEW_ROWS as u64),
            ("FACTORS", self.factors.map_or(0, |factors| factors.table as u64)),
        ]
    }

    /// The numbers of the rule's procedure, and the places of its arrays.
    fn procedure_numbers(&self) -> Vec<(&'static str, u64)> {
        let place = |name: &str| self.whole(name);
        let flags = FLAGS.map(|(name, flag)| (name, u64::from(flag)));
        let gradient = ("GRADIENT_OF_PASS", self.gradient_of_pass().map_or(0, place));
        let own = self.procedure.as_ref().map_or_else(Vec::new, |procedure| procedure.constants(&place));
        flags.into_iter().chain([gradient]).chain(own).collect()
    }
}
