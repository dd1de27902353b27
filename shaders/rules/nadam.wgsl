// NAdam (Dozat 2016) as in torch.optim.NAdam.
//
//   g ← g + λθ                                      L2
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   μ_t = β1 (1 - ½ 0.96^{tψ})                       ψ: momentum_decay
//   m̂ = μ_{t+1} m / (1 - Π_{i≤t+1} μ_i) + (1-μ_t) g / (1 - Π_{i≤t} μ_i)        v̂ = v / (1-β2^t)
//   Δθ = -η m̂ / (√v̂ + ε)
//
//   The state is q = 1 - Π_{i≤t} μ_i, 0 at first; q ← (1-μ_t) + μ_t q loses no digits when the product is near 1.
//   step_size = η √(1-β2^t), ε̂ = ε √(1-β2^t), decay = λ. With β1 = 0, every μ is 0, and neither m nor q is kept.

struct Hyper {
    step_size: f32,
    mu: f32,
    one_minus_mu: f32,
    next: f32,
    one_minus_next: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, q: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + wo_square(h.one_minus_beta2, g);
    let q = h.one_minus_mu + h.mu * (*s).q;
    (*s).m = m;
    (*s).v = v;
    (*s).q = q;
    let ahead = h.next * m / (h.one_minus_next + h.next * q) + h.one_minus_mu * g / q;
    return -h.step_size * ahead / (sqrt(v) + h.eps_hat);
}

struct Own { lr: f32, eps: f32, ln_beta2: f32, fade: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.step_size = own.lr * root;
    at.eps_hat = own.eps * root;
    // fade = ψ ln 0.96; 1-μ comes from 1-β1, which has no cancellation.
    let halved = 0.5 - 0.5 * vec2(wo_one_minus_exp(n * own.fade), wo_one_minus_exp((n + 1.0) * own.fade));
    let mu = at.beta1 * (1.0 - halved);
    let one_minus_mu = at.one_minus_beta1 + at.beta1 * halved;
    at.mu = mu.x;
    at.one_minus_mu = one_minus_mu.x;
    at.next = mu.y;
    at.one_minus_next = one_minus_mu.y;
    return at;
}
