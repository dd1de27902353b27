// Adagrad (Duchi et al. 2011) as in torch.optim.Adagrad.
//
//   g ← g + λθ                                      L2
//   sum ← sum + g²                                  sum starts at initial_accumulator_value
//   Δθ = -step_size · g / (√sum + ε)
//
//   step_size = η / (1 + (t-1) lr_decay), decay = λ.

struct Hyper {
    step_size: f32,
    eps: f32,
    decay: f32,
}

struct State { sum: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let sum = (*s).sum + g * g;
    (*s).sum = sum;
    return -h.step_size * g / (sqrt(sum) + h.eps);
}

struct Own { lr: f32, lr_decay: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    at.step_size = own.lr / (1.0 + (n - 1.0) * own.lr_decay);
    return at;
}
