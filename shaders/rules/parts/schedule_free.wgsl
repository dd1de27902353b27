// The average of the schedule-free rules, as the authors' schedulefree package has it.
//
//   γ_max ← max(γ_max, γ)        w = t^r γ_max^p        W ← W + w        c = w / W, and 0 where W is 0
//
//   The progress holds W over w, which f32 holds for all t, r and p, and γ_max. carry = ((t-1)/t)^r: the weight of a step before, in units of
//   that of this step, where both have the same γ_max.

struct Progress { weights: f32, largest: f32 }
struct Decision { average: f32, keep: f32, step_size_y: f32, step_size_gap: f32 }

// x to the power of `power`, for x in [0, 1) and powers up to 10. The whole part is a product, which is more precise than a driver's pow.
fn power_of(x: f32, power: f32) -> f32 {
    var product = 1.0;
    for (var i = 1u; i <= 10u; i++) {
        product *= select(1.0, x, f32(i) <= power);
    }
    let rest = power - floor(power);
    if rest > 0.0 && x > 0.0 {
        product *= pow(x, rest);
    }
    return select(product, 0.0, x == 0.0 && power > 0.0);
}

fn proceed(h: Hyper, progress: ptr<function, Progress>) -> Decision {
    let before = (*progress).largest;
    let largest = max(before, h.rate);
    var past = h.carry * (*progress).weights;
    if largest > before {
        past *= power_of(before / largest, h.power);
    }
    // A rate that is 0 so far gives its step no weight.
    let weighs = largest > 0.0 || h.power == 0.0;
    *progress = Progress(select(0.0, 1.0 + past, weighs), largest);
    let c = select(0.0, 1.0 / (1.0 + past), weighs);
    let keep = select(1.0, past / (1.0 + past), weighs);
    return Decision(c, keep, h.rate * (h.one_minus_beta + h.beta * c), h.rate * h.beta * keep);
}

// The members that proceed reads, at the n-th step: the rate of the warm-up, and ((n-1)/n)^r from the series of ln((n-1)/n).
fn weighed_at(h: Hyper, lr: f32, warmup_steps: f32, r: f32, n: f32) -> Hyper {
    var at = h;
    at.rate = select(lr, lr * n / warmup_steps, n < warmup_steps);
    let s = 1.0 / (2.0 * n - 1.0);
    let z = s * s;
    let series = 1.0 + z * (0.33333334 + z * (0.2 + z * (0.14285715 + z * (0.11111111 + z * (0.09090909 + z * 0.07692308)))));
    at.carry = select(1.0 - wo_one_minus_exp(-2.0 * r * s * series), 0.0, n < 1.5 && r > 0.0);
    return at;
}
