//! The numbers that a setting accepts.

use std::borrow::Cow;

use super::value::Value;

/// The largest whole number up to which f64 holds every whole number.
pub(super) const MOST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The text `needs`; for a finite number that f32 does not hold, with the limit of f32.
pub(crate) fn within_f32(x: f64, needs: Cow<'static, str>) -> Cow<'static, str> {
    if x.is_finite() && x.abs() > f64::from(f32::MAX) {
        format!("{needs} that f32 holds: its magnitude is at most {:e}", f32::MAX).into()
    } else {
        needs
    }
}

/// The numbers a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    least: f64,
    most: f64,
    most_included: bool,
    /// The description of the range; empty if the bounds describe it.
    text: &'static str,
}

impl Range {
    /// Learning rates, decays, factors.
    pub const NOT_NEGATIVE: Self =
        Self { least: 0.0, most: f32::MAX as f64, most_included: true, text: "a finite number of at least 0" };
    /// Decay rates of moving averages: at 1 the average would never move.
    pub const BELOW_ONE: Self = Self { least: 0.0, most: 1.0, most_included: false, text: "a number in [0, 1)" };
    /// Positions between two points, both excluded.
    pub const BETWEEN: Self = Self { least: 1e-3, most: 1.0, most_included: false, text: "a number in [1e-3, 1)" };
    /// Powers.
    pub const POWER: Self = Self { least: 0.0, most: 10.0, most_included: true, text: "a number in [0, 10]" };
    /// Factors that do not shrink.
    pub const AT_LEAST_ONE: Self = Self::from(1.0);
    /// Factors of at least 1, the largest of which limits nothing and still multiplies within f32.
    pub const GROWTH: Self = Self::between(1.0, 1e30);
    /// Shares.
    pub const SHARE: Self = Self { least: 0.0, most: 1.0, most_included: true, text: "a number in [0, 1]" };
    /// Shares that a division needs above 0.
    pub const POSITIVE_SHARE: Self =
        Self { least: 1e-30, most: 1.0, most_included: true, text: "a number in [1e-30, 1]" };
    /// Terms that keep a denominator from 0: they must survive rounding to f32 and a flush of subnormals.
    pub const EPSILON: Self =
        Self { least: 1e-30, most: f32::MAX as f64, most_included: true, text: "a finite number of at least 1e-30" };

    /// Terms whose square keeps a denominator from 0.
    pub const ROOT_EPSILON: Self =
        Self { least: 1e-15, most: f32::MAX as f64, most_included: true, text: "a finite number of at least 1e-15" };
    /// Powers of numbers that must not grow.
    pub const NEGATIVE_POWER: Self =
        Self { least: -10.0, most: 0.0, most_included: true, text: "a number in [-10, 0]" };

    /// Sizes and counts.
    pub const COUNT: Self = Self { least: 1.0, most: 1e5, most_included: true, text: "a whole number in [1, 100000]" };
    /// Sizes and counts that may be 0.
    pub const COUNT_OR_NONE: Self =
        Self { least: 0.0, most: 1e5, most_included: true, text: "a whole number in [0, 100000]" };
    /// Seeds: the whole numbers that f64 holds exactly, because f64 carries the values of all settings.
    pub const SEED: Self =
        Self { least: 0.0, most: MOST_WHOLE, most_included: true, text: "a whole number in [0, 2^53]" };

    /// Any number that f32 holds.
    pub const ANY: Self =
        Self { least: -(f32::MAX as f64), most: f32::MAX as f64, most_included: true, text: "a finite number" };

    /// Numbers of steps, which f32 holds exactly.
    pub const STEPS: Self = Self::between(0.0, 16_777_216.0);
    /// The probes of a step of S-Adam.
    pub const PROBES: Self = Self::between(1.0, 8.0);
    /// The iterations of a step of Muon.
    pub const ITERATIONS: Self = Self::between(1.0, 99.0);
    /// The rows of a block of WarpAdam's matrix.
    pub const BLOCK: Self = Self::between(1.0, 64.0);

    /// Numbers of at least `least`.
    #[must_use]
    pub const fn from(least: f64) -> Self {
        Self { least, most: f32::MAX as f64, most_included: true, text: "" }
    }

    /// Numbers in `[least, most]`.
    #[must_use]
    pub const fn between(least: f64, most: f64) -> Self {
        Self { least, most, most_included: true, text: "" }
    }

    /// Numbers in `[least, most)`.
    #[must_use]
    pub const fn below(least: f64, most: f64) -> Self {
        Self { least, most, most_included: false, text: "" }
    }

    /// Checks a number; the error is the text of the accepted values.
    pub(crate) fn check(self, x: f64) -> Result<(), Cow<'static, str>> {
        if self.contains(x) {
            return Ok(());
        }
        let needs = self.needs();
        Err(if self.most == f64::from(f32::MAX) { within_f32(x, needs) } else { needs })
    }

    /// The text of the accepted numbers.
    pub(super) fn needs(self) -> Cow<'static, str> {
        if !self.text.is_empty() {
            return self.text.into();
        }
        let end = if self.most_included { ']' } else { ')' };
        let [least, most] = [self.least, self.most].map(Value::Number);
        format!("a number in [{least}, {most}{end}").into()
    }

    /// The text of the accepted whole numbers.
    pub(super) fn needs_whole(self) -> Cow<'static, str> {
        if !self.text.is_empty() {
            return self.text.into();
        }
        let end = if self.most_included { ']' } else { ')' };
        format!("a whole number in [{}, {}{end}", self.least, self.most).into()
    }

    pub(super) fn contains(self, x: f64) -> bool {
        x >= self.least && (x < self.most || (self.most_included && x == self.most))
    }
}
