// Rprop (Riedmiller & Braun 1993) as torch.optim.Rprop has it, Igel & Hüsken's iRprop-: each element has a step of its own.
//
//   σ = sign(g) q                                   q: the sign of the last gradient, 0 at first
//   s ← clamp(s · (η⁺ where σ > 0, η⁻ where σ < 0, else 1), step_min, step_max)        the first s is the learning rate
//   q ← sign(g), 0 where σ < 0
//   Δθ = -s q
//
//   torch keeps the whole last gradient, of which only the sign matters. step_min is above 0, so that s = 0 says that an element has not
//   moved yet.

struct Hyper {
    first: f32,
    eta_minus: f32,
    eta_plus: f32,
    step_min: f32,
    step_max: f32,
}

struct State { q: vec4<f32>, s: vec4<f32> }

// By bits: a sign may take a denormal for 0, and a NaN must not become a 0.
fn direction(g: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(g);
    let magnitude = bits & vec4(0x7fffffffu);
    let one = bitcast<vec4<f32>>((bits & vec4(0x80000000u)) | vec4(0x3f800000u));
    return select(select(one, vec4(0.0), magnitude == vec4(0u)), g, magnitude > vec4(0x7f800000u));
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, state: ptr<function, State>) -> vec4<f32> {
    let now = direction(g);
    let agrees = now * (*state).q;
    let s = select((*state).s, vec4(h.first), (*state).s == vec4(0.0));
    let factor = select(select(vec4(1.0), vec4(h.eta_minus), agrees < vec4(0.0)), vec4(h.eta_plus), agrees > vec4(0.0));
    let next = min(max(s * factor, vec4(h.step_min)), vec4(h.step_max));
    let q = select(now, vec4(0.0), agrees < vec4(0.0));
    (*state).q = q;
    (*state).s = next;
    return -next * q;
}
