// Adam (Kingma & Ba 2015, algorithm 1), AMSGrad (Reddi et al. 2018) and AdamW (Loshchilov & Hutter 2019, algorithm 2) as in
// torch.optim.
//
//   g ← g + λθ                                      Adam only: L2
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²        v_max ← max(v_max, v)
//   Δθ = -ηλθ  [AdamW only]  - step_size · m / (√v_max + ε̂)
//   cautious (arXiv 2411.16085): the second term is 0 where m g ≤ 0, and is divided elsewhere by max(share of m g > 0 in the tensor, 1e-3)
//
//   step_size = η √(1-β2^t) / (1-β1^t) and ε̂ = ε √(1-β2^t) put both bias corrections into scalars.
//   decay = λ for Adam, ηλ for AdamW. Without AMSGrad, v_max is not kept: it loads as 0, so that max(v_max, v) = v.
//   With β1 = 0, m is not kept either.

const SUMS = 1u;
const TOTALS = 2u;

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
struct Decision { scale: f32 }

fn decayed(h: Hyper, p: vec4<f32>, gradient: vec4<f32>) -> vec4<f32> {
    return select(gradient + h.decay * p, gradient, DECOUPLED);
}

fn first_moment(h: Hyper, m: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return h.beta1 * m + h.one_minus_beta1 * g;
}

fn contribute(h: Hyper, p: vec4<f32>, gradient: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    let g = decayed(h, p, gradient);
    return array<vec4<f32>, SUMS>(wo_agreeing(first_moment(h, s.m, g), g));
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    return array<vec3<f32>, TOTALS>(vec3(sums[0], 0.0, 0.0), vec3(elements, 0.0, 0.0));
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    return Decision(wo_caution(own[0], own[1]));
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = decayed(h, p, gradient);
    let m = first_moment(h, (*s).m, g);
    let v = h.beta2 * (*s).v + wo_square(h.one_minus_beta2, g);
    let v_max = max((*s).v_max, v);
    (*s).m = m;
    (*s).v = v;
    (*s).v_max = v_max;
    let shrink = select(vec4(0.0), h.decay * p, DECOUPLED);
    var step = h.step_size * m / (sqrt(v_max) + h.eps_hat);
    if CAUTIOUS {
        step *= d.scale * wo_agreeing(m, g);
    }
    return -shrink - step;
}

struct Own { lr: f32, eps: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.step_size = own.lr * root / wo_bias_correction(own.ln_beta1, n);
    at.eps_hat = own.eps * root;
    return at;
}
