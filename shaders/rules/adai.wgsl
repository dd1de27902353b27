// Adai and AdaiW (Xie et al., arXiv 2006.15815), with the dampening of AdaiV2 (the authors' code): momentum with an inertia that adapts to
// each element, measured against the mean over all tensors of all groups.
//
//   g ← g + λθ                                      Adai only: L2
//   v ← β2 v + (1-β2) g²        v̂ = v / (1-β2^t)
//   v̄ = the mean of v̂ over every element of every tensor; if v̄ is 0, the step is skipped
//   b = 1-β1 = clamp(β0 (v̂/v̄)^{1/(3-2d)}, ε, 1)        d: dampening
//   m ← (1-b) m + b^d g
//   q ← b + (1-b) q                                 q = 1 - Πβ1, which starts at 0
//   Δθ = -ηλθ  [AdaiW only]  - η β0^{1-d} m / q
//
//   The authors keep Πβ1 and compute 1-Πβ1 and 1-β1 by subtraction; b and q are the same numbers without the cancellation.
//   step_size = η β0^{1-d}, decay = λ for Adai and ηλ for AdaiW, exponent = 1/(3-2d), correction = 1-β2^t, mean = (1-β2^t) v̄, so that
//   v̂/v̄ = v/mean. The sum of v̂ is quadratic in the clipped gradient c·g: w_v Σv + w_pp Σp² + c w_pg Σpg + c² w_gg Σg², with v the
//   average before this step. AdaiW has w_pp = w_pg = 0 and so needs no parameter in the sums.

const SUMS = 4u;
const TOTALS = 3u;

struct Hyper {
    step_size: f32,
    decay: f32,
    beta0: f32,
    eps: f32,
    dampening: f32,
    exponent: f32,
    beta2: f32,
    one_minus_beta2: f32,
    correction: f32,
    w_v: f32,
    w_pp: f32,
    w_pg: f32,
    w_gg: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, q: vec4<f32> }
struct Decision { mean: f32 }

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    if DECOUPLED {
        return array<vec4<f32>, SUMS>(s.v, vec4(0.0), vec4(0.0), g * g);
    }
    return array<vec4<f32>, SUMS>(s.v, p * p, p * g, g * g);
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    let past = h.w_v * sums[0];
    return array<vec3<f32>, TOTALS>(
        vec3(past + h.w_pp * sums[1], h.w_pg * sums[2], h.w_gg * sums[3]),
        vec3(past, 0.0, 0.0),
        vec3(elements, 0.0, 0.0),
    );
}

// Where decay and gradient nearly balance, the large terms cancel and the sum is mostly rounding error. The part from the previous v is a
// lower bound of the sum.
fn sum_of_v(totals: array<f32, TOTALS>) -> f32 {
    return max(totals[0], totals[1]);
}

fn refuse(totals: array<f32, TOTALS>) -> bool {
    return sum_of_v(totals) <= 0.0;
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    return Decision(h.correction * sum_of_v(totals) / totals[2]);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = select(gradient + h.decay * p, gradient, DECOUPLED);
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    var r = v / d.mean;
    if h.dampening != 1.0 {
        r = pow(r, vec4(h.exponent));
    }
    let b = clamp(h.beta0 * r, vec4(h.eps), vec4(1.0));
    var gain = b;
    if h.dampening != 1.0 {
        gain = pow(b, vec4(h.dampening));
    }
    let m = (1.0 - b) * (*s).m + gain * g;
    let q = b + (1.0 - b) * (*s).q;
    (*s).m = m;
    (*s).v = v;
    (*s).q = q;
    let shrink = select(vec4(0.0), h.decay * p, DECOUPLED);
    return -shrink - h.step_size * m / q;
}

struct Own { ln_beta2: f32, w_v: f32, w_pp: f32, w_pg: f32, w_gg: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let bc2 = wo_bias_correction(own.ln_beta2, n);
    at.correction = bc2;
    at.w_v = own.w_v / bc2;
    at.w_pp = own.w_pp / bc2;
    at.w_pg = own.w_pg / bc2;
    at.w_gg = own.w_gg / bc2;
    return at;
}
