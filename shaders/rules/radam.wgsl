// RAdam (Liu et al. 2020) as in torch.optim.RAdam.
//
//   g ← g + λθ                                      L2
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   ρ∞ = 2/(1-β2) - 1        ρ = ρ∞ - 2tβ2^t/(1-β2^t)
//   Δθ = -η r m̂ √(1-β2^t) / (√v + ε)        where ρ > 5, with r = √((ρ-4)(ρ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρ))
//   Δθ = -η m̂                               elsewhere
//
//   rectified = η r √(1-β2^t) / (1-β1^t) or 0, plain = 0 or η / (1-β1^t): one of the two is 0, so no branch is needed. decay = λ.
//   ε is added to √v without bias correction. With β1 = 0, m is not kept.

struct Hyper {
    rectified: f32,
    plain: f32,
    eps: f32,
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
    return -(h.rectified * m / (sqrt(v) + h.eps) + h.plain * m);
}
