// Lion (Chen et al. 2023, algorithm 2) as in optax.lion.
//
//   c = β1 m + (1-β1) g
//   Δθ = -ηλθ - η sign(c)                           sign(0) = 0
//   m ← β2 m + (1-β2) g
//
//   step_size = η, decay = ηλ. With β1 = 0, c is the gradient and m is not kept.

struct Hyper {
    step_size: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let c = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    (*s).m = h.beta2 * (*s).m + h.one_minus_beta2 * g;
    return -h.decay * p - h.step_size * sign(c);
}
