//! How far one rounding may be off: the one table from which every tolerance comes.
//!
//! The table stands beside the rules and takes nothing from their WGSL. A tolerance that counted the operations of the text under test
//! would let a text loosen its own check, by a root that it never takes as well as by a mistake.

/// Half the distance from 1 to the next f32.
const UNIT: f64 = 1.0 / 16_777_216.0;

/// By how much each number that a step of a rule is computed from may be falsified, in units of 2⁻²⁴.
///
/// Each is three times the worst error that `wgpu-optim verify --json` measured on Mesa 22.3.6's llvmpipe, of steps and of states, over
/// all variants and sizes in f32, rounded up to half a unit. The measured error is beside it. That driver rounds every division and every
/// root correctly. WGSL lets a division be off by 5 units and a root by 9: shared among the five numbers and more that such a step is
/// computed from, both together take the other two thirds.
const RULES: &[(&str, f64)] = &[
    ("sgd", 3.0),                 // 0.96
    ("prox_sgd", 2.5),            // 0.78
    ("adam", 4.0),                // 1.27
    ("adamw", 4.5),               // 1.35
    ("nadam", 4.5),               // 1.38
    ("radam", 4.0),               // 1.19
    ("rmsprop", 7.5),             // 2.46, where there is momentum
    ("adagrad", 4.0),             // 1.29
    ("adabelief", 4.0),           // 1.22
    ("lion", 2.5),                // 0.79
    ("lamb", 3.0),                // 0.88
    ("vradam", 3.0),              // 0.88
    ("adai", 4.5),                // 1.50
    ("adaiw", 4.5),               // 1.44
    ("adamw_schedule_free", 5.5), // 1.70
    ("sgd_schedule_free", 4.0),   // 1.28
    ("flowadam", 4.5),            // 1.35
    ("sadam", 4.5),               // 1.46
    ("warpadam", 4.0),            // 1.17
];

/// The same for a rule of the user's own: + - × are off by up to one ulp each, which is 2 units; the longest chain, a decayed gradient
/// through a moment into the step, is 15 units over six numbers and more.
const OTHERS: f64 = 4.0;

/// A sum's error as a share of its terms: about 200 additions in a row at the most, whose roundings hardly ever add up to more than
/// seven times the square root of their number, and terms that are themselves rounded.
pub(super) const SUM_ERROR: f64 = 100.0 * UNIT;

/// Subnormal numbers may be flushed to zero.
pub(super) const FLUSHED: f64 = 1.0 / 85_070_591_730_234_615_865_843_651_857_942_052_864.0;

/// The tolerance of the rule of this name: the relative error that each number which a step is computed from may have picked up.
pub(super) fn tolerance(rule: &str) -> f64 {
    RULES.iter().find(|(name, _)| *name == rule).map_or(OTHERS, |(_, units)| *units) * UNIT
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

    #[test]
    fn every_rule_declares_its_tolerance() {
        let declared: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared, ALL.iter().map(|entry| entry.name).collect::<Vec<_>>());
        assert_eq!(tolerance("a rule of the user's own"), OTHERS * UNIT);
    }

    /// What WGSL's accuracy table allows a chain of + - × with one division and one root; + - × alone are allowed 4 units.
    #[test]
    fn no_tolerance_is_beyond_what_wgsl_allows() {
        for (name, units) in RULES {
            let is_plain = ["sgd", "prox_sgd", "lion", "sgd_schedule_free"].contains(name);
            assert!(*units > 0.0 && *units <= if is_plain { 4.0 } else { 11.0 }, "{name}: {units}");
        }
    }
}
