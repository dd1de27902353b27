//! How far one rounding may be off: the one table from which every tolerance comes.

/// Half the distance from 1 to the next f32.
const UNIT: f64 = 1.0 / 16_777_216.0;

/// By how much the operations of a rule's WGSL may falsify the numbers that they work on, in units of 2⁻²⁴: WGSL's accuracy table, spread
/// over the four numbers and more that every step is computed from.
const OPERATIONS: &[(&str, f64)] = &[
    // + - × are off by up to one ulp each, which is 2 units; constants are rounded once, and twice where they are a product. The longest
    // chain, a decayed gradient through a moment into the step, is 15 units over six numbers and more.
    ("", 4.0),
    // 2.5 ulp, 5 units, in a step that no less than two numbers enter.
    ("/", 2.5),
    // 1/inverseSqrt, 4.5 ulp with the division, 9 units, over the two numbers under the root and their two weights.
    ("sqrt(", 4.5),
    ("inverseSqrt(", 2.0),
    // exp2(y log2(x)): log2 is off by 2⁻²¹, 8 units, near 1 and by 3 ulp of up to 2⁴ elsewhere, exp2 by 3 + 2|x| ulp with |x| ≤ 8.
    ("pow(", 40.0),
    ("exp(", 40.0),
    ("exp2(", 40.0),
    ("log(", 10.0),
    ("log2(", 10.0),
];

/// A sum's error as a share of its terms: about 200 additions in a row at the most, whose roundings hardly ever add up to more than
/// seven times the square root of their number, and terms that are themselves rounded.
pub(super) const SUM_ERROR: f64 = 100.0 * UNIT;

/// Subnormal numbers may be flushed to zero.
pub(super) const FLUSHED: f64 = 1.0 / 85_070_591_730_234_615_865_843_651_857_942_052_864.0;

/// The tolerance of a rule with this WGSL: the relative error that each number which a step is computed from may have picked up.
pub(super) fn tolerance(text: &str) -> f64 {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    OPERATIONS.iter().filter(|(operation, _)| code.contains(operation)).map(|(_, units)| units * UNIT).sum()
}

/// The distance from `x` to the next f32 away from zero.
pub(super) fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).min(f32::MAX.next_down());
    f64::from(x.next_up()) - f64::from(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ulp_is_the_distance_to_the_next_number() {
        assert_eq!(ulp(1.0), f64::from(f32::EPSILON));
        assert_eq!(ulp(-1.5), f64::from(f32::EPSILON));
        assert_eq!(ulp(0.0), f64::from(f32::from_bits(1)));
        assert!(ulp(f64::MAX).is_finite() && ulp(f64::MAX) > 1e31);
        assert_eq!(FLUSHED, f64::from(f32::MIN_POSITIVE));
    }

    #[test]
    fn a_tolerance_counts_the_operations_of_the_code_and_not_of_its_comments() {
        assert_eq!(tolerance("// a / b, sqrt(x)\n let x = a * b;"), 4.0 * UNIT);
        assert_eq!(tolerance("let x = a / b; // sqrt(x)"), 6.5 * UNIT);
        assert_eq!(tolerance("let x = sqrt(a / b);"), 11.0 * UNIT);
    }
}
