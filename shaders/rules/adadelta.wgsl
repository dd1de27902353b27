// Adadelta (Zeiler 2012) as torch.optim.Adadelta has it.
//
//   g ← g + λθ                                      L2
//   v ← ρ v + (1-ρ) g²
//   δ = g √(a + ε) / √(v + ε)
//   a ← ρ a + (1-ρ) δ²
//   Δθ = -η δ
//
//   step_size = η, decay = λ. δ² is computed from the squares, because the square of the rounded δ has twice its errors.

struct Hyper {
    step_size: f32,
    eps: f32,
    decay: f32,
    rho: f32,
    one_minus_rho: f32,
}

struct State { v: vec4<f32>, a: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let v = h.rho * (*s).v + h.one_minus_rho * g * g;
    let change = g * (sqrt((*s).a + h.eps) / sqrt(v + h.eps));
    let square = g * g / (v + h.eps) * ((*s).a + h.eps);
    (*s).v = v;
    (*s).a = h.rho * (*s).a + h.one_minus_rho * square;
    return -h.step_size * change;
}
