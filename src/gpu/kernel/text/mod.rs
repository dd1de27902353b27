//! A pipeline's text: the rule's file, the lines that depend on the class, and the harness's files in `shaders/harness/`. The conditions of
//! the class and the stage choose lines of these files. The text keeps the declarations that its entry points reach.

mod bindings;
mod conditions;
mod constants;
mod link;
mod members;

pub(crate) use bindings::{Access, Binding, declared};
pub(crate) use members::scalar_rows;

use crate::gpu::kernel::text::conditions::{Conditions, expand};
use crate::gpu::kernel::text::link::link;
use crate::gpu::layout::class::{Class, Round, Stage};

macro_rules! harness {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(const $name: &str = include_str!(concat!("../../../../shaders/harness/", $file));)*
    };
}

harness! {
    TABLES = "tables.wgsl",
    SCALARS = "scalars.wgsl",
    COUNTS = "counts.wgsl",
    PARTIAL = "partial.wgsl",
    LANE = "lane.wgsl",
    ARENA = "arena.wgsl",
    PARAMS = "params.wgsl",
    STATES = "states.wgsl",
    FACTORS = "factors.wgsl",
    TILES = "tiles.wgsl",
    FOLD = "fold.wgsl",
    GRADIENT = "gradient.wgsl",
    ROWS = "rows.wgsl",
    SQUARE = "square.wgsl",
    CAUTION = "caution.wgsl",
    HALF = "half.wgsl",
    BLOCKWISE = "blockwise.wgsl",
    RANDOM = "random.wgsl",
    STOCHASTIC_ROUNDING = "stochastic_rounding.wgsl",
    STATS = "stats.wgsl",
    FINALIZE = "finalize.wgsl",
    CONCLUDE = "conclude.wgsl",
    SLOPES = "slopes.wgsl",
    UPDATE = "update.wgsl",
    BLOCKS = "blocks.wgsl",
    FRESH = "fresh.wgsl",
    TELEMETRY = "telemetry.wgsl",
    FILL = "fill.wgsl",
    ACCUMULATE = "accumulate.wgsl",
    SWAP = "swap.wgsl",
    EVAL_PARAMS = "eval_params.wgsl",
    REMAP = "remap.wgsl",
}

/// The files of every stage over elements.
const ELEMENTS: [&str; 17] = [
    TABLES,
    SCALARS,
    COUNTS,
    PARTIAL,
    LANE,
    ARENA,
    PARAMS,
    STATES,
    FACTORS,
    GRADIENT,
    ROWS,
    SQUARE,
    CAUTION,
    HALF,
    BLOCKWISE,
    RANDOM,
    STOCHASTIC_ROUNDING,
];

impl Class {
    /// The files from which a stage may take declarations. The files with its entry points come last.
    fn files(&self, stage: Stage) -> Vec<&'static str> {
        let own: &[&str] = match stage {
            Stage::Stats => return [&ELEMENTS, self.procedure_files(), &[FRESH, STATS]].concat(),
            Stage::Fold => return vec![TABLES, SCALARS, COUNTS, PARTIAL, LANE, FACTORS, FOLD],
            Stage::Tiles => &[TILES],
            Stage::Finalize => return vec![TABLES, SCALARS, COUNTS, PARTIAL, CAUTION, SLOPES, CONCLUDE, FINALIZE],
            Stage::Procedure => self.procedure_files(),
            Stage::Update => &[BLOCKS, TELEMETRY, FRESH, UPDATE, FILL, ACCUMULATE, SWAP, EVAL_PARAMS],
            Stage::Rows => &[REMAP],
        };
        [&ELEMENTS, own].concat()
    }

    fn procedure_files(&self) -> &'static [&'static str] {
        self.pass().map_or(&[], |pass| pass.files)
    }

    /// The entry points of a stage, one pipeline for each. The first is the main one.
    pub(crate) fn entries(&self, stage: Stage) -> Vec<&'static str> {
        let fills = self.states.iter().any(|s| s.used && s.initial != 0.0);
        let evaluates = self.evaluated.is_some();
        let wanted: &[(&str, bool)] = match stage {
            Stage::Tiles => &[("wo_sum_tile", true)],
            Stage::Fold => &[("wo_fold", true), ("wo_divide", true), ("wo_keep", true)],
            Stage::Stats => &[("wo_stats", true)],
            // A step has halves, for callers that add to the totals and for the exchange between parts. The rounds of a procedure belong to
            // steps that cannot be halved.
            Stage::Finalize => {
                let halves = matches!(self.round, Round::Only | Round::First | Round::Second);
                let waits = self.waits() && !self.round.is_later();
                &[("wo_finalize", true), ("wo_reduce", halves), ("wo_conclude", halves), ("wo_wait", waits)]
            }
            Stage::Procedure => {
                return self.pass().into_iter().flat_map(|pass| [pass.entry].into_iter().chain(pass.setup)).collect();
            }
            Stage::Update => &[
                ("wo_update", true),
                ("wo_fill", fills),
                ("wo_accumulate", self.around.accumulate.is_some()),
                ("wo_swap", self.around.ema.is_some()),
                ("wo_to_evaluation", evaluates),
                ("wo_to_training", evaluates),
            ],
            Stage::Rows => &[("wo_gather", true), ("wo_scatter", true), ("wo_reset", true)],
        };
        wanted.iter().filter(|(_, wanted)| *wanted).map(|(entry, _)| *entry).collect()
    }

    /// The joined text of a stage.
    #[must_use]
    pub fn text(&self, stage: Stage) -> String {
        let conditions = self.conditions(stage);
        let written = [self.declarations(stage), self.constants(), self.members()].concat();
        let reads = |file: &&str| self.around.own_counts || ![COUNTS, PARTIAL, FRESH].contains(file);
        let files: Vec<&str> = self.files(stage).into_iter().filter(reads).collect();
        assemble(self.rule.to_string() + "\n" + &written, &files, &conditions, &self.entries(stage))
    }
}

/// The text of files with these conditions, after lines that the host wrote. It keeps the declarations that the entry points reach.
pub(crate) fn assemble(written: String, files: &[&str], conditions: &Conditions, entries: &[&str]) -> String {
    let files = files.iter().map(|file| expand(file, conditions));
    let parts: Vec<String> = std::iter::once(written).chain(files).collect();
    link(&parts.join("\n"), entries)
}
