//! The schedule-free rules with one mistake each.

use crate::mutants::Mistake::{self, Text};

const NO_DECAY: Mistake = Text(&[(" + h.decay * p", "")]);
const OLD_GAP: Mistake = Text(&[("(*s).gap = d.keep * gap", "(*s).gap = gap")]);
const NO_AVERAGE: Mistake = Text(&[("return d.average * gap - ", "return -")]);
/// The parameters follow z.
const AT_Z: Mistake = Text(&[("h.rate * (h.one_minus_beta + h.beta * c)", "h.rate")]);
/// Steps of the warm-up have the same weight as other steps.
const EQUAL_WEIGHTS: Mistake = Text(&[("past *= power_of(before / largest, h.power);", "past *= 1.0;")]);
/// Early steps have the same weight as late steps.
const NO_CARRY: Mistake = Text(&[("h.carry * (*progress).weights", "(*progress).weights")]);
const FORGETS: Mistake = Text(&[("1.0 / (1.0 + past)", "1.0")]);

pub(crate) const ADAMW: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY),
    ("default", "gap not shortened", OLD_GAP),
    ("default", "no way to z", NO_AVERAGE),
    ("default", "steps as long as z's", AT_Z),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("default", "no bias correction", Text(&[("h.correction * g", "g")])),
    ("default", "all weight to the last step", FORGETS),
    ("warmup", "equal weights", EQUAL_WEIGHTS),
    ("warmup", "weights without t^r", NO_CARRY),
    ("warmup", "decay dropped", NO_DECAY),
];

pub(crate) const SGD: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY),
    ("default", "gap not shortened", OLD_GAP),
    ("default", "no way to z", NO_AVERAGE),
    ("default", "steps as long as z's", AT_Z),
    ("warmup", "equal weights", EQUAL_WEIGHTS),
];
