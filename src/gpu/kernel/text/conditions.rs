//! The conditions that choose lines of the harness's files: `#if NAME`, `#elif NAME`, `#else` and `#endif`, each on a line of its own.

use crate::gpu::layout::arena::Array;
use crate::gpu::layout::class::{Class, Round, Stage};
use crate::gpu::layout::units::Counts;
use crate::optim::procedure::spec::RoundSpec;
use crate::options::around::{Accumulate, Clip};
use crate::options::storage::{Format, RoundingMode};

/// The names of conditions, and whether each holds.
pub(crate) type Conditions = Vec<(&'static str, bool)>;

/// The lines of a file that have conditions that hold.
pub(super) fn expand(file: &str, conditions: &Conditions) -> String {
    /// One `#if` around a line.
    struct Level {
        /// The lines of this branch are kept if all levels around it are kept too.
        kept: bool,
        /// No branch was kept yet.
        open: bool,
    }
    let holds = |name: &str| match conditions.iter().find(|(known, _)| *known == name) {
        Some((_, holds)) => *holds,
        None => unreachable!("no condition is called {name}"),
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut out = String::with_capacity(file.len());
    for line in file.lines() {
        let Some(directive) = line.strip_prefix('#') else {
            let again = line.is_empty() && (out.is_empty() || out.ends_with("\n\n"));
            if !again && levels.iter().all(|level| level.kept) {
                out.extend([line, "\n"]);
            }
            continue;
        };
        match (directive.split_once(' ').unwrap_or((directive, "")), levels.last_mut()) {
            (("if", name), _) => {
                let kept = holds(name);
                levels.push(Level { kept, open: !kept });
            }
            (("elif", name), Some(level)) => {
                level.kept = level.open && holds(name);
                level.open &= !level.kept;
            }
            (("else", ""), Some(level)) => level.kept = level.open,
            (("endif", ""), Some(_)) => drop(levels.pop()),
            _ => unreachable!("`{line}` in a file of the harness"),
        }
    }
    out
}

impl Class {
    /// The conditions of a stage of this class.
    pub(super) fn conditions(&self, stage: Stage) -> Conditions {
        [
            self.class_conditions(stage),
            self.gradient_conditions(stage),
            self.storage_conditions(),
            self.sum_conditions(),
            self.procedure.as_ref().map_or_else(Vec::new, |procedure| procedure.conditions(self.given)),
        ]
        .concat()
    }

    fn class_conditions(&self, stage: Stage) -> Conditions {
        let a = &self.around;
        let steps = stage == Stage::Update || (stage == Stage::Procedure && self.pass().is_some_and(|pass| pass.skips));
        let skips = self.can_skip() && steps;
        // One text concludes the sums of all classes.
        let elements = !matches!(stage, Stage::Finalize | Stage::Fold);
        // Terms of the procedure's own have no gradient that could be zero.
        let nonzero = self.rows.is_some_and(|rows| rows.nonzero) && !self.sums_own_terms();
        vec![
            ("SKIPS", skips),
            ("LEAVES", self.rows.is_some() || a.partial),
            ("IDLES", skips || self.rows.is_some() || a.partial),
            ("PARTIAL", a.partial),
            ("AT_COUNT", a.partial && !self.own.is_empty() && !(elements && self.has_row_steps())),
            ("ROW_STEPS", self.has_row_steps()),
            ("TAKEN", steps),
            ("HAS_DECISION", !self.decision.is_empty()),
            ("HOLDS", self.sums.may_hold),
            ("MAY_SKIP", self.can_skip() || self.sums.may_hold),
            ("CAN_SKIP", self.can_skip()),
            ("EMA", a.ema.is_some()),
            ("TELEMETRY", a.telemetry),
            ("ROWS", self.rows.is_some()),
            ("MASK", self.masked()),
            ("NONZERO", nonzero),
            ("COLUMNS", self.rows.is_some_and(|rows| rows.columns)),
            ("SHARED_SQUARES", stage == Stage::Update && self.rows.is_some_and(|rows| rows.shared)),
            ("SCALARS_IN_CONTROL", self.scalars_in_control.is_some()),
            ("GRADIENT_OF_PASS", self.gradient_of_pass().is_some()),
        ]
    }

    fn gradient_conditions(&self, stage: Stage) -> Conditions {
        let a = &self.around;
        // The update reads the gradient that an earlier pass made of the prepared gradient.
        let prepares = !(stage == Stage::Update && self.gradient_of_pass().is_some());
        let scale = a.loss_scale.is_some() && prepares;
        let first_sums = matches!(stage, Stage::Stats | Stage::Tiles) && !self.round.is_later();
        let factor = a.scales_groups() && prepares;
        let clip_value = matches!(a.clip, Some(Clip::Value(_))) && prepares;
        let accumulates = a.accumulate.is_some();
        // The sums of the first round, and some passes, read the gradient before the clip by norm.
        let before_clip = stage == Stage::Procedure && self.pass().is_some_and(|pass| !pass.clips_by_norm);
        let clips_by_norm = a.clips_norm() && prepares && !first_sums && !before_clip;
        vec![
            ("DYNAMIC_GRADIENTS", self.binds_run(stage)),
            ("GRADS_IN_PARAMS", self.shared),
            ("GRADS_F32", self.formats.grads == Format::F32),
            ("GRADS_F16", self.formats.grads == Format::F16),
            ("ZERO_GRAD", a.zero_grad),
            ("ACCUMULATE", accumulates),
            ("CLEARS_GRADIENT", a.zero_grad || accumulates),
            ("UNSCALES", scale),
            ("UNSCALES_FIRST", scale && first_sums),
            ("FACTOR", factor),
            ("MEAN", matches!(a.accumulate, Some(Accumulate::Mean(_))) && prepares),
            ("WEIGHS", scale || factor),
            ("CLIP_VALUE", clip_value),
            ("CLIPS_BY_NORM", clips_by_norm),
            ("PREPARES", scale || factor || clip_value || clips_by_norm),
            ("EXTRA", factor || clip_value || (a.ema.is_some() && stage == Stage::Update)),
        ]
    }

    fn storage_conditions(&self) -> Conditions {
        let counts = self.array_counts();
        let Counts { whole, bytes, .. } = counts;
        let of_f32 = whole > 0 || !counts.packs();
        let (format, mode) = (self.formats.params.format(), self.formats.params.keep());
        let stochastic = mode == Some(RoundingMode::Stochastic);
        // The first step begins the average of a tensor that it leaves out.
        let begins = self.around.partial && self.around.ema.is_some();
        vec![
            ("STRIDE_OF_F32", of_f32),
            ("STRIDE_OF_PAIRS", !of_f32 && bytes == 0),
            ("BLOCKS", bytes > 0),
            ("STOCHASTIC", self.stochastic),
            ("STATES", self.kept().next().is_some()),
            ("MERGES", (self.rows.is_some() || begins) && self.kept().next().is_some()),
            ("STOCHASTIC_STATES", self.arrays().iter().any(Array::is_stochastic)),
            ("PARAMS_F32", format == Format::F32),
            ("PARAMS_F16", format == Format::F16),
            ("PARAMS_MASTER", mode == Some(RoundingMode::Master)),
            ("PARAMS_SPLIT", mode == Some(RoundingMode::Split)),
            ("PARAMS_STOCHASTIC_F16", stochastic && format == Format::F16),
            ("PARAMS_STOCHASTIC_BF16", stochastic && format == Format::Bf16),
        ]
    }

    fn sum_conditions(&self) -> Conditions {
        let a = &self.around;
        let later = self.round.is_later();
        let (rule, harness) = self.counts();
        let plain = self.sums_own_terms();
        let contributes = rule.sums > 0 && !plain;
        let from_slopes = self.decides_from_slopes();
        let decides = from_slopes || contributes;
        let refuses = from_slopes || rule.may_refuse;
        let concludes_skip = self.can_skip() && (!later || refuses);
        let clip = if later { None } else { a.clip };
        let clip_global = matches!(clip, Some(Clip::GlobalNorm(_)));
        let concludes_tensors = clip_global || decides;
        let concludes_step = concludes_skip || self.remembers();
        let proceeds = self.proceeds() && matches!(self.round, Round::Only | Round::Second);
        vec![
            ("CONTRIBUTES", contributes),
            ("OWN_TERMS", plain),
            ("READS_GRADIENT", !plain),
            ("COUNTS_ELEMENTS", self.counts_elements()),
            ("HARNESS_SUMS", harness),
            ("GUARD", a.guards() && !later),
            ("LOSS_SCALE", a.loss_scale.is_some() && !later),
            ("CLIP_NORM", clip.is_some() && a.clips_norm()),
            ("CLIP_GLOBAL", clip_global),
            ("CLIP_GROUP", matches!(clip, Some(Clip::GroupNorm(_)))),
            ("CLIP_TENSOR", matches!(clip, Some(Clip::TensorNorm(_)))),
            ("CLIP_PARTS", matches!(clip, Some(Clip::GroupNorm(_) | Clip::TensorNorm(_)))),
            ("DECIDES", decides),
            ("DECIDES_FROM_SLOPES", from_slopes),
            ("SETTLES", self.procedure_round() == Some(RoundSpec::Rule)),
            ("REMEMBERS", self.remembers()),
            ("REFUSES", rule.may_refuse),
            ("LATER_ROUND", later),
            ("PROCEEDS", proceeds),
            ("PROGRESS", !self.progress.is_empty()),
            ("CONCLUDES", concludes_tensors || concludes_step || proceeds),
            ("CONCLUDES_TENSORS", concludes_tensors),
            ("CONCLUDES_STEP", concludes_step),
            ("CONCLUDES_SKIP", concludes_skip),
            ("READS_TOTALS", concludes_skip || (decides && !from_slopes)),
        ]
    }

    /// Whether a step may be skipped.
    fn can_skip(&self) -> bool {
        self.sums.may_refuse || self.probes() > 0 || self.around.guards()
    }

    /// The array that holds the gradient for the update, if a pass made it.
    pub(super) fn gradient_of_pass(&self) -> Option<&'static str> {
        self.procedure.as_ref().and_then(|procedure| procedure.gradient())
    }

    /// Whether this round decides from the slopes of probes.
    pub(super) fn decides_from_slopes(&self) -> bool {
        self.probes() > 0 && !self.round.is_later()
    }

    /// Whether this round changes the global state.
    fn remembers(&self) -> bool {
        !self.global_state.is_empty() && matches!(self.round, Round::Only | Round::Second)
    }
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn of_branches_the_first_that_holds_is_kept() {
        let file = "0\n#if A\n1\n#elif B\n2\n#elif C\n3\n#else\n4\n#endif\n5";
        let lines = |a, b, c| expand(file, &vec![("A", a), ("B", b), ("C", c)]).replace('\n', "");
        assert_eq!(lines(true, true, false), "015");
        assert_eq!(lines(false, true, true), "025");
        assert_eq!(lines(false, false, true), "035");
        assert_eq!(lines(false, false, false), "045");
    }

    #[test]
    fn a_branch_inside_one_that_does_not_hold_is_dropped() {
        let file = "#if A\n1\n#if B\n2\n#else\n3\n#endif\n#else\n4\n#endif";
        let lines = |a, b| expand(file, &vec![("A", a), ("B", b)]).replace('\n', "");
        assert_eq!(
            [lines(true, true), lines(true, false), lines(false, true), lines(false, false)],
            ["12", "13", "4", "4"]
        );
    }
}
