// Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), as in the authors' package schedulefree.
//
//   z ← z - γ u            x ← (1-c) x + c z            y = (1-β) z + β x
//   v ← β2 v + (1-β2) g²        u = g / (√v̂ + ε) + λy
//
// Gradients are taken at y, which the parameters hold during training; the model is evaluated at x. The state is gap = z - y, 0 at
// first. With gap, the three lines are
//
//   Δy = c gap - γ (1 - β (1-c)) u        gap ← (1-c) gap - γ β (1-c) u
//
// and x = y - gap (1-β)/β. c, 1-c and both step sizes are decided from the progress, in parts/schedule_free.wgsl.

struct Hyper {
    rate: f32,
    carry: f32,
    power: f32,
    beta: f32,
    one_minus_beta: f32,
    correction: f32,
    eps_hat: f32,
    decay: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { gap: vec4<f32>, v: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).v = v;
    let u = h.correction * g / (sqrt(v) + h.eps_hat) + h.decay * p;
    let gap = (*s).gap;
    (*s).gap = d.keep * gap - d.step_size_gap * u;
    return d.average * gap - d.step_size_y * u;
}

struct Own { lr: f32, warmup_steps: f32, r: f32, eps: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = weighed_at(h, own.lr, own.warmup_steps, own.r, n);
    at.correction = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.eps_hat = own.eps * at.correction;
    return at;
}
