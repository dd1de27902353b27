// Lion (Chen et al. 2023, algorithm 2) as in optax.lion.
//
//   c = β1 m + (1-β1) g
//   Δθ = -ηλθ - η sign(c)                           sign(0) = 0
//   m ← β2 m + (1-β2) g
//   cautious (arXiv 2411.16085): sign(c) is 0 where c g ≤ 0, and is divided elsewhere by max(share of c g > 0 in the tensor, 1e-3)
//
//   step_size = η, decay = ηλ. With β1 = 0, c is the gradient and m is not kept.

const SUMS = 1u;
const TOTALS = 2u;

struct Hyper {
    step_size: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32> }
struct Decision { scale: f32 }

fn interpolated(h: Hyper, m: vec4<f32>, g: vec4<f32>) -> vec4<f32> {
    return h.beta1 * m + h.one_minus_beta1 * g;
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    return array<vec4<f32>, SUMS>(wo_agreeing(interpolated(h, s.m, g), g));
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    return array<vec3<f32>, TOTALS>(vec3(sums[0], 0.0, 0.0), vec3(elements, 0.0, 0.0));
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    return Decision(wo_caution(own[0], own[1]));
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let c = interpolated(h, (*s).m, g);
    (*s).m = h.beta2 * (*s).m + h.one_minus_beta2 * g;
    var step = h.step_size * sign(c);
    if CAUTIOUS {
        step *= d.scale * wo_agreeing(c, g);
    }
    return -h.decay * p - step;
}
