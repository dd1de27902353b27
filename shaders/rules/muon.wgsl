// Muon (Jordan et al. 2024), as torch.optim.Muon. The harness makes the matrices orthogonal between `direction` and `update`.
//
//   m ← μ m + (1-μ) g       u = (1-μ) g + μ m with NESTEROV, else m       o = k · orthogonal(u)       Δθ = -η λ θ - η o

struct Hyper {
    lr: f32,
    decay: f32,
    momentum: f32,
    one_minus_momentum: f32,
}

struct State { m: vec4<f32>, o: vec4<f32> }

fn new_momentum(h: Hyper, g: vec4<f32>, m: vec4<f32>) -> vec4<f32> {
    return h.momentum * m + h.one_minus_momentum * g;
}

// u, from the momentum before the step.
fn direction(h: Hyper, g: vec4<f32>, s: State) -> vec4<f32> {
    let m = new_momentum(h, g, s.m);
    return select(m, h.one_minus_momentum * g + h.momentum * m, NESTEROV);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    (*s).m = new_momentum(h, g, (*s).m);
    return -h.decay * p - h.lr * (*s).o;
}
