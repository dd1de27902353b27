// Proximal SGD: a step of SGD with momentum (torch's buffer, no dampening), then the soft threshold, which is the proximal map of
// η l1 ‖θ‖₁. The experiments of S-Adam (arXiv 2605.29547, the authors' scripts) compare with this Prox-SGD.
//
//   b ← μ b + g
//   z = θ - η b
//   θ ← sign(z) max(|z| - k, 0)          k = η l1
//
//   As a change: Δθ = -θ, exactly, where |z| ≤ k, and -η b - k sign(z) elsewhere. step_size = η, threshold = k.
//   With μ = 0, b is not kept: it loads as 0, so that b = g.

struct Hyper {
    step_size: f32,
    threshold: f32,
    momentum: f32,
}

struct State { b: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let b = h.momentum * (*s).b + g;
    (*s).b = b;
    let z = p - h.step_size * b;
    let k = select(vec4(-h.threshold), vec4(h.threshold), z > vec4(0.0));
    return select(-h.step_size * b - k, -p, abs(z) <= vec4(h.threshold));
}
