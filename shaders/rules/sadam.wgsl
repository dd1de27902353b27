// S-Adam (arXiv 2605.29547; the authors' code is the authority): AdamW damped by the variance of directional derivatives.
//
//   D_j = (f(θ + σ u_j) - f(θ)) / σ for k random directions u_j
//   LGI = Var(D) / (mean(D²) + ζ), Var is unbiased, and 0 with one direction
//   damp = exp(-λ min(LGI, cap))
//   m ← β1 m + (1-β1) g        v ← β2 v + (1-β2) g²
//   Δθ = -η wd θ - step_size · damp · m / (√v + ε)
//
//   step_size = η √(1-β2^t) / (1-β1^t); the decay is not damped. The harness computes the directions, the caller the losses.

struct Hyper {
    step_size: f32,
    eps: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    sigma: f32,
    lambda: f32,
    zeta: f32,
    cap: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }
struct Decision { damp: f32, lgi: f32 }

fn decide(h: Hyper, slopes: array<f32, PROBES>) -> Decision {
    const k = f32(PROBES);
    var sum = 0.0;
    var squares = 0.0;
    for (var j = 0u; j < PROBES; j++) {
        sum += slopes[j];
        squares += slopes[j] * slopes[j];
    }
    let mean = sum / k;
    var deviations = 0.0;
    for (var j = 0u; j < PROBES; j++) {
        deviations += (slopes[j] - mean) * (slopes[j] - mean);
    }
    let lgi = deviations / max(k - 1.0, 1.0) / (squares / k + h.zeta);
    // If a square of a slope is beyond f32's range, LGI counts as the cap. The test reads bits, because the `min` of a NaN depends on the driver.
    let bounded = (bitcast<u32>(lgi) & 0x7f800000u) != 0x7f800000u && lgi < h.cap;
    return Decision(exp(-h.lambda * select(h.cap, lgi, bounded)), lgi);
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    return -h.decay * p - h.step_size * d.damp * m / (sqrt(v) + h.eps);
}

struct Own { lr: f32, ln_beta1: f32, ln_beta2: f32 }

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    at.step_size = own.lr * sqrt(wo_bias_correction(own.ln_beta2, n)) / wo_bias_correction(own.ln_beta1, n);
    return at;
}
