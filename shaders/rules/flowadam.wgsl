// FlowAdam (arXiv 2604.06652; the authors' code is the authority): Adam that follows the flow of the clipped gradient where the
// gradient's norm falls below its average (plateau) or the gradient changes much (stiff). The letters are the paper's.
//
//   N = ‖g‖, K = ‖g - g_prev‖ over all tensors; N̄, K̄ their averages
//   flow if (N < α_s N̄ or K > α_c K̄) and the warm-up is over
//   Adam:  m ← β1 m + (1-β1) g     v ← β2 v + (1-β2) g²     Δθ = -step_size · m / (√v + ε)
//   flow:  Δθ = ∫ -clamp(∇f, -1, 1) dt over [0, T], T = ητ     q = -Δθ/η     m ← (1-γ) m + γ r q     v and the step count stay
//   g_prev ← g in both
//
//   step_size = η √(1-β2^s) / (1-β1^s), s counts only Adam's steps. r limits the injection of q: ‖r q‖ ≤ cap ‖m‖ for each tensor.
//   Euler's integral is -T clamp(g), which needs no evaluation. Other integrators store the integral in `displacement`, and the gradient
//   at the step's start in g_prev, because evaluations overwrite the caller's gradients.

const SUMS = 4u;
const TOTALS = 4u;

struct Hyper {
    step_size: f32,
    eps: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    horizon: f32,
    inverse_rate: f32,
    limit: f32,
    gamma: f32,
    one_minus_gamma: f32,
    cap: f32,
    alpha_s: f32,
    alpha_c: f32,
    beta_s: f32,
    one_minus_beta_s: f32,
    warmup: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, g_prev: vec4<f32>, displacement: vec4<f32> }
struct Decision { flow: f32, r: f32 }
struct GlobalState { outer: f32, norm: f32, curvature: f32, triggers: f32 }

// A NaN stays a NaN: the result of clamp for a NaN depends on the driver.
fn clamped(h: Hyper, g: vec4<f32>) -> vec4<f32> {
    let lost = (bitcast<vec4<u32>>(g) & vec4(0x7fffffffu)) > vec4(0x7f800000u);
    return select(clamp(g, vec4(-h.limit), vec4(h.limit)), g, lost);
}

fn displaced(h: Hyper, g: vec4<f32>, s: State) -> vec4<f32> {
    return select(-h.horizon * clamped(h, g), s.displacement, STAGED);
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    let change = g - s.g_prev;
    let q = h.inverse_rate * displaced(h, g, s);
    return array<vec4<f32>, SUMS>(g * g, change * change, s.m * s.m, q * q);
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    return array<vec3<f32>, TOTALS>(
        vec3(sums[0], 0.0, 0.0), vec3(sums[1], 0.0, 0.0), vec3(sums[2], 0.0, 0.0), vec3(sums[3], 0.0, 0.0));
}

fn decide(
    h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>, state: ptr<function, GlobalState>,
) -> Decision {
    let norm = sqrt(totals[0]);
    let curvature = sqrt(totals[1]);
    let before = *state;
    let first = before.outer == 0.0;
    let norm_average = select(h.beta_s * before.norm + h.one_minus_beta_s * norm, norm, first);
    let curvature_average = select(h.beta_s * before.curvature + h.one_minus_beta_s * curvature, curvature, first);
    let wanted = norm < h.alpha_s * norm_average || curvature > h.alpha_c * curvature_average;
    let flow = select(0.0, 1.0, wanted && before.outer + 0.5 > h.warmup);
    *state = GlobalState(before.outer + 1.0, norm_average, curvature_average, before.triggers + flow);
    if STAGED {
        // The displacement in the state belongs to an earlier step until the integrator has run.
        return Decision(flow, 1.0);
    }
    return settle(h, totals, own, Decision(flow, 1.0));
}

fn settle(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>, d: Decision) -> Decision {
    let m = h.cap * sqrt(own[2]);
    let q = sqrt(own[3]);
    // Where the flow diverged, the step is an Adam step.
    let lost = (bitcast<u32>(totals[3]) & 0x7f800000u) == 0x7f800000u;
    return Decision(select(d.flow, 0.0, lost), select(1.0, m / (q + 1e-8), h.cap > 0.0 && q > m));
}

fn hold(d: Decision) -> bool {
    return d.flow != 0.0;
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = select(gradient, (*s).g_prev, STAGED);
    let moved = displaced(h, g, *s);
    (*s).g_prev = g;
    if d.flow != 0.0 {
        let q = -h.inverse_rate * moved;
        (*s).m = h.one_minus_gamma * (*s).m + h.gamma * d.r * q;
        return moved;
    }
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    return -h.step_size * m / (sqrt(v) + h.eps);
}

struct Own { lr: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    at.step_size = own.lr * sqrt(wo_bias_correction(own.ln_beta2, n)) / wo_bias_correction(own.ln_beta1, n);
    return at;
}
