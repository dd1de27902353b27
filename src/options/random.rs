//! Counter-based random numbers: every value is a function of a key and a counter, so that results do not depend on
//! the order or the place in which they are drawn. `shaders/harness/random.wgsl` holds the same functions.

/// The use of a key; different uses of one seed are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial weights.
    Weights = 1,
    /// Which rows are held out.
    Split = 2,
    /// The order of the rows in an epoch.
    Order = 3,
    /// Directions in which a loss is probed.
    Probe = 5,
    /// The data of a problem.
    Data = 4,
    /// Stochastic rounding.
    Rounding = 6,
}

/// The PCG hash of a word (O'Neill's permuted congruential generator, one step).
#[must_use]
pub const fn pcg(x: u32) -> u32 {
    let s = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let w = ((s >> ((s >> 28) + 4)) ^ s).wrapping_mul(277_803_737);
    (w >> 22) ^ w
}

/// A seed's key for one use.
#[must_use]
pub const fn key(seed: u64, stream: Stream) -> u32 {
    draw(draw(seed as u32, (seed >> 32) as u32), stream as u32)
}

/// The word of a key for a counter. The word may serve as a key again.
#[must_use]
pub const fn draw(key: u32, counter: u32) -> u32 {
    pcg(key ^ pcg(counter))
}

/// A uniform number of [0, 1) with 24 bits, exact in `f32`.
#[must_use]
pub const fn unit(key: u32, counter: u32) -> f32 {
    (draw(key, counter) >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Four independent normal numbers of a key: the numbers `4 index` to `4 index + 3`, by the transform of Box and Muller.
#[must_use]
pub fn normals(key: u32, index: u32) -> [f32; 4] {
    let word = |k: u32| draw(key, index.wrapping_mul(4).wrapping_add(k));
    let (a, b) = (normal_pair(word(0), word(1)), normal_pair(word(2), word(3)));
    [a[0], a[1], b[0], b[1]]
}

/// Fills `out` with the first normal numbers of a key: the numbers that [`normals`] gives four at a time.
pub fn fill_normals(key: u32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature, as just checked.
        return unsafe { fill_normals_avx2(key, out) };
    }
    fill_normals_blocks(key, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fill_normals_avx2(key: u32, out: &mut [f32]) {
    fill_normals_blocks(key, out);
}

/// The number of pairs per block: local arrays cannot alias, so each loop over a block turns into vector instructions.
const PAIRS: usize = 16;

#[inline(always)]
fn fill_normals_blocks(key: u32, out: &mut [f32]) {
    for (block, out) in out.chunks_mut(2 * PAIRS).enumerate() {
        let first = (2 * PAIRS * block) as u32;
        let (mut lengths, mut points) = ([0.0; PAIRS], [[0.0; 2]; PAIRS]);
        for (i, length) in lengths.iter_mut().enumerate() {
            *length = minus_two_ln(draw(key, first.wrapping_add(2 * i as u32)) >> 8).sqrt();
        }
        for (i, point) in points.iter_mut().enumerate() {
            *point = on_circle(draw(key, first.wrapping_add(2 * i as u32 + 1)) >> 8);
        }
        for (i, x) in out.iter_mut().enumerate() {
            *x = lengths[i / 2] * points[i / 2][i % 2];
        }
    }
}

fn normal_pair(length: u32, angle: u32) -> [f32; 2] {
    let r = minus_two_ln(length >> 8).sqrt();
    on_circle(angle >> 8).map(|x| r * x)
}

/// -2 ln((n + 1) / 2^24) for n below 2^24.
#[inline(always)]
fn minus_two_ln(n: u32) -> f32 {
    const LN_2: f32 = std::f32::consts::LN_2;
    let bits = ((n + 1) as f32).to_bits();
    // The mantissa in [√½, √2), so that the logarithm of a number near 1 does not cancel.
    let up = u32::from(bits & 0x7f_ffff > 0x35_04f3);
    let mantissa = f32::from_bits((bits & 0x7f_ffff) | ((127 - up) << 23));
    let exponent = ((bits >> 23) + up) as f32 - 151.0;
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z * (1.0 / 9.0)))));
    -2.0 * (series + exponent * LN_2)
}

/// A point of the unit circle: an octant from three bits, a place in it from 21.
#[inline(always)]
fn on_circle(n: u32) -> [f32; 2] {
    let x = (n & 0x1f_ffff) as f32 * (std::f32::consts::FRAC_PI_4 / 2_097_152.0);
    let z = x * x;
    let sine = x * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z / 362_880.0))));
    let cosine = 1.0 + z * (-0.5 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z / 40_320.0)));
    let octant = n >> 21;
    let (x, y) = if octant & 1 == 0 { (cosine, sine) } else { (sine, cosine) };
    [if octant & 2 == 0 { x } else { -x }, if octant & 4 == 0 { y } else { -y }]
}

/// The `counter`-th normal number of a key.
#[must_use]
pub fn normal(key: u32, counter: u32) -> f64 {
    f64::from(normals(key, counter / 4)[counter as usize % 4])
}

/// The source of `position` in a shuffled list of `count` things: for every key a permutation of `0..count`. `position` is below `count`.
#[must_use]
pub const fn place(position: u32, count: u32, key: u32) -> u32 {
    debug_assert!(position < count);
    let mask = u32::MAX >> ((count - 1) | 1).leading_zeros();
    let mut x = scatter(position, mask, key);
    while x >= count {
        x = scatter(x, mask, key); // the cycle of a bijection returns to a word below `count`
    }
    x
}

/// A bijection of the words below a power of two: each of the three operations can be undone among these words. With fewer than eight
/// rounds, some orders of a short list are measurably more likely than others.
const fn scatter(word: u32, mask: u32, key: u32) -> u32 {
    let bits = mask.count_ones();
    let half = if bits < 2 { 1 } else { bits / 2 };
    let mut x = word;
    let mut round = 0;
    while round < 8 {
        let k = draw(key, round);
        x = x.wrapping_add(k).wrapping_mul(pcg(k) | 1) & mask;
        x ^= x >> half;
        round += 1;
    }
    x
}
