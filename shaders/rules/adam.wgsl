// Adam (Kingma & Ba 2015, algorithm 1), AMSGrad (Reddi et al. 2018) and AdamW (Loshchilov & Hutter 2019, algorithm 2) as in
// torch.optim.
//
//   g ← g + λθ                                      Adam only: L2
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²        v_max ← max(v_max, v)
//   Δθ = -ηλθ  [AdamW only]  - step_size · m / (√v_max + ε̂)
//
//   step_size = η √(1-β2^t) / (1-β1^t) and ε̂ = ε √(1-β2^t) put both bias corrections into scalars.
//   decay = λ for Adam, ηλ for AdamW. Without AMSGrad, v_max is not kept: it loads as 0, so that max(v_max, v) = v.
//   With β1 = 0, m is not kept either.

struct Hyper {
    step_size: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, v: vec4<f32>, v_max: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = select(gradient + h.decay * p, gradient, DECOUPLED);
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + wo_square(h.one_minus_beta2, g);
    let v_max = max((*s).v_max, v);
    (*s).m = m;
    (*s).v = v;
    (*s).v_max = v_max;
    let shrink = select(vec4(0.0), h.decay * p, DECOUPLED);
    return -shrink - h.step_size * m / (sqrt(v_max) + h.eps_hat);
}
