//! Mistakes in the rules that torch has and that have states of their own kind.

use crate::mutants::Mistake::{self, Scalars, Text};
use crate::mutants::{NO_DECAY_L2, SWAPPED_BETAS_M, UNCORRECTED_M, change, number};

pub(crate) const ADAMAX: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "no bias correction", UNCORRECTED_M),
    ("default", "maximum does not decay", Text(&[("h.beta2 * (*s).u", "(*s).u")])),
    ("default", "an average", Text(&[("max(h.beta2 * (*s).u, abs(g) + h.eps)", "h.beta2 * (*s).u + abs(g) + h.eps")])),
    (
        "default",
        "old m",
        Text(&[("    (*s).m = m;", "    let old = (*s).m; (*s).m = m;"), ("h.step_size * m", "h.step_size * old")]),
    ),
    ("fast_decay", "ε dropped", Text(&[(" + h.eps", "")])),
    ("fast_decay", "ε outside the maximum", Text(&[("abs(g) + h.eps)", "abs(g)) + h.eps")])),
    ("fast_decay", "maximum not used", Text(&[("h.step_size * m / u", "h.step_size * m / (abs(g) + h.eps)")])),
    ("no_momentum", "decay dropped", NO_DECAY_L2),
];

pub(crate) const MUON: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("-h.decay * p - h.lr", "-h.lr")])),
    ("default", "no look ahead", Text(&[("select(m, h.one_minus_momentum * g + h.momentum * m, NESTEROV)", "m")])),
    ("default", "momentum not kept", Text(&[("    (*s).m = new_momentum(h, g, (*s).m);\n", "")])),
    ("default", "gradient in full", Text(&[("h.momentum * m + h.one_minus_momentum * g", "h.momentum * m + g")])),
    ("default", "the gradient is the step", Text(&[("h.lr * (*s).o", "h.lr * g")])),
    ("default", "the matrix is the momentum", Text(&[("(*s).m = new_momentum(h, g, (*s).m);", "(*s).m = (*s).o;")])),
    ("heavy_ball", "looks ahead all the same", Text(&[(", NESTEROV)", ", true)")])),
    ("like_adamw", "decay without the rate", Text(&[("h.decay * p", "h.decay / h.lr * p")])),
];

pub(crate) const ADAFACTOR: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("h.decay * p + d.step", "d.step")])),
    (
        "default",
        "decay of the moved parameter",
        Text(&[("h.decay * p + d.step", "h.decay * p * (1.0 - h.decay) + d.step")]),
    ),
    (
        "default",
        "old v",
        Text(&[
            ("    (*s).v = v;\n", "    let old = (*s).v; (*s).v = v;\n"),
            ("direction(h, g, v));", "direction(h, g, old));"),
        ]),
    ),
    ("default", "sums of the old v", Text(&[("direction(h, g, second_moment(h, g, s.v))", "direction(h, g, s.v)")])),
    (
        "default",
        "a step as large as the parameters of all",
        Text(&[("max(h.eps2, sqrt(own[0]))", "max(h.eps2, sqrt(totals[0]))")]),
    ),
    ("default", "the direction of all tensors", Text(&[("sqrt(own[1]) / h.d", "sqrt(totals[1]) / h.d")])),
    ("loose", "no bound for the direction", Text(&[("max(1.0, sqrt(own[1]) / h.d)", "1.0")])),
    ("default", "sums in place of means", Text(&[("let count = max(elements, 1.0);", "let count = 1.0;")])),
    ("loose", "no bound for the rate", Text(&[("min(h.lr, h.root)", "h.lr")])),
    ("default", "no least direction", Text(&[("max(v, vec4(h.floor))", "v")])),
    ("loose", "ε not squared", Text(&[("vec4(h.floor)", "vec4(h.least)")])),
    ("loose", "bound of the direction is 1", Text(&[("sqrt(own[1]) / h.d", "sqrt(own[1])")])),
    ("loose", "no least size", Text(&[("max(h.eps2, sqrt(own[0]))", "sqrt(own[0])")])),
    (
        "loose",
        "rate of the step before",
        Scalars(|_, t, s| {
            if s.name == "root" && t > 1 {
                s.count = 1.0 / ((t - 1) as f64).sqrt();
            }
        }),
    ),
    (
        "loose",
        "share of the step before",
        Scalars(|rule, t, s| {
            if s.name == "share" && t > 1 {
                s.count = ((t - 1) as f64).powf(number(rule, "beta2_decay"));
            }
        }),
    ),
];

pub(crate) const ADADELTA: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("default", "mean of the steps not used", Text(&[("sqrt((*s).a + h.eps) / ", "sqrt(vec4(h.eps)) / ")])),
    (
        "default",
        "mean of the steps with the rate",
        Text(&[("h.one_minus_rho * square", "h.one_minus_rho * h.step_size * square")]),
    ),
    ("default", "mean of the steps not kept", Text(&[("h.rho * (*s).a", "(*s).a")])),
    (
        "default",
        "old v",
        Text(&[("let change = g", "let old = (*s).v; let change = g"), ("/ sqrt(v + h.eps)", "/ sqrt(old + h.eps)")]),
    ),
    (
        "default",
        "the mean of the steps has this step",
        Text(&[("return -h.step_size * change", "return -h.step_size * g * (sqrt((*s).a + h.eps) / sqrt(v + h.eps))")]),
    ),
    ("large_eps", "ε outside the root", Text(&[("/ sqrt(v + h.eps)", "/ (sqrt(v) + h.eps)")])),
    ("large_eps", "ε dropped above", Text(&[("sqrt((*s).a + h.eps)", "sqrt((*s).a)")])),
    ("large_eps", "swapped weights", Text(&[("h.rho * (*s).v + h.one_minus_rho", "h.one_minus_rho * (*s).v + h.rho")])),
];

pub(crate) const RPROP: &[(&str, &str, Mistake)] = &[
    ("default", "steps do not grow", Text(&[("vec4(h.eta_plus)", "vec4(1.0)")])),
    ("default", "steps do not shrink", Text(&[("vec4(h.eta_minus)", "vec4(1.0)")])),
    (
        "default",
        "swapped factors",
        Text(&[
            ("vec4(h.eta_minus)", "vec4(h.eta_plus)"),
            ("(1.0), vec4(h.eta_plus), agrees <", "(1.0), vec4(h.eta_minus), agrees >"),
        ]),
    ),
    (
        "default",
        "moves where the sign changed",
        Text(&[("let q = select(now, vec4(0.0), agrees < vec4(0.0))", "let q = now")]),
    ),
    ("default", "old step", Text(&[("return -next * q", "return -s * q")])),
    ("default", "sign not kept", Text(&[("(*state).q = q;", "")])),
    ("default", "the gradient's size", Text(&[("return -next * q", "return -next * g")])),
    (
        "default",
        "the first step is the rate of this step",
        Text(&[("select((*state).s, vec4(h.first), (*state).s == vec4(0.0))", "vec4(h.first)")]),
    ),
    ("clamped", "no smallest step", Text(&[("max(s * factor, vec4(h.step_min))", "s * factor")])),
    (
        "clamped",
        "no largest step",
        Text(&[("min(max(s * factor, vec4(h.step_min)), vec4(h.step_max))", "max(s * factor, vec4(h.step_min))")]),
    ),
];

pub(crate) const ASGD: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("default", "rate of this step", Text(&[("select((*s).eta, vec4(h.lr), (*s).eta < vec4(0.0))", "vec4(h.lr)")])),
    (
        "default",
        "mean of the parameters from the start",
        Scalars(|_, t, s| change(s, "mu", if t > 2 { 0.5 } else { 1.0 })),
    ),
    ("averages", "lambd's decay dropped", Text(&[("(h.lambd * p + g)", "g")])),
    (
        "averages",
        "mean of the parameters before the step",
        Text(&[("h.mu * (next - (*s).ax)", "h.mu * (p - (*s).ax)")]),
    ),
    (
        "averages",
        "mean one step late",
        Scalars(|rule, t, s| {
            if s.name == "mu" {
                s.count = 1.0 / (t as f64 - 2.0 - number(rule, "t0")).max(1.0);
            }
        }),
    ),
    (
        "other_power",
        "power dropped",
        Text(&[("pow(1.0 + h.lambd * h.lr * h.steps, h.alpha)", "(1.0 + h.lambd * h.lr * h.steps)")]),
    ),
    ("other_power", "power of one more", Text(&[("1.0 + h.lambd * h.lr", "2.0 + h.lambd * h.lr")])),
    ("other_power", "count off by one", Scalars(|_, t, s| change(s, "steps", (t as f64 - 1.0) / t as f64))),
    ("other_power", "rate dropped from the power", Text(&[("h.lambd * h.lr * h.steps", "h.lambd * h.steps")])),
];
