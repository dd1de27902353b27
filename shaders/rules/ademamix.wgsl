// AdEMAMix (arXiv 2409.03137): AdamW with a second, slow average of the gradients.
//
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²        n ← β3_t n + (1-β3_t) g
//   Δθ = -ηλθ - η (m̂ + α_t n) / (√v̂ + ε)              n has no bias correction
//
//   α_t and β3_t rise over the warm-up, from 0 to α and from β1 to β3.
//   step_size = η √(1-β2^t) / (1-β1^t), slow = α_t (1-β1^t) and ε̂ = ε √(1-β2^t) put the bias corrections into scalars; decay = ηλ.
//   With β1 = 0 m is not kept.

struct Hyper {
    step_size: f32,
    slow: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    beta3: f32,
    one_minus_beta3: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, n: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + wo_square(h.one_minus_beta2, g);
    let n = h.beta3 * (*s).n + h.one_minus_beta3 * g;
    (*s).m = m;
    (*s).v = v;
    (*s).n = n;
    return -h.decay * p - h.step_size * (m + h.slow * n) / (sqrt(v) + h.eps_hat);
}
