// Adamax (Kingma & Ba 2015, algorithm 2) as torch.optim.Adamax has it: Adam with a decaying maximum in place of the second moment.
//
//   g ← g + λθ                                      L2
//   m ← β1 m + (1-β1) g        u ← max(β2 u, |g| + ε)
//   Δθ = -step_size · m / u
//
//   step_size = η / (1-β1^t), decay = λ. u needs no bias correction. With β1 = 0 m is not kept.

struct Hyper {
    step_size: f32,
    eps: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
}

struct State { m: vec4<f32>, u: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let u = max(h.beta2 * (*s).u, abs(g) + h.eps);
    (*s).m = m;
    (*s).u = u;
    return -h.step_size * m / u;
}
