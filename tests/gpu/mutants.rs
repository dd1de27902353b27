//! Rules with one mistake each, in the WGSL by replaced words, or in the host's scalars.

use wgpu_optim::optim::rule::Altered;
use wgpu_optim::optim::{Rule, Scalar, Value};

use crate::adam_kin_mutants as adam_kin;
use crate::evaluating_mutants::{FLOWADAM, SADAM, WARPADAM};
use crate::schedule_free_mutants as schedule_free;
use crate::torch_mutants as torch;

/// A mistake.
#[derive(Clone, Copy)]
pub(crate) enum Mistake {
    /// Replaces each first text, which must exist, by the second.
    Text(&'static [(&'static str, &'static str)]),
    /// Computes the host's scalars of the `t`-th step of a rule with these settings.
    Scalars(fn(&dyn Rule, u64, &mut Scalar)),
}

/// A rule with one mistake; all other methods are those of the rule.
pub(crate) fn mutant(rule: &dyn Rule, mistake: Mistake) -> Box<dyn Rule> {
    match mistake {
        Mistake::Text(replacements) => {
            let mut text = rule.text().to_owned();
            for (from, to) in replacements {
                assert_eq!(text.matches(from).count(), 1, "`{from}` is not once in {}", rule.name());
                text = text.replace(from, to);
            }
            assert_ne!(text, rule.text());
            Altered::with_text(rule.boxed(), &text).boxed()
        }
        Mistake::Scalars(change) => {
            let mutant = Altered::with_scalars(rule.boxed(), change);
            let changed = [1, 3, 7].iter().any(|&t| mutant.scalars(t) != rule.scalars(t));
            assert!(changed, "the scalars of {} are as they were", rule.name());
            mutant.boxed()
        }
    }
}

pub(crate) fn number(rule: &dyn Rule, name: &str) -> f64 {
    match rule.settings().into_iter().find(|(n, _)| *n == name) {
        Some((_, Value::Number(x))) => x,
        other => panic!("{name} of {}: {other:?}", rule.name()),
    }
}

/// 1 - β^t.
pub(crate) fn correction(rule: &dyn Rule, beta: &str, t: u64) -> f64 {
    1.0 - number(rule, beta).powi(t as i32)
}

pub(crate) fn change(scalar: &mut Scalar, name: &str, factor: f64) {
    if scalar.name == name {
        scalar.count *= factor;
    }
}

use Mistake::{Scalars, Text};

// Mistakes in the moments, which ten rules share.
pub(crate) const SWAPPED_BETAS_M: Mistake = Text(&[("h.beta1 * ", "h.beta2 * ")]);
pub(crate) const SWAPPED_BETAS_V: Mistake = Text(&[("h.one_minus_beta2", "h.one_minus_beta1")]);
pub(crate) const NO_DECAY_L2: Mistake = Text(&[("gradient + h.decay * p", "gradient")]);
pub(crate) const F32_BETA2: Mistake = Scalars(|rule, _, scalar| {
    if scalar.name == "one_minus_beta2" {
        scalar.call = f64::from(1.0 - number(rule, "beta2") as f32);
    }
});
pub(crate) const UNCORRECTED_M: Mistake = Scalars(|rule, t, scalar| {
    for name in ["step_size", "correction", "rectified", "plain"] {
        change(scalar, name, correction(rule, "beta1", t));
    }
});
pub(crate) const UNCORRECTED_V: Mistake = Scalars(|rule, t, scalar| {
    for name in ["step_size", "correction", "eps_hat"] {
        change(scalar, name, correction(rule, "beta2", t).sqrt().recip());
    }
});
/// Counts the step from 0.
pub(crate) const LATE_COUNT: Mistake = Scalars(|rule, t, scalar| {
    let early = rule.scalars(t + 1).into_iter().find(|s| s.name == scalar.name);
    *scalar = early.unwrap_or(*scalar);
});

const ADAM: &[(&str, &str, Mistake)] = &[
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of v", UNCORRECTED_V),
    ("default", "count off by one", LATE_COUNT),
    ("default", "ε inside the root", Text(&[("sqrt(v_max) + h.eps_hat", "sqrt(v_max + h.eps_hat)")])),
    ("default", "ε dropped", Text(&[("sqrt(v_max) + h.eps_hat", "sqrt(v_max)")])),
    (
        "default",
        "old m",
        Text(&[("    (*s).m = m;", "    let old = (*s).m; (*s).m = m;"), ("h.step_size * m", "h.step_size * old")]),
    ),
    (
        "default",
        "old v",
        Text(&[
            ("max((*s).v_max, v);", "max((*s).v_max, (*s).v);"),
            ("    (*s).v = v;\n", ""),
            ("    (*s).v_max = v_max;", "    (*s).v = v;"),
        ]),
    ),
    ("amsgrad", "maximum dropped", Text(&[("max((*s).v_max, v)", "v")])),
    ("amsgrad", "maximum not used", Text(&[("sqrt(v_max)", "sqrt(v)")])),
    ("no_momentum", "β1 used where there is none", Text(&[("h.one_minus_beta1 * g", "0.1 * g")])),
    ("cautious", "every element moves", Text(&[("step *= d.scale * wo_agreeing(m, g)", "step *= d.scale")])),
    ("cautious", "not scaled", Text(&[("step *= d.scale * wo_agreeing(m, g)", "step *= wo_agreeing(m, g)")])),
    (
        "cautious",
        "scaled the other way",
        Text(&[("step *= d.scale * wo_agreeing(m, g)", "step *= wo_agreeing(m, g) / d.scale")]),
    ),
    ("cautious", "share of all tensors", Text(&[("own[0], own[1]", "totals[0], totals[1]")])),
    (
        "cautious",
        "the paper's share of one element more",
        Text(&[("vec3(sums[0], 0.0, 0.0)", "vec3(sums[0] + 1.0, 0.0, 0.0)")]),
    ),
    (
        "cautious",
        "share of the old moment",
        Text(&[("wo_agreeing(first_moment(h, s.m, g), g)", "wo_agreeing(s.m, g)")]),
    ),
    (
        "cautious",
        "mask of the old moment",
        Text(&[("    (*s).m = m;", "    let old = (*s).m; (*s).m = m;"), ("wo_agreeing(m, g)", "wo_agreeing(old, g)")]),
    ),
];

/// For each optimizer: a variant, a description of the mistake, and the mistake.
pub(crate) fn mutants(optimizer: &str) -> Vec<(&'static str, &'static str, Mistake)> {
    let mut mutants = Vec::new();
    if ["adam", "adamw"].contains(&optimizer) {
        mutants.extend_from_slice(ADAM);
    }
    mutants.extend_from_slice(match optimizer {
        "sgd" => SGD,
        "prox_sgd" => PROX_SGD,
        "adam" => &[
            ("default", "decay dropped", NO_DECAY_L2),
            (
                "default",
                "decay decoupled",
                Text(&[
                    ("select(gradient + h.decay * p, gradient, DECOUPLED)", "gradient"),
                    ("h.decay * p, DECOUPLED", "h.decay * p, true"),
                ]),
            ),
        ],
        "adamw" => &[
            ("cautious", "decay masked", Text(&[("-shrink - step", "-shrink * wo_agreeing(m, g) - step")])),
            ("cautious", "decay scaled", Text(&[("-shrink - step", "-shrink * d.scale - step")])),
            ("default", "decay dropped", Text(&[("h.decay * p, DECOUPLED", "vec4(0.0), DECOUPLED")])),
            (
                "default",
                "decay coupled",
                Text(&[("gradient, DECOUPLED", "gradient, false"), ("h.decay * p, DECOUPLED", "vec4(0.0), DECOUPLED")]),
            ),
            (
                "default",
                "decay of the moved parameter",
                Text(&[("-shrink - step", "-shrink * (1.0 - h.decay) - step")]),
            ),
        ],
        "nadam" => NADAM,
        "radam" => RADAM,
        "rmsprop" => RMSPROP,
        "adagrad" => ADAGRAD,
        "adabelief" => ADABELIEF,
        "lion" => LION,
        "lamb" => LAMB,
        "muon" => torch::MUON,
        "adamax" => torch::ADAMAX,
        "adadelta" => torch::ADADELTA,
        "adafactor" => torch::ADAFACTOR,
        "rprop" => torch::RPROP,
        "asgd" => torch::ASGD,
        "ademamix" => adam_kin::ADEMAMIX,
        "adan" => adam_kin::ADAN,
        "prodigy" => adam_kin::PRODIGY,
        "vradam" => VRADAM,
        "adamw_schedule_free" => schedule_free::ADAMW,
        "sgd_schedule_free" => schedule_free::SGD,
        "flowadam" => FLOWADAM,
        "sadam" => SADAM,
        "warpadam" => WARPADAM,
        "adai" | "adaiw" => ADAI,
        _ => &[],
    });
    match optimizer {
        "adai" => mutants.extend_from_slice(&[
            ("default", "decay dropped", NO_DECAY_L2),
            ("default", "decay not in the mean", Text(&[("h.w_pp * sums[1]", "0.0")])),
            ("default", "p·g not in the mean", Text(&[("h.w_pg * sums[2]", "0.0")])),
        ]),
        "adaiw" => mutants.extend_from_slice(&[
            ("default", "decay dropped", Text(&[("h.decay * p, DECOUPLED", "vec4(0.0), DECOUPLED")])),
            ("default", "decay in the gradient", Text(&[("gradient, DECOUPLED", "gradient, false")])),
        ]),
        _ => (),
    }
    mutants
}

const SGD: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("momentum", "decay dropped", NO_DECAY_L2),
    ("momentum", "momentum dropped", Text(&[("h.momentum * (*s).b", "(*s).b")])),
    ("momentum", "dampening dropped", Text(&[("h.gain * g", "g")])),
    (
        "momentum",
        "first gradient dampened",
        Scalars(|rule, _, s| {
            if s.name == "gain" {
                s.count = 1.0 - number(rule, "dampening");
            }
        }),
    ),
    (
        "momentum",
        "old buffer",
        Text(&[("    (*s).b = b;", "    let old = (*s).b; (*s).b = b;"), ("h.step_size_b * b", "h.step_size_b * old")]),
    ),
    ("nesterov", "gradient dropped", Text(&[(" + h.step_size_g * g", "")])),
    (
        "nesterov",
        "plain momentum",
        Scalars(|rule, _, s| match s.name {
            "step_size_b" => s.call = number(rule, "lr"),
            "step_size_g" => s.call = 0.0,
            _ => (),
        }),
    ),
];

const PROX_SGD: &[(&str, &str, Mistake)] = &[
    ("default", "momentum dropped", Text(&[("h.momentum * (*s).b", "(*s).b")])),
    (
        "default",
        "threshold dropped",
        Text(&[("h.step_size * b - k", "h.step_size * b"), ("vec4(h.threshold));", "vec4(0.0));")]),
    ),
    ("sparse", "threshold away from zero", Text(&[("h.step_size * b - k", "h.step_size * b + k")])),
    ("default", "sign of the parameter", Text(&[("z > vec4(0.0)", "p > vec4(0.0)")])),
    ("sparse", "threshold before the step", Text(&[("abs(z) <=", "abs(p) <=")])),
    (
        "sparse",
        "no zeros",
        Text(&[("select(-h.step_size * b - k, -p, abs(z) <= vec4(h.threshold))", "-h.step_size * b - k")]),
    ),
    (
        "sparse",
        "l1 without the rate",
        Scalars(|rule, _, s| {
            if s.name == "threshold" {
                s.call = number(rule, "l1");
            }
        }),
    ),
    ("no_momentum", "threshold dropped", Text(&[("h.step_size * b - k", "h.step_size * b")])),
];

const NADAM: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction", UNCORRECTED_M),
    ("default", "count off by one", LATE_COUNT),
    ("default", "gradient dropped", Text(&[(" + h.one_minus_mu * g / q", "")])),
    ("default", "m dropped", Text(&[("h.next * m / (h.one_minus_next + h.next * q) + ", "")])),
    ("default", "product of the past dropped", Text(&[("h.one_minus_mu + h.mu * (*s).q", "vec4(h.one_minus_mu)")])),
    ("default", "product not ahead", Text(&[("(h.one_minus_next + h.next * q)", "q")])),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("constant_mu", "no gradient of this step", Text(&[("h.one_minus_mu * g / q", "h.one_minus_mu * m / q")])),
    (
        "no_momentum",
        "no bias correction of v",
        Scalars(|rule, t, s| change(s, "step_size", correction(rule, "beta2", t).sqrt().recip())),
    ),
];

const RADAM: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "plain steps dropped", Text(&[(" + h.plain * m", "")])),
    ("default", "rectified steps dropped", Text(&[("h.rectified * m / (sqrt(v) + h.eps) + ", "")])),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps", "sqrt(v + h.eps)")])),
    (
        "default",
        "no rectification",
        Scalars(|rule, t, s| {
            if t > 5 && s.name == "rectified" {
                s.count = correction(rule, "beta2", t).sqrt() / correction(rule, "beta1", t);
            }
        }),
    ),
    ("never_rectified", "count off by one", LATE_COUNT),
    ("no_momentum", "decay dropped", NO_DECAY_L2),
];

const RMSPROP: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    (
        "default",
        "swapped weights",
        Text(&[("h.alpha * (*s).v + h.one_minus_alpha", "h.one_minus_alpha * (*s).v + h.alpha")]),
    ),
    ("default", "ε inside the root", Text(&[("sqrt(spread) + h.eps", "sqrt(spread + h.eps)")])),
    ("default", "ε dropped", Text(&[("sqrt(spread) + h.eps", "sqrt(spread)")])),
    ("default", "old v", Text(&[("max(v - ", "max((*s).v - ")])),
    ("momentum", "momentum dropped", Text(&[("h.momentum * (*s).b + ", "")])),
    (
        "momentum",
        "momentum of the gradient",
        Text(&[("h.momentum * (*s).b + g", "h.momentum * (*s).b + (1.0 - h.momentum) * g")]),
    ),
    ("centered", "not centered", Text(&[("v - g_mean * g_mean", "v")])),
    ("centered", "old mean", Text(&[("v - g_mean * g_mean", "v - (*s).g_mean * (*s).g_mean")])),
    ("centered_momentum", "not centered", Text(&[("v - g_mean * g_mean", "v")])),
];

const ADAGRAD: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", NO_DECAY_L2),
    (
        "default",
        "old sum",
        Text(&[("    (*s).sum = sum;", "    let old = (*s).sum; (*s).sum = sum;"), ("sqrt(sum)", "sqrt(old)")]),
    ),
    ("default", "ε inside the root", Text(&[("sqrt(sum) + h.eps", "sqrt(sum + h.eps)")])),
    ("initial_and_lr_decay", "count off by one", LATE_COUNT),
    (
        "initial_and_lr_decay",
        "rate does not decay",
        Scalars(|_, _, s| {
            if s.name == "step_size" {
                s.count = 1.0;
            }
        }),
    ),
    ("initial_and_lr_decay", "an average", Text(&[("(*s).sum + g * g", "0.9 * (*s).sum + g * g")])),
];

const ADABELIEF: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("-h.decay * p - h.step_size", "-h.step_size")])),
    ("default", "Adam", Text(&[("(g - m) * (g - m)", "g * g")])),
    ("default", "deviation from the old m", Text(&[("(g - m) * (g - m)", "(g - (*state).m) * (g - (*state).m)")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in s", SWAPPED_BETAS_V),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of s", UNCORRECTED_V),
    ("large_eps", "ε_root dropped", Text(&[(" + h.eps_root", "")])),
    ("large_eps", "ε dropped", Text(&[("sqrt(s) + h.eps_hat", "sqrt(s)")])),
    ("large_eps", "ε inside the root", Text(&[("sqrt(s) + h.eps_hat", "sqrt(s + h.eps_hat)")])),
    ("large_eps", "ε_root not kept", Text(&[(" + h.eps_root", ""), ("sqrt(s) + ", "sqrt(s + h.eps_root) + ")])),
];

const LION: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("-h.decay * p - step", "-step")])),
    (
        "default",
        "decay in the gradient",
        Text(&[("h.step_size * sign(c)", "h.step_size * sign(c + h.decay * p)"), ("-h.decay * p - step", "-step")]),
    ),
    ("default", "sign of the moment", Text(&[("h.step_size * sign(c)", "h.step_size * sign((*s).m)")])),
    ("default", "sign of the gradient", Text(&[("h.step_size * sign(c)", "h.step_size * sign(g)")])),
    (
        "default",
        "swapped betas",
        Text(&[("h.beta1 * m + h.one_minus_beta1 * g", "h.beta2 * m + h.one_minus_beta2 * g")]),
    ),
    ("default", "β1 in the moment", Text(&[("h.beta2 * (*s).m", "h.beta1 * (*s).m")])),
    ("no_momentum", "decay dropped", Text(&[("-h.decay * p - step", "-step")])),
    ("cautious", "every element moves", Text(&[("step *= d.scale * wo_agreeing(c, g)", "step *= d.scale")])),
    ("cautious", "not scaled", Text(&[("step *= d.scale * wo_agreeing(c, g)", "step *= wo_agreeing(c, g)")])),
    ("cautious", "share of all tensors", Text(&[("own[0], own[1]", "totals[0], totals[1]")])),
    (
        "cautious",
        "share of the old moment",
        Text(&[("wo_agreeing(interpolated(h, s.m, g), g)", "wo_agreeing(s.m, g)")]),
    ),
    ("cautious", "decay dropped", Text(&[("-h.decay * p - step", "-step")])),
    (
        "no_momentum",
        "decay without the rate",
        Scalars(|rule, _, s| {
            if s.name == "decay" {
                s.call = number(rule, "weight_decay");
            }
        }),
    ),
];

const LAMB: &[(&str, &str, Mistake)] = &[
    ("default", "trust ratio 1", Text(&[("h.step_size * d.ratio", "h.step_size")])),
    ("default", "ratio of the squares", Text(&[("sqrt(own[0]) / sqrt(own[1])", "own[0] / own[1]")])),
    (
        "default",
        "ratio over all tensors",
        Text(&[("sqrt(own[0]) / sqrt(own[1])", "sqrt(totals[0]) / sqrt(totals[1])")]),
    ),
    ("default", "norm of the gradient", Text(&[("(p * p, u * u)", "(p * p, g * g)")])),
    ("default", "decay dropped", Text(&[(" + h.lambda * p", "")])),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of v", UNCORRECTED_V),
    ("no_momentum", "decay dropped", Text(&[(" + h.lambda * p", "")])),
];

const VRADAM: &[(&str, &str, Mistake)] = &[
    ("default", "decay dropped", Text(&[("(h.lambda * p + step)", "step")])),
    (
        "default",
        "decay by the free rate",
        Text(&[("-d.eta * (h.lambda * p + step)", "-h.alpha0 * h.lambda * p - d.eta * step")]),
    ),
    ("default", "no brake", Text(&[("h.alpha0 / (1.0 + min(h.beta3 * S, h.alpha1))", "h.alpha0")])),
    ("default", "cutoff dropped", Text(&[("min(h.beta3 * S, h.alpha1)", "h.beta3 * S")])),
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of v", UNCORRECTED_V),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("free", "β3 dropped", Text(&[("h.beta3 * S", "S")])),
    ("free", "norm and not its square", Text(&[("h.beta3 * S", "h.beta3 * sqrt(S)")])),
    ("free", "norm of the old moment", Text(&[("h.w_mg * sums[1], h.w_gg * sums[2]", "0.0, 0.0")])),
    ("free", "cross term dropped", Text(&[("h.w_mg * sums[1]", "0.0")])),
    ("free", "norm of one tensor", Text(&[("max(totals[0], 0.0)", "max(own[0], 0.0)")])),
    ("cautious", "every element moves", Text(&[("step *= d.scale * wo_agreeing(m, g)", "step *= d.scale")])),
    ("cautious", "not scaled", Text(&[("step *= d.scale * wo_agreeing(m, g)", "step *= wo_agreeing(m, g)")])),
    ("cautious", "share of all tensors", Text(&[("own[1], own[2]", "totals[1], totals[2]")])),
    (
        "cautious",
        "share of the old moment",
        Text(&[("wo_agreeing(first_moment(h, s.m, g), g)", "wo_agreeing(s.m, g)")]),
    ),
    ("cautious", "norm of one tensor", Text(&[("max(totals[0], 0.0)", "max(own[0], 0.0)")])),
    ("cautious", "cross term dropped", Text(&[("h.w_mg * s.m * g + ", "")])),
    (
        "cautious",
        "decay scaled",
        Text(&[("-d.eta * (h.lambda * p + step)", "-d.eta * (d.scale * h.lambda * p + step)")]),
    ),
    ("cautious_gradient_norm", "gradient dropped from the norm", Text(&[(" + h.w_gg * g * g", "")])),
    (
        "gradient_norm",
        "norm of the moment",
        Scalars(|_, _, s| match s.name {
            "w_mm" => s.call = 0.81,
            "w_mg" => s.call = 0.18,
            "w_gg" => s.call = 0.01,
            _ => (),
        }),
    ),
];

const ADAI: &[(&str, &str, Mistake)] = &[
    ("default", "mean over one tensor", Text(&[("sum_of_v(totals) / totals[2]", "sum_of_v(own) / own[2]")])),
    ("default", "mean over one element more", Text(&[("/ totals[2]", "/ (totals[2] + 1.0)")])),
    ("default", "mean over tensors", Text(&[("vec3(elements, 0.0, 0.0)", "vec3(1.0, 0.0, 0.0)")])),
    ("default", "mean of the old v", Text(&[("h.w_gg * sums[3]", "0.0")])),
    ("default", "mean without correction", Text(&[("h.correction * sum_of_v(totals)", "sum_of_v(totals)")])),
    ("default", "lower bound dropped", Text(&[("vec4(h.eps), vec4(1.0)", "vec4(0.0), vec4(1.0)")])),
    ("default", "product not kept", Text(&[("let q = b + (1.0 - b) * (*s).q", "let q = b")])),
    ("default", "product not divided by", Text(&[("h.step_size * m / q", "h.step_size * m")])),
    (
        "default",
        "old m",
        Text(&[
            ("    (*s).m = m;", "    let old = (*s).m; (*s).m = m;"),
            ("h.step_size * m / q", "h.step_size * old / q"),
        ]),
    ),
    ("clamped", "upper bound dropped", Text(&[("vec4(h.eps), vec4(1.0)", "vec4(h.eps), vec4(9.0)")])),
    ("dampening", "exponent dropped", Text(&[("r = pow(r, vec4(h.exponent));", "")])),
    ("dampening", "gain dropped", Text(&[("gain = pow(b, vec4(h.dampening));", "")])),
    (
        "dampening",
        "rate not scaled",
        Scalars(|rule, _, s| {
            if s.name == "step_size" {
                s.call = number(rule, "lr");
            }
        }),
    ),
];
