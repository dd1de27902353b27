// Counter-based random numbers: every value is a function of a key and a counter, so that results do not
// depend on the dispatch's shape. src/options/random.rs holds the same functions.

fn wo_pcg(x: u32) -> u32 {
    let s = x * 747796405u + 2891336453u;
    let w = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
    return (w >> 22u) ^ w;
}

fn wo_draw(key: u32, counter: u32) -> u32 {
    return wo_pcg(key ^ wo_pcg(counter));
}

// A bijection of the words below a power of two: each of the three operations can be undone there.
// With fewer than eight rounds, some orders of a short list are measurably more likely than others.
fn wo_scramble(word: u32, mask: u32, key: u32) -> u32 {
    let half = max(countOneBits(mask) / 2u, 1u);
    var x = word;
    for (var r = 0u; r < 8u; r++) {
        let k = wo_draw(key, r);
        x = ((x + k) * (wo_pcg(k) | 1u)) & mask;
        x ^= x >> half;
    }
    return x;
}

// The place, before the shuffle, of the item at `position` in a shuffled list of `count` items; `position` is below `count`.
fn wo_place(position: u32, count: u32, key: u32) -> u32 {
    let mask = 0xffffffffu >> countLeadingZeros((count - 1u) | 1u);
    var x = wo_scramble(position, mask, key);
    while (x >= count) { // the cycle of the bijection returns to a place below `count`
        x = wo_scramble(x, mask, key);
    }
    return x;
}

// Four independent normal numbers of a key: vec4 number `index`, by Box and Muller's transform. Logarithm, sine and cosine are
// polynomials, because those of a driver may be wrong by 2^-11. So all devices give the same numbers to a few ulp.
fn wo_normals(key: u32, index: u32) -> vec4<f32> {
    let first = 4u * index;
    let a = wo_normal_pair(wo_draw(key, first), wo_draw(key, first + 1u));
    let b = wo_normal_pair(wo_draw(key, first + 2u), wo_draw(key, first + 3u));
    return vec4(a, b);
}

fn wo_normal_pair(length: u32, angle: u32) -> vec2<f32> {
    return sqrt(wo_minus_two_ln(length >> 8u)) * wo_on_circle(angle >> 8u);
}

// -2 ln((n + 1) / 2^24) for n below 2^24.
fn wo_minus_two_ln(n: u32) -> f32 {
    let bits = bitcast<u32>(f32(n + 1u));
    // The mantissa in [√½, √2), so that the logarithm of a number near 1 does not cancel.
    let up = select(0u, 1u, (bits & 0x7fffffu) > 0x3504f3u);
    let mantissa = bitcast<f32>((bits & 0x7fffffu) | ((127u - up) << 23u));
    let exponent = f32(i32(bits >> 23u) + i32(up) - 151);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = 2.0 * s * (1.0 + z * (0.33333334 + z * (0.2 + z * (0.14285715 + z * 0.11111111))));
    return -2.0 * (series + exponent * 0.6931472);
}

// A point of the unit circle: an octant from three bits, a place in it from 21.
fn wo_on_circle(n: u32) -> vec2<f32> {
    let x = f32(n & 0x1fffffu) * (0.7853982 / 2097152.0);
    let z = x * x;
    let sine = x * (1.0 + z * (-0.16666667 + z * (0.008333334 + z * (-0.0001984127 + z * 2.7557319e-6))));
    let cosine = 1.0 + z * (-0.5 + z * (0.041666668 + z * (-0.0013888889 + z * 2.4801587e-5)));
    let octant = n >> 21u;
    let point = select(vec2(cosine, sine), vec2(sine, cosine), (octant & 1u) != 0u);
    return point * select(vec2(1.0), vec2(-1.0), vec2((octant & 2u) != 0u, (octant & 4u) != 0u));
}
