// Averaged stochastic gradient descent (Polyak & Juditsky 1992) as torch.optim.ASGD has it.
//
//   g ← g + λθ                                      L2
//   Δθ = -η (lambd θ + g)                           η: the rate that the step before computed; the learning rate at first
//   η ← lr / (1 + lambd lr t)^α                     for the next step
//   ax ← ax + μ (θ - ax)                            with the moved θ; μ = 1 / max(1, t - 1 - t0), so that ax is θ up to step t0 + 2
//
//   decay = λ. η is a state, because it is of the settings of the step before. It starts at -1, which says that there was no such step.

struct Hyper {
    lr: f32,
    lambd: f32,
    alpha: f32,
    decay: f32,
    steps: f32,
    mu: f32,
}

struct State { ax: vec4<f32>, eta: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, gradient: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let g = gradient + h.decay * p;
    let eta = select((*s).eta, vec4(h.lr), (*s).eta < vec4(0.0));
    let change = -eta * (h.lambd * p + g);
    let next = p + change;
    (*s).ax = select((*s).ax + h.mu * (next - (*s).ax), next, h.mu == 1.0);
    (*s).eta = vec4(h.lr / pow(1.0 + h.lambd * h.lr * h.steps, h.alpha));
    return change;
}
