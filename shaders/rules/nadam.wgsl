// NAdam (Dozat 2016) as torch.optim.NAdam has it.
//
//   g ← g + λθ                                      L2
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   μ_t = β1 (1 - ½ 0.96^{tψ})                       ψ momentum_decay
//   m̂ = μ_{t+1} m / (1 - Π_{i≤t+1} μ_i) + (1-μ_t) g / (1 - Π_{i≤t} μ_i)        v̂ = v / (1-β2^t)
//   Δθ = -η m̂ / (√v̂ + ε)
//
//   step_size_m and step_size_g are η √(1-β2^t) times the factors of m and g in m̂; ε̂ = ε √(1-β2^t). decay = λ.
//   With β1 = 0 step_size_m is 0 and m is not kept.

struct Hyper {
    step_size_m: f32,
    step_size_g: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + wo_square(h.one_minus_beta2, g);
    (*s).m = m;
    (*s).v = v;
    return -(h.step_size_m * m + h.step_size_g * g) / (sqrt(v) + h.eps_hat);
}
