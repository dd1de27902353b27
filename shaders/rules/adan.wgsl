// Adan (arXiv 2208.06677) as in the authors' code, with proximal decay.
//
//   δ = g - q                                       q: the last gradient; δ = 0 at an element's first step
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) δ        n ← β3 n + (1-β3) (g + β2 δ)²
//   θ ← (θ - η (m̂ + β2 v̂) / (√n̂ + ε)) / (1 + ηλ)
//   q ← g
//
//   step_m = η √(1-β3^t) / (1-β1^t), step_v = η β2 √(1-β3^t) / (1-β2^t) and ε̂ = ε √(1-β3^t) put the bias corrections into scalars;
//   decay = ηλ. q starts at the largest number of f32, which says that there was no gradient yet.

struct Hyper {
    step_m: f32,
    step_v: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    beta3: f32,
    one_minus_beta3: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, n: vec4<f32>, q: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let change = select(g - (*s).q, vec4(0.0), (*s).q >= vec4(3.0e38));
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * change;
    let n = h.beta3 * (*s).n + wo_square(h.one_minus_beta3, g + h.beta2 * change);
    (*s).m = m;
    (*s).v = v;
    (*s).n = n;
    (*s).q = g;
    let step = (h.step_m * m + h.step_v * v) / (sqrt(n) + h.eps_hat);
    return -(step + h.decay * p) / (1.0 + h.decay);
}
