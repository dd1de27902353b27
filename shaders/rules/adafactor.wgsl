// Adafactor (Shazeer & Stern 2018) as in torch.optim.Adafactor.
//
//   v ← v + w (g² - v)          w = t^beta2_decay; a matrix keeps its rows' and columns' means instead, and v is their product
//   U = g / √max(v, eps1²)
//   α = max(eps2, RMS(θ)) min(η, 1/√t)
//   step = α / max(1, RMS(U) / d), both means over one tensor, with θ before the decay
//   Δθ = -ηλ θ - step U
//
//   share = w, root = 1/√t, floor = eps1², decay = ηλ. Where FACTORED holds, the harness loads the next v, and no pass stores it.

const SUMS = 2u;
const TOTALS = 2u;

struct Hyper {
    lr: f32,
    root: f32,
    share: f32,
    least: f32,
    floor: f32,
    eps2: f32,
    d: f32,
    decay: f32,
}

struct State { v: vec4<f32> }
struct Decision { step: f32 }

fn second_moment(h: Hyper, g: vec4<f32>, v: vec4<f32>) -> vec4<f32> {
    if FACTORED {
        return v;
    }
    return v + h.share * (g * g - v);
}

fn direction(h: Hyper, g: vec4<f32>, v: vec4<f32>) -> vec4<f32> {
    return g / sqrt(max(v, vec4(h.floor)));
}

fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    let u = direction(h, g, second_moment(h, g, s.v));
    return array<vec4<f32>, SUMS>(p * p, u * u);
}

fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    let count = max(elements, 1.0);
    return array<vec3<f32>, TOTALS>(vec3(sums[0] / count, 0.0, 0.0), vec3(sums[1] / count, 0.0, 0.0));
}

fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    let alpha = max(h.eps2, sqrt(own[0])) * min(h.lr, h.root);
    return Decision(alpha / max(1.0, sqrt(own[1]) / h.d));
}

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let v = second_moment(h, g, (*s).v);
    (*s).v = v;
    return -(h.decay * p + d.step * direction(h, g, v));
}

// beta2_decay ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
struct Own { beta2_decay: f32, high: f32, low: f32 }

// n^beta2_decay to a few units in the last place. A driver's pow may be off by as many units as the exponent of its result.
fn power(own: Own, n: f32) -> f32 {
    // n = 2^k m, m near 1
    let exponent = firstLeadingBit(u32(n));
    let rest = n / f32(1u << exponent);
    let is_large = rest > 1.4142135;
    let k = f32(exponent) + select(0.0, 1.0, is_large);
    let m = select(rest, 0.5 * rest, is_large);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let ln_m = 2.0 * s * (1.0 + q * (0.33333333 + q * (0.2 + q * (0.14285715 + q * 0.11111111))));
    let x = own.beta2_decay * ln_m + k * own.low;
    let whole = k * own.high;
    let j = max(round((whole + x) * 1.442695), -126.0);
    let r = ((whole - j * 0.693145751953125) - j * 1.4286068e-6) + x;
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.0083333338 + r * 0.0013888889)))));
    return bitcast<f32>(u32(i32(j) + 127) << 23u) * max(series, 0.0);
}

fn at_count(h: Hyper, own: Own, n: f32) -> Hyper {
    var at = h;
    at.root = 1.0 / sqrt(n);
    at.share = power(own, n);
    return at;
}
