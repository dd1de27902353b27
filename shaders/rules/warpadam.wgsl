// WarpAdam (arXiv 2409.04244): Adam on w = P g. The paper does not define P or how to learn it. This crate chooses: P is
// block-diagonal over the flattened tensor, starts as the identity, and is learned by the one-step hypergradient.
//
//   P ← P + κ a g_prevᵀ                      learned only, from the second step on; a = g ⊘ d, d = √v̂ + ε of the step before
//   P ← I + (1 - η_P λ_P)(P - I)             the anchor
//   w = P g        m ← β1 m + (1-β1) w        v ← β2 v + (1-β2) w²        Δθ = -step_size · m / (√v + ε̂)
//
//   step_size = η √(1-β2^t) / (1-β1^t), ε̂ = ε √(1-β2^t). The harness multiplies block by block; `update` gets w.
//   raw:         κ = η_P η (1-β1) / (1-β1^(t-1)), the derivative of the loss if d is held constant
//   normalised:  κ = η_P / (‖a‖ ‖g_prev‖) for each block

struct Hyper {
    step_size: f32,
    eps_hat: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    unbias: f32,
    learn: f32,
    keep: f32,
    anchor: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }

// a = g ⊘ d; unbias = 1/(1-β2^(t-1)), and s.v belongs to the previous step.
fn influence(h: Hyper, g: vec4<f32>, s: State) -> vec4<f32> {
    return g / (sqrt(s.v * h.unbias) + h.eps);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, w: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * w;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * w * w;
    (*s).m = m;
    (*s).v = v;
    return -h.step_size * m / (sqrt(v) + h.eps_hat);
}

struct Own { lr: f32, eps: f32, learn: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.step_size = own.lr * root / wo_bias_correction(own.ln_beta1, n);
    at.eps_hat = own.eps * root;
    // The first step has no previous step to learn from.
    at.unbias = 0.0;
    at.learn = 0.0;
    if n > 1.5 {
        at.unbias = 1.0 / wo_bias_correction(own.ln_beta2, n - 1.0);
        at.learn = own.learn / select(wo_bias_correction(own.ln_beta1, n - 1.0), 1.0, NORMALISED);
    }
    return at;
}
