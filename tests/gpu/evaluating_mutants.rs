//! Mistakes in the rules that evaluate the objective or learn while they step.

use crate::mutants::Mistake::{self, Text};
use crate::mutants::{F32_BETA2, LATE_COUNT, SWAPPED_BETAS_M, SWAPPED_BETAS_V, UNCORRECTED_M, UNCORRECTED_V};

pub(crate) const FLOWADAM: &[(&str, &str, Mistake)] = &[
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "1-β2 in f32", F32_BETA2),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "count off by one", LATE_COUNT),
    ("default", "last gradient not kept", Text(&[("    (*s).g_prev = g;\n", "")])),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps", "sqrt(v + h.eps)")])),
    ("default", "norm and not its average", Text(&[("h.beta_s * before.norm + h.one_minus_beta_s * norm", "norm")])),
    ("default", "norm of one tensor", Text(&[("sqrt(totals[0])", "sqrt(own[0])")])),
    ("default", "curvature without the last gradient", Text(&[("let change = g - s.g_prev", "let change = g")])),
    ("flow", "no flow", Text(&[("select(0.0, 1.0, wanted", "select(0.0, 0.0, wanted")])),
    ("flow", "a trigger not counted", Text(&[("before.triggers + flow", "before.triggers")])),
    ("flow", "clamp dropped", Text(&[("-h.horizon * clamped(h, g)", "-h.horizon * g")])),
    ("flow", "cap dropped", Text(&[("h.cap > 0.0 && q > m", "false")])),
    ("flow", "cap over all tensors", Text(&[("sqrt(own[2])", "sqrt(totals[2])"), ("sqrt(own[3])", "sqrt(totals[3])")])),
    ("flow", "injected upside down", Text(&[("let q = -h.inverse_rate * moved", "let q = h.inverse_rate * moved")])),
    (
        "flow",
        "γ swapped",
        Text(&[("h.one_minus_gamma * (*s).m + h.gamma * d.r", "h.gamma * (*s).m + h.one_minus_gamma * 0.8 * d.r")]),
    ),
    ("flow", "Adam's change as well", Text(&[("        return moved;\n", "")])),
    (
        "flow",
        "the flow counts as a step of Adam's",
        Text(&[("        return moved;\n", "        (*s).v += g * g; return moved;\n")]),
    ),
    ("hard", "soft", Text(&[("h.one_minus_gamma * (*s).m", "0.5 * (*s).m")])),
    ("stiff", "curvature not asked", Text(&[(" || curvature > h.alpha_c * curvature_average", "")])),
    ("flow", "warm-up ignored", Text(&[("wanted && before.outer + 0.5 > h.warmup", "wanted")])),
];

pub(crate) const SADAM: &[(&str, &str, Mistake)] = &[
    ("default", "swapped betas in m", SWAPPED_BETAS_M),
    ("default", "swapped betas in v", SWAPPED_BETAS_V),
    ("default", "no bias correction of m", UNCORRECTED_M),
    ("default", "no bias correction of v", UNCORRECTED_V),
    ("default", "decay dropped", Text(&[("-h.decay * p - ", "-")])),
    ("default", "decay damped", Text(&[("-h.decay * p", "-h.decay * d.damp * p")])),
    ("default", "no damping", Text(&[("h.step_size * d.damp", "h.step_size")])),
    ("default", "variance over k", Text(&[("max(k - 1.0, 1.0)", "k")])),
    ("default", "mean square without its mean", Text(&[("squares / k", "squares")])),
    ("default", "ε inside the root", Text(&[("sqrt(v) + h.eps", "sqrt(v + h.eps)")])),
    ("paper", "slopes not centred", Text(&[("(slopes[j] - mean) * (slopes[j] - mean)", "slopes[j] * slopes[j]")])),
    (
        "paper",
        "one probe left out",
        Text(&[("        sum += slopes[j];", "        sum += slopes[j % (PROBES - 1u)];")]),
    ),
    ("one_probe", "damped all the same", Text(&[("exp(-h.lambda", "exp(-1.0 - h.lambda")])),
];

pub(crate) const WARPADAM: &[(&str, &str, Mistake)] = &[
    ("frozen", "swapped betas in m", SWAPPED_BETAS_M),
    ("frozen", "swapped betas in v", SWAPPED_BETAS_V),
    ("frozen", "1-β2 in f32", F32_BETA2),
    ("frozen", "no bias correction of m", UNCORRECTED_M),
    ("frozen", "count off by one", LATE_COUNT),
    ("frozen", "ε inside the root", Text(&[("sqrt(v) + h.eps_hat", "sqrt(v + h.eps_hat)")])),
    ("diagonal", "no bias correction of v", UNCORRECTED_V),
    ("diagonal", "old m", Text(&[("h.step_size * m", "h.step_size * (*s).m * 0.9")])),
];
