// SGD with momentum and Nesterov's form (Sutskever et al. 2013) as in torch.optim.SGD.
//
//   g ← g + λθ                                      L2
//   b ← μ b + gain · g                              gain = 1-τ, and 1 at the first step: torch starts b with the gradient itself
//   Δθ = -η b        or, with nesterov,        Δθ = -η (g + μ b)
//
//   μ: momentum; τ: dampening; decay = λ. step_size_b = η and step_size_g = 0, or with nesterov step_size_b = ημ and step_size_g = η.
//   With μ = 0, gain is 1 and b is not kept: it loads as 0, so that b = g.

struct Hyper {
    step_size_b: f32,
    step_size_g: f32,
    decay: f32,
    momentum: f32,
    gain: f32,
}

struct State { b: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let b = h.momentum * (*s).b + h.gain * g;
    (*s).b = b;
    return -(h.step_size_b * b + h.step_size_g * g);
}

struct Own { gain: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    at.gain = select(own.gain, 1.0, n < 1.5);
    return at;
}
