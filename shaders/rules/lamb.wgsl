// LAMB (You et al. 2020) as in optax.lamb.
//
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   u = m̂ / (√v̂ + ε) + λθ
//   ratio = ‖θ‖ / ‖u‖, both norms over one tensor; the ratio is 1 if a norm is 0
//   Δθ = -η ratio u
//
//   correction = √(1-β2^t) / (1-β1^t) and ε̂ = ε √(1-β2^t) put both bias corrections into scalars; step_size = η, lambda = λ.
//   The sums use the next moments, so they need the clipped gradient. With β1 = 0, m is not kept.

const SUMS = 2u;
const TOTALS = 2u;

struct Hyper {
    step_size: f32,
    lambda: f32,
    correction: f32,
    eps_hat: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }
struct Decision { ratio: f32 }

// Stores the next moments, and returns u, which follows from them.
fn direction(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    return h.correction * m / (sqrt(v) + h.eps_hat) + h.lambda * p;
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    var next = s;
    let u = direction(h, p, g, &next);
    return array<vec4<f32>, SUMS>(p * p, u * u);
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    return array<vec3<f32>, TOTALS>(vec3(sums[0], 0.0, 0.0), vec3(sums[1], 0.0, 0.0));
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    if own[0] > 0.0 && own[1] > 0.0 {
        return Decision(sqrt(own[0]) / sqrt(own[1]));
    }
    return Decision(1.0);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    return -h.step_size * d.ratio * direction(h, p, g, s);
}

struct Own { eps: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    let root = sqrt(wo_bias_correction(own.ln_beta2, n));
    at.correction = root / wo_bias_correction(own.ln_beta1, n);
    at.eps_hat = own.eps * root;
    return at;
}
