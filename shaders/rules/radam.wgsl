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

struct Own { lr: f32, ln_beta1: f32, ln_beta2: f32, limit: f32, rest: f32 }

// coth z - 1/z, for z up to ½.
fn bent(z: f32) -> f32 {
    let s = z * z;
    return z * (0.33333334 + s * (-0.022222223 + s * (0.0021164021 + s * (-0.00021164022 + s * 0.000021377799))));
}

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let bc1 = wo_bias_correction(own.ln_beta1, n);
    let bc2 = wo_bias_correction(own.ln_beta2, n);
    // With x = -ln β2: ρ = coth(x/2) - n coth(nx/2) + n. For small nx the two large terms cancel, and what bends them is left: rest is
    // coth(x/2) - 2/x. limit = ρ∞.
    let y = -n * own.ln_beta2;
    var rho = own.limit - 2.0 * n * (1.0 - bc2) / bc2;
    if y < 1.0 {
        rho = n + own.rest - n * bent(0.5 * y);
    }
    at.rectified = 0.0;
    at.plain = own.lr / bc1;
    if rho > 5.0 {
        let r = sqrt((rho - 4.0) / (own.limit - 4.0) * ((rho - 2.0) / (own.limit - 2.0)) * (own.limit / rho));
        at.rectified = own.lr * r * sqrt(bc2) / bc1;
        at.plain = 0.0;
    }
    return at;
}
