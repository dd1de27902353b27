//! The error that one rounding may have. Each rule declares its own tolerance, which takes nothing from the rule's WGSL.

use crate::optim::Rule;

/// Half the distance from 1 to the next f32.
const UNIT: f64 = 1.0 / 16_777_216.0;

/// A sum's error as a share of its terms: about 200 additions in a row at the most, whose roundings hardly ever add up to more than
/// seven times the square root of their number, and terms that are themselves rounded.
pub(super) const SUM_ERROR: f64 = 100.0 * UNIT;

/// The error of an element of a matrix that a procedure makes, as a share of the largest element.
pub(super) const MATRIX_ERROR: f64 = 100.0 * UNIT;

/// Subnormal numbers may be flushed to zero.
pub(super) const FLUSHED: f64 = 1.0 / 85_070_591_730_234_615_865_843_651_857_942_052_864.0;

/// The tolerance of a rule: the relative error that a number may have when a step is computed from the number.
pub(super) fn tolerance(rule: &dyn Rule) -> f64 {
    rule.tolerance() * UNIT
}

/// The distance from `x` to the next f32 away from zero.
pub(super) fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).min(f32::MAX.next_down());
    f64::from(x.next_up()) - f64::from(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::ALL;

    #[test]
    fn an_ulp_is_the_distance_to_the_next_number() {
        assert_eq!(ulp(1.0), f64::from(f32::EPSILON));
        assert_eq!(ulp(-1.5), f64::from(f32::EPSILON));
        assert_eq!(ulp(0.0), f64::from(f32::from_bits(1)));
        assert!(ulp(f64::MAX).is_finite() && ulp(f64::MAX) > 1e31);
        assert_eq!(FLUSHED, f64::from(f32::MIN_POSITIVE));
    }

    /// WGSL's accuracy table allows 11 units for a chain of + - × with one division and one root, and 4 units for + - × alone.
    #[test]
    fn no_tolerance_is_beyond_what_wgsl_allows() {
        for entry in ALL {
            let (name, units) = (entry.name, entry.sample().tolerance());
            let is_plain = ["sgd", "prox_sgd", "lion", "sgd_schedule_free"].contains(&name);
            assert!(units > 0.0 && units <= if is_plain { 4.0 } else { 11.0 }, "{name}: {units}");
        }
    }
}
