// Prodigy (Mishchenko & Defazio, arXiv 2306.06101) as in the authors' package: AdamW whose rate is an estimate d of the distance from the
// start to the solution, measured over all tensors of all groups.
//
//   k = η [√(1-β2^t) / (1-β1^t) with bias_correction], δ = d k
//   N ← β3 N + (d²/d0) Σ_all k g (θ0 - θ)
//   s ← β3 s + (d²/d0) k' g                         k' = k, 1 with safeguard_warmup
//   d̂ = d_coef N / Σ_all |s|                        where the sum is 0 the step is skipped
//   d' ← max(d, d̂) where d = d0, else d; d_max ← max(d_max, d̂); d' ← min(d_max, d' growth_rate)
//   m ← β1 m + (1-β1) d g        v ← β2 v + (1-β2) d² g²
//   Δθ = -δλθ - δ m / (√v + d' ε);  d ← d'
//
//   The states are n = N d0/d² and z = s d0/d², with the d of the next step. Neither has d in its increment, so that the sums need no d, and d²
//   does not leave f32's range. d̂ is the same quotient. θ0 starts at the largest number of f32, which says that an element has not begun; the
//   global state starts at 0, which says the same of d.

const SUMS = 2u;
const TOTALS = 2u;

struct Hyper {
    rate: f32,
    gain: f32,
    lambda: f32,
    eps: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    beta3: f32,
    d0: f32,
    d_coef: f32,
    growth_rate: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, z: vec4<f32>, p0: vec4<f32> }
struct Decision { d: f32, next: f32, shrink: f32 }
struct GlobalState { d: f32, d_max: f32, n: f32 }

fn start(p: vec4<f32>, s: State) -> vec4<f32> {
    return select(s.p0, p, s.p0 >= vec4(3.0e38));
}

fn direction(h: Hyper, g: vec4<f32>, s: State) -> vec4<f32> {
    return h.beta3 * s.z + h.gain * g;
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    return array<vec4<f32>, SUMS>(g * (start(p, s) - p), abs(direction(h, g, s)));
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    return array<vec3<f32>, TOTALS>(vec3(h.rate * sums[0], 0.0, 0.0), vec3(sums[1], 0.0, 0.0));
}

fn refuse(totals: array<f32, TOTALS>) -> bool {
    return totals[1] <= 0.0;
}

fn decide(
    h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>, state: ptr<function, GlobalState>,
) -> Decision {
    let before = *state;
    let d = select(before.d, h.d0, before.d == 0.0);
    let n = h.beta3 * before.n + totals[0];
    let estimate = h.d_coef * n / totals[1];
    let d_max = max(select(before.d_max, h.d0, before.d == 0.0), estimate);
    // d that has not grown is d0 up to rounding: it may come from a file, or from an optimizer in another number type.
    let grown = select(d, max(d, estimate), d <= 1.00001 * h.d0);
    let next = min(d_max, grown * h.growth_rate);
    let share = d / next;
    *state = GlobalState(next, d_max, share * share * n);
    return Decision(d, next, share * share);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let scaled = d.d * g;
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * scaled;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * scaled * scaled;
    let z = d.shrink * direction(h, g, *s);
    let p0 = start(p, *s);
    (*s).m = m;
    (*s).v = v;
    (*s).z = z;
    (*s).p0 = p0;
    return -(h.rate * d.d) * (h.lambda * p + m / (sqrt(v) + d.next * h.eps));
}
