//! Mistakes in AdEMAMix, Adan and Prodigy.

use crate::mutants::Mistake::{self, Scalars, Text};
use crate::mutants::{
    F32_BETA2, SWAPPED_BETAS_M, SWAPPED_BETAS_V, UNCORRECTED_M, UNCORRECTED_V, change, correction, number,
};

pub(crate) const ADEMAMIX: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("-h.decay * p - h.step_size", "-h.step_size")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of v", UNCORRECTED_V),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("default", "slow average dropped", Text(&[(" + h.slow * n", "")])),
    (
        "default",
        "slow average of the old numbers",
        Text(&[("(m + h.slow * n)", "(m + h.slow * old)"), ("    (*s).n = n;", "    let old = (*s).n; (*s).n = n;")]),
    ),
    (
        "default",
        "bias correction of the slow average",
        Scalars(|rule, t, s| change(s, "slow", correction(rule, "beta1", t).recip())),
    ),
    ("warmup", "α does not rise", Scalars(|rule, t, s| change(s, "slow", number(rule, "warmup") / t as f64))),
    (
        "warmup",
        "β3 does not rise",
        Scalars(|rule, _, s| match s.name {
            "beta3" => s.count = number(rule, "beta3"),
            "one_minus_beta3" => s.count = 1.0 - number(rule, "beta3"),
            _ => (),
        }),
    ),
    (
        "warmup",
        "β3 rises in a line",
        Scalars(|rule, t, s| {
            let x = t as f64 / number(rule, "warmup");
            let beta = (1.0 - x) * number(rule, "beta1") + x * number(rule, "beta3");
            match s.name {
                "beta3" => s.count = beta,
                "one_minus_beta3" => s.count = 1.0 - beta,
                _ => (),
            }
        }),
    ),
    ("no_momentum", "decay dropped", Text(&[("-h.decay * p - h.step_size", "-h.step_size")])),
];

pub(crate) const ADAN: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("(step + h.decay * p)", "step")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "last gradient not kept", Text(&[("    (*s).q = g;\n", "")])),
    ("default", "differences dropped", Text(&[(" + h.step_v * v", "")])),
    (
        "default",
        "optax's weight of the differences",
        Text(&[("g + h.beta2 * change", "g + h.one_minus_beta2 * change")]),
    ),
    ("default", "square of the gradient", Text(&[("g + h.beta2 * change)", "g)")])),
    (
        "default",
        "a difference at the first step",
        Text(&[(
            "select(g - (*s).q, vec4(0.0), (*s).q >= vec4(3.0e38))",
            "select(g - (*s).q, g, (*s).q >= vec4(3.0e38))",
        )]),
    ),
    ("default", "no bias correction of m", Scalars(|rule, t, s| change(s, "step_m", correction(rule, "beta1", t)))),
    ("default", "no bias correction of v", Scalars(|rule, t, s| change(s, "step_v", correction(rule, "beta2", t)))),
    ("default", "ε inside the root", Text(&[("sqrt(n) + h.eps_hat", "sqrt(n + h.eps_hat)")])),
    ("large_rate", "decay not proximal", Text(&[("-(step + h.decay * p) / (1.0 + h.decay)", "-(step + h.decay * p)")])),
    (
        "large_rate",
        "step not divided",
        Text(&[("-(step + h.decay * p) / (1.0 + h.decay)", "-step - h.decay * p / (1.0 + h.decay)")]),
    ),
];

pub(crate) const PRODIGY: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("h.lambda * p + m", "m")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "moments without d", Text(&[("let scaled = d.d * g", "let scaled = g")])),
    ("default", "moments with the next d", Text(&[("let scaled = d.d * g", "let scaled = d.next * g")])),
    ("default", "step with the next d", Text(&[("(h.rate * d.d)", "(h.rate * d.next)")])),
    ("default", "d of one tensor", Text(&[("h.beta3 * before.n + totals[0]", "h.beta3 * before.n + own[0]")])),
    ("default", "sum of s of one tensor", Text(&[("h.d_coef * n / totals[1]", "h.d_coef * n / own[1]")])),
    ("default", "start not kept", Text(&[("(*s).p0 = p0", "(*s).p0 = p")])),
    ("default", "distance the other way", Text(&[("g * (start(p, s) - p)", "g * (p - start(p, s))")])),
    ("default", "s with its sign", Text(&[("abs(direction(h, g, s))", "direction(h, g, s)")])),
    ("default", "s not scaled to the next d", Text(&[("let z = d.shrink * direction", "let z = direction")])),
    ("default", "N not scaled to the next d", Text(&[("share * share * n)", "n)")])),
    ("default", "s forgets nothing", Text(&[("h.beta3 * s.z", "s.z")])),
    ("large_d0", "ε without d", Text(&[("d.next * h.eps", "h.eps")])),
    (
        "large_d0",
        "bias not corrected",
        Scalars(|_, _, s| {
            if ["rate", "gain"].contains(&s.name) {
                s.count = 1.0;
            }
        }),
    ),
    (
        "large_d0",
        "d falls",
        Text(&[
            ("select(d, max(d, estimate), d <= 1.00001 * h.d0)", "estimate"),
            ("let next = min(d_max, ", "let next = min(estimate, "),
        ]),
    ),
    ("slow_growth", "growth not limited", Text(&[("min(d_max, grown * h.growth_rate)", "d_max")])),
    ("slow_growth", "d_coef dropped", Text(&[("h.d_coef * n", "n")])),
    ("slow_growth", "N forgets nothing", Text(&[("h.beta3 * before.n", "before.n")])),
    (
        "safeguard",
        "no safeguard",
        Scalars(|rule, _, s| {
            if s.name == "gain" {
                s.call = number(rule, "lr");
            }
        }),
    ),
];
