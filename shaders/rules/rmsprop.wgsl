// RMSprop (Tieleman & Hinton 2012; centered: Graves 2013) as in torch.optim.RMSprop.
//
//   g ← g + λθ                                      L2
//   v ← α v + (1-α) g²
//   ḡ ← α ḡ + (1-α) g                              centered only
//   b ← μ b + g / (√(v - ḡ²) + ε)
//   Δθ = -η b
//
//   μ: momentum; decay = λ. mean_gain = 1-α if centered. Otherwise mean_gain is 0, and ḡ is not kept and stays 0.
//   With μ = 0, b is not kept either: it loads as 0.

struct Hyper {
    step_size: f32,
    eps: f32,
    decay: f32,
    momentum: f32,
    alpha: f32,
    one_minus_alpha: f32,
    mean_gain: f32,
}

struct State { v: vec4<f32>, g_mean: vec4<f32>, b: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let v = h.alpha * (*s).v + h.one_minus_alpha * g * g;
    let g_mean = h.alpha * (*s).g_mean + h.mean_gain * g;
    // Where the gradient hardly changes, v - ḡ² may be below zero by a rounding error.
    let spread = max(v - g_mean * g_mean, vec4(0.0));
    let b = h.momentum * (*s).b + g / (sqrt(spread) + h.eps);
    (*s).v = v;
    (*s).g_mean = g_mean;
    (*s).b = b;
    return -h.step_size * b;
}
