//! What a rule's procedure adds to a pipeline's constants.

use crate::gpu::kernel::passes::FLAGS;
use crate::gpu::kernel::text::put;
use crate::gpu::layout::arena;
use crate::gpu::layout::class::Class;
use crate::gpu::layout::units::CHUNK;
use crate::optim::Procedure;
use crate::optim::procedure::Directions;

impl Class {
    /// Where the procedure's arrays lie in the arena, and its numbers.
    pub(crate) fn procedure_constants(&self, out: &mut String) {
        let slot = |name: &str| self.whole(name);
        put(out, format_args!("const wo_WARP = {};", matches!(self.procedure, Procedure::Warp(_))));
        put(out, format_args!("const wo_WARPED = {}u;", slot(arena::WARPED)));
        if matches!(self.procedure, Procedure::Probe(_) | Procedure::Integrate(_)) {
            for (name, flag) in FLAGS {
                put(out, format_args!("const wo_{name} = {flag}u;"));
            }
        }
        match self.procedure {
            Procedure::Plain => {}
            Procedure::Probe(probe) => {
                put(out, format_args!("const wo_GIVEN = {};", self.given));
                put(out, format_args!("const wo_GLOBAL = {};", probe.directions == Directions::Global));
                put(out, format_args!("const wo_ANCHOR = {}u;", slot(arena::ANCHOR)));
                put(out, format_args!("const wo_DIRECTIONS = {}u;", slot(arena::DIRECTIONS[0])));
            }
            Procedure::Integrate(scheme) => {
                put(out, format_args!("const wo_STAGES = {}u;", scheme.stages()));
                put(out, format_args!("const wo_GRADIENT = {}u;", slot("g_prev")));
                put(out, format_args!("const wo_DISPLACEMENT = {}u;", slot("displacement")));
                put(out, format_args!("const wo_BASE = {}u;", slot(arena::BASE)));
                put(out, format_args!("const wo_DERIVATIVES = {}u;", slot(arena::DERIVATIVES[0])));
            }
            Procedure::Warp(warp) => {
                put(out, format_args!("const wo_CHUNK = {CHUNK}u;"));
                put(out, format_args!("const wo_BLOCK = {}u;", warp.block));
                put(out, format_args!("const wo_LEARNED = {};", warp.learned));
                put(out, format_args!("const wo_BEFORE = {}u;", slot(arena::BEFORE)));
                put(out, format_args!("const wo_MATRIX = {}u;", slot(arena::COLUMNS[0])));
            }
        }
    }
}
