// VRAdam (arXiv 2505.13196, algorithm 1): Adam with a learning rate that falls as the velocity grows, measured over all tensors of all groups.
// The paper calls the first moment v and the second m. Here, as everywhere in this crate, m is the first moment and v the second.
//
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   S = Σ_all |m|²  (norm_of velocity)   or   Σ_all |g|²  (norm_of gradient)
//   η = α0 / (1 + min(β3 S, α1))
//   Δθ = -ηλθ - η · correction · m / (√v + ε̂)
//   cautious (arXiv 2411.16085): the second term is 0 where m g ≤ 0, and is divided elsewhere by max(share of m g > 0 in the tensor, 1e-3)
//
//   correction = √(1-β2^t) / (1-β1^t), ε̂ = ε √(1-β2^t). S is quadratic in the clipped gradient c·g:
//   S = w_mm Σm² + w_mg c Σmg + w_gg c² Σg², with m the moment before this step. Cautious steps count elements by the clipped gradient, so
//   that the sums come after the clip: then c = 1, and one sum holds S.

const SUMS = 3u;
const TOTALS = 3u;

struct Hyper {
    alpha0: f32,
    alpha1: f32,
    beta3: f32,
    lambda: f32,
    correction: f32,
    eps_hat: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    w_mm: f32,
    w_mg: f32,
    w_gg: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }
struct Decision { eta: f32, scale: f32 }

fn first_moment(h: Hyper, m: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return h.beta1 * m + h.one_minus_beta1 * g;
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    if CAUTIOUS {
        let squares = h.w_mm * s.m * s.m + h.w_mg * s.m * g + h.w_gg * g * g;
        return array<vec4<f32>, SUMS>(squares, wo_agreeing(first_moment(h, s.m, g), g), vec4(0.0));
    }
    return array<vec4<f32>, SUMS>(s.m * s.m, s.m * g, g * g);
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    if CAUTIOUS {
        return array<vec3<f32>, TOTALS>(vec3(sums[0], 0.0, 0.0), vec3(sums[1], 0.0, 0.0), vec3(elements, 0.0, 0.0));
    }
    return array<vec3<f32>, TOTALS>(vec3(h.w_mm * sums[0], h.w_mg * sums[1], h.w_gg * sums[2]), vec3(0.0), vec3(0.0));
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    // The three terms may cancel to an S that is below zero by a rounding error.
    let S = max(totals[0], 0.0);
    return Decision(h.alpha0 / (1.0 + min(h.beta3 * S, h.alpha1)), wo_caution(own[1], own[2]));
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = first_moment(h, (*s).m, g);
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    var step = h.correction * m / (sqrt(v) + h.eps_hat);
    if CAUTIOUS {
        step *= d.scale * wo_agreeing(m, g);
    }
    return -d.eta * (h.lambda * p + step);
}

struct Own { eps: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.correction = root / wo_bias_correction(own.ln_beta1, n);
    at.eps_hat = own.eps * root;
    return at;
}
