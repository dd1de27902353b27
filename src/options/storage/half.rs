//! Half precision on the host. `shaders/harness/half.wgsl` does the same on the GPU.

use super::Format;
use crate::options::random::{draw, key};
use half::{bf16, f16};

/// The bits of a number, rounded to nearest, ties to even.
///
/// # Panics
/// The format is f32.
#[must_use]
pub fn nearest(format: Format, x: f32) -> u16 {
    match format {
        Format::F16 => f16::from_f32(x).to_bits(),
        Format::Bf16 => bf16::from_f32(x).to_bits(),
        Format::F32 => panic!("f32 is not half precision"),
    }
}

/// The bits of a number, with stochastic rounding: the number moves away from zero where `random`, uniform over all 16 bits, plus the
/// truncated part makes a whole step. NaN stays NaN, an infinity stays an infinity, and the step beyond the largest number is infinity.
///
/// # Panics
/// The format is f32.
#[must_use]
pub fn stochastic(format: Format, x: f32, random: u16) -> u16 {
    let (bits, random) = (x.to_bits(), u32::from(random));
    if x.is_nan() {
        return nearest(format, x);
    }
    match format {
        Format::Bf16 => ((bits + random) >> 16) as u16,
        Format::F16 => {
            let sign = (bits >> 16) & 0x8000;
            let magnitude = bits & 0x7fff_ffff;
            (sign | f16_stochastic(magnitude, random).min(0x7c00)) as u16
        }
        Format::F32 => panic!("f32 is not half precision"),
    }
}

/// As [`stochastic`], for the bits of a magnitude and before the limit at infinity.
const fn f16_stochastic(magnitude: u32, random: u32) -> u32 {
    const SMALLEST_NORMAL: u32 = 0x3880_0000;
    if magnitude >= SMALLEST_NORMAL {
        return ((magnitude + (random >> 3)) >> 13) - (112 << 10);
    }
    // In units of 2^-40: the smallest f16 has 2^16 of them, one per value of `random`. A number below one unit never rounds up.
    let significand = (magnitude & 0x7f_ffff) | 0x80_0000;
    let places = 110 - (magnitude >> 23) as i32;
    let units = if places < 0 {
        significand << -places
    } else if places < 24 {
        significand >> places
    } else {
        0
    };
    (units + random) >> 16
}

/// The bits of a second moment: only 0 becomes 0.
#[must_use]
pub fn not_zero(bits: u16, x: f32) -> u16 {
    if x > 0.0 { bits.max(1) } else { bits }
}

/// The number of these bits.
///
/// # Panics
/// The format is f32.
#[must_use]
pub fn widen(format: Format, bits: u16) -> f32 {
    match format {
        Format::F16 => f16::from_bits(bits).to_f32(),
        Format::Bf16 => bf16::from_bits(bits).to_f32(),
        Format::F32 => panic!("f32 is not half precision"),
    }
}

/// The nearest bf16 of an f32, ties away from zero, and the 16 bits that the bf16 lacks. A NaN becomes the quiet NaN.
#[must_use]
pub const fn split(x: f32) -> (u16, u16) {
    let bits = x.to_bits();
    if x.is_nan() {
        return ((bits >> 16) as u16 & 0x8000 | 0x7fc0, 0);
    }
    let low = bits & 0xffff;
    (((bits >> 16) + (low >> 15)) as u16, low as u16)
}

/// The f32 that was [`split`]. Beside a bf16 that the caller wrote, the 16 bits are worth less than the bf16's last place.
#[must_use]
pub const fn join(high: u16, low: u16) -> f32 {
    // `split` gives zero no remainder of at least half a step, and infinity no smaller one. Such a remainder is stale, and would make a NaN.
    let stale = match high & 0x7fff {
        0 => low >= 0x8000,
        0x7f80 => low < 0x8000,
        _ => false,
    };
    let low = if stale { 0 } else { low };
    let (high, low) = (high as u32, low as u32);
    f32::from_bits(((high.wrapping_sub(low >> 15)) << 16) | low)
}

/// The random bits of stochastic rounding, for one array of one tensor in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StochasticRounding(u32);

impl StochasticRounding {
    /// `rounding` is [the optimizer's key](rounding_key), `steps` the number of earlier steps that rounded, `array` 0 for the parameters and
    /// 1 + k for the rule's k-th state.
    #[must_use]
    pub const fn new(rounding: u32, steps: u32, tensor: u32, array: u32) -> Self {
        Self(draw(draw(draw(rounding, steps), tensor), array))
    }

    /// The bits of an element: half of a word that two neighbours share.
    #[must_use]
    pub const fn of(self, element: u32) -> u16 {
        (draw(self.0, element / 2) >> (16 * (element % 2))) as u16
    }
}

/// The key of an optimizer's stochastic rounding.
#[must_use]
pub const fn rounding_key(seed: u64) -> u32 {
    key(seed, crate::options::random::Stream::Rounding)
}
