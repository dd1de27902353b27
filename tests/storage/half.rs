//! Half precision, the random bits of stochastic rounding, and the split of an f32.

use wgpu_optim::random::{Stream, draw, key};
use wgpu_optim::storage::Format;
use wgpu_optim::storage::half::{StochasticRounding, join, nearest, not_zero, rounding_key, split, stochastic, widen};

const HALVES: [Format; 2] = [Format::F16, Format::Bf16];

/// Bits of the exponent, bits of the fraction.
const fn shape(format: Format) -> (i32, i32) {
    if matches!(format, Format::F16) { (5, 10) } else { (8, 7) }
}

/// The magnitude of a half by its definition. One step past the largest magnitude is the power of two above it.
fn magnitude(format: Format, bits: u32) -> f64 {
    let (exponents, fractions) = shape(format);
    let (exponent, fraction) = ((bits >> fractions) as i32, f64::from(bits & ((1 << fractions) - 1)));
    let bias = (1 << (exponents - 1)) - 1;
    let hidden = if exponent == 0 { 0.0 } else { f64::from(1 << fractions) };
    (hidden + fraction) * 2f64.powi(exponent.max(1) - bias - fractions)
}

/// The bits of infinity.
const fn infinity(format: Format) -> u32 {
    let (exponents, fractions) = shape(format);
    ((1 << exponents) - 1) << fractions
}

#[test]
fn every_half_widens_and_rounds_back() {
    for format in HALVES {
        for bits in 0..=u16::MAX {
            let (size, sign) = (u32::from(bits & 0x7fff), bits & 0x8000);
            let wide = widen(format, bits);
            let crates = match format {
                Format::F16 => half::f16::from_bits(bits).to_f32(),
                _ => half::bf16::from_bits(bits).to_f32(),
            };
            assert!(wide.to_bits() == crates.to_bits() || wide.is_nan() && crates.is_nan(), "{format:?} {bits:#06x}");
            assert_eq!(wide.is_sign_negative(), sign != 0, "{format:?} {bits:#06x}");
            if size > infinity(format) {
                assert!(wide.is_nan(), "{format:?} {bits:#06x}");
                for back in [nearest(format, wide), stochastic(format, wide, 0xffff)] {
                    let quiet = 1 << (shape(format).1 - 1);
                    assert!(u32::from(back & 0x7fff) > infinity(format) && back & quiet != 0 && back & 0x8000 == sign);
                }
                continue;
            }
            if size < infinity(format) {
                assert_eq!(f64::from(wide).abs(), magnitude(format, size), "{format:?} {bits:#06x}");
            }
            for back in [nearest(format, wide), stochastic(format, wide, 0), stochastic(format, wide, 0xffff)] {
                assert_eq!(back, bits, "{format:?}: {wide:e} is a half and stays");
            }
        }
    }
}

#[test]
fn the_nearest_is_taken_and_of_two_the_even() {
    for format in HALVES {
        for bits in 0..infinity(format) {
            // The middle of two neighbours has one bit more than a half, so that it is an f32.
            let middle = f64::midpoint(magnitude(format, bits), magnitude(format, bits + 1)) as f32;
            let even = bits + bits % 2;
            let around = [(middle.next_down(), bits), (middle, even), (middle.next_up(), bits + 1)];
            for (x, wanted) in around {
                assert_eq!(u32::from(nearest(format, x)), wanted, "{format:?} {x:e}");
                assert_eq!(u32::from(nearest(format, -x)), wanted | 0x8000, "{format:?} {x:e}");
            }
        }
        assert_eq!(u32::from(nearest(format, f32::INFINITY)), infinity(format));
        assert_eq!(u32::from(nearest(format, f32::MAX)), infinity(format));
    }
}

/// The half below a magnitude, and the share of the distance to the next half at which the magnitude lies.
fn place(format: Format, x: f32) -> (u32, f64) {
    let x = f64::from(x);
    let below = (0..infinity(format)).rev().find(|bits| magnitude(format, *bits) <= x).unwrap();
    let (low, high) = (magnitude(format, below), magnitude(format, below + 1));
    (below, (x - low) / (high - low))
}

/// Over all random bits, the number of roundings up is the share of the distance in 65,536ths.
fn check_draws(format: Format, x: f32) {
    let (below, way) = place(format, x);
    let mut up = 0;
    for draw in 0..=u16::MAX {
        let bits = stochastic(format, x, draw);
        assert!((below..=below + 1).contains(&u32::from(bits)), "{format:?} {x:e}: {bits:#06x}");
        assert_eq!(stochastic(format, -x, draw), bits | 0x8000, "{format:?} {x:e}");
        up += u32::from(u32::from(bits) == below + 1);
    }
    assert_eq!(up, (way * 65536.0).floor() as u32, "{format:?} {x:e}");
}

#[test]
fn all_draws_together_round_up_exactly_as_often_as_they_should() {
    for bits in [0x3f80_0001, 0x3f81_7fff, 0x4049_0fdb, 0x0000_0001, 0x0000_8001, 0x0080_ffff, 0x7f7f_0001, 0x7f7f_ffff]
    {
        check_draws(Format::Bf16, f32::from_bits(bits));
    }
    let smallest = 2f32.powi(-24);
    let normal = [1.0 + 2f32.powi(-23), 3.3, 1e-3, 2047.3, 65_504.0, 65_505.0, 65_535.996];
    let subnormal = [
        2f32.powi(-14) * (1.0 - 2f32.powi(-24)),
        2f32.powi(-15) * 1.234_567,
        2f32.powi(-16) * 1.999_999,
        900.7 * smallest,
        1.5 * smallest,
        0.999 * smallest,
    ];
    let below_all =
        [0.3, 1e-2, 3e-3, 1e-4, 2f32.powi(-16), 1.9 * 2f32.powi(-16), 2f32.powi(-17), 1e-30].map(|x| x * smallest);
    for x in normal.into_iter().chain(subnormal).chain(below_all) {
        check_draws(Format::F16, x);
    }
}

#[test]
fn numbers_that_are_too_large_or_not_finite_stay_so() {
    for draw in [0, 1, 0x7fff, 0x8000, 0xffff] {
        for x in [65_536.0, 1e6, f32::MAX, f32::INFINITY] {
            assert_eq!(stochastic(Format::F16, x, draw), 0x7c00, "{x:e}");
            assert_eq!(stochastic(Format::F16, -x, draw), 0xfc00, "{x:e}");
        }
        assert_eq!(stochastic(Format::Bf16, f32::INFINITY, draw), 0x7f80);
        assert_eq!(stochastic(Format::Bf16, f32::NEG_INFINITY, draw), 0xff80);
    }
}

#[test]
fn a_second_moment_does_not_become_zero() {
    let tiny = f32::from_bits(1);
    let lost = nearest(Format::Bf16, tiny);
    assert_eq!((lost, not_zero(lost, tiny)), (0, 1));
    assert_eq!(not_zero(nearest(Format::Bf16, 0.0), 0.0), 0);
    assert_eq!(not_zero(0x3f80, 1.0), 0x3f80);
}

/// The deviation of counts from the expected counts, in standard deviations of χ².
fn chi_square(terms: impl Iterator<Item = f64>) -> f64 {
    let terms: Vec<f64> = terms.collect();
    let freedom = terms.len() as f64;
    (terms.iter().sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

const DRAWS: u32 = 1 << 20;

#[test]
fn stochastic_rounding_is_unbiased() {
    const VALUES: u32 = 64;
    let rounding = StochasticRounding::new(rounding_key(7), 3, 2, 1);
    let ranges =
        [(Format::Bf16, 1.0, 2.0), (Format::Bf16, -3e-5, -6e-5), (Format::F16, 0.5, 1.0), (Format::F16, 2e-7, 6e-5)];
    for (format, low, high) in ranges {
        let mut terms = Vec::new();
        for value in 0..VALUES {
            let x = low + (high - low) * (value as f32 + 0.37) / VALUES as f32;
            let (below, way) = place(format, x.abs());
            let draws = DRAWS / VALUES;
            let expected = f64::from(draws) * way;
            if !(0.001..0.999).contains(&way) {
                continue;
            }
            let up = |at: &u32| u32::from(stochastic(format, x, rounding.of(value * draws + at)) & 0x7fff) != below;
            let count = (0..draws).filter(up).count() as f64;
            terms.push((count - expected).powi(2) / (expected * (1.0 - way)));
        }
        assert!(terms.len() > 48, "{} values lie between two halves", terms.len());
        let off = chi_square(terms.into_iter());
        assert!(off.abs() < 4.0, "{format:?} {low:e}: {off} standard deviations");
    }
}

#[test]
fn draws_use_all_their_bits_alike() {
    for (seed, array) in [(0, 0), (1, 2)] {
        let draws = StochasticRounding::new(rounding_key(seed), 0, 0, array);
        let mut counts = vec![0_u32; 1 << 16];
        (0..DRAWS).for_each(|element| counts[usize::from(draws.of(element))] += 1);
        let expected = f64::from(DRAWS) / 65536.0;
        let off = chi_square(counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected));
        assert!(off.abs() < 4.0, "seed {seed}: {off} standard deviations");
    }
}

#[test]
fn draws_of_neighbours_steps_tensors_arrays_and_seeds_are_independent() {
    let of = |seed: u64, steps: u32, tensor: u32, array: u32| {
        StochasticRounding::new(rounding_key(seed), steps, tensor, array)
    };
    let one = of(1, 10, 3, 1);
    let others: [(&str, StochasticRounding, u32); 8] = [
        ("the same word", one, 1),
        ("the next word", one, 2),
        ("a chunk further", one, 1024),
        ("the next step", of(1, 11, 3, 1), 0),
        ("the next tensor", of(1, 10, 4, 1), 0),
        ("the next array", of(1, 10, 3, 2), 0),
        ("the next seed", of(2, 10, 3, 1), 0),
        ("tensor and step changed places", of(1, 3, 10, 1), 0),
    ];
    for (what, other, further) in others {
        // Checks whether the first bits of two draws are correlated.
        let mut counts = [0_u32; 256];
        for element in (0..DRAWS).step_by(2) {
            let pair = (one.of(element) >> 12) * 16 + (other.of(element + further) >> 12);
            counts[usize::from(pair)] += 1;
        }
        let expected = f64::from(DRAWS / 2) / 256.0;
        let off = chi_square(counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected));
        assert!(off.abs() < 4.5, "{what}: {off} standard deviations");
    }
    assert_eq!(of(1, 10, 3, 1), one, "and the same again");
}

/// The nearest bf16, ties away from zero.
fn check_split(bits: u32) {
    let x = f32::from_bits(bits);
    let (high, low) = split(x);
    let back = join(high, low);
    if x.is_nan() {
        assert!(back.is_nan() && widen(Format::Bf16, high).is_nan(), "{bits:#010x}");
        return;
    }
    assert_eq!(back.to_bits(), bits, "{bits:#010x}");
    let away = if low == 0x8000 { x.abs().next_up().copysign(x) } else { x };
    assert_eq!(high, nearest(Format::Bf16, away), "{bits:#010x}");
}

#[test]
fn an_f32_is_split_and_joined_exactly() {
    for high in 0..=u16::MAX {
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            check_split(u32::from(high) << 16 | low);
        }
    }
    let words = key(11, Stream::Data);
    (0..1 << 22).for_each(|at| check_split(draw(words, at)));
}

#[test]
fn a_stale_remainder_is_worth_half_a_place_at_most() {
    let words = key(12, Stream::Data);
    for high in 0..=u16::MAX {
        let wide = widen(Format::Bf16, high);
        if !wide.is_finite() {
            continue;
        }
        let step =
            magnitude(Format::Bf16, u32::from(high & 0x7fff) + 1) - magnitude(Format::Bf16, u32::from(high & 0x7fff));
        for low in [0, 1, 0x7fff, 0x8000, 0xffff, draw(words, u32::from(high)) as u16] {
            let joined = join(high, low);
            let off = (f64::from(joined) - f64::from(wide)).abs();
            assert!(joined.is_finite() && off <= step / 2.0, "{high:#06x} {low:#06x}: {joined:e} beside {wide:e}");
            assert_eq!(split(joined).0 & 0x7fff, high & 0x7fff, "{high:#06x} {low:#06x}");
        }
    }
}
