//! The schedule-free rules with one mistake each.

use crate::mutants::Mistake::{self, Scalars, Text};

const NO_DECAY: Mistake = Text(&[(" + h.decay * p", "")]);
const OLD_GAP: Mistake = Text(&[("(*s).gap = h.keep * gap", "(*s).gap = gap")]);
const NO_AVERAGE: Mistake = Text(&[("return h.average * gap - ", "return -")]);
/// The parameters follow z.
const AT_Z: Mistake = Scalars(|_, _, s| {
    if s.name == "step_size_y" {
        s.count = 1.0;
    }
});
/// Steps of the warm-up have the same weight as other steps.
const EQUAL_WEIGHTS: Mistake = Scalars(|_, t, s| {
    if s.name == "average" {
        s.count = 1.0 / t as f64;
    }
});

pub(crate) const ADAMW: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY),
    ("default", "gap not shortened", OLD_GAP),
    ("default", "no way to z", NO_AVERAGE),
    ("default", "steps as long as z's", AT_Z),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("default", "no bias correction", Text(&[("h.correction * g", "g")])),
    ("warmup", "equal weights", EQUAL_WEIGHTS),
    ("warmup", "decay dropped", NO_DECAY),
];

pub(crate) const SGD: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY),
    ("default", "gap not shortened", OLD_GAP),
    ("default", "no way to z", NO_AVERAGE),
    ("default", "steps as long as z's", AT_Z),
    ("warmup", "equal weights", EQUAL_WEIGHTS),
];
