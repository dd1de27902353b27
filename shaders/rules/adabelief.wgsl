// AdaBelief (Zhuang et al. 2020) as in optax.adabelief, with decoupled decay.
//
//   m ← β1 m + (1-β1) g
//   s ← β2 s + (1-β2) (g-m)² + ε_root               with the new m; ε_root stays in s and accumulates
//   Δθ = -ηλθ - η m̂ / (√ŝ + ε)
//
//   step_size = η √(1-β2^t) / (1-β1^t) and ε̂ = ε √(1-β2^t) put both bias corrections into scalars; decay = ηλ.
//   With β1 = 0, m is not kept.

struct Hyper {
    step_size: f32,
    eps_hat: f32,
    eps_root: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, s: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, state: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*state).m + h.one_minus_beta1 * g;
    let s = h.beta2 * (*state).s + h.one_minus_beta2 * (g - m) * (g - m) + h.eps_root;
    (*state).m = m;
    (*state).s = s;
    return -h.decay * p - h.step_size * m / (sqrt(s) + h.eps_hat);
}

struct Own { lr: f32, eps: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.step_size = own.lr * root / wo_bias_correction(own.ln_beta1, n);
    at.eps_hat = own.eps * root;
    return at;
}
