//! The shapes of schedules: plain structs, and the formula of each.

use std::f64::consts::PI;

use super::field::Field;
use crate::{Error, Result};

/// The accepted values of a number.
pub(crate) struct Range {
    holds: fn(f64) -> bool,
    needs: &'static str,
}

const COUNT: Range = Range { holds: |x| x >= 1.0, needs: "at least 1" };
const ANY_COUNT: Range = Range { holds: |x| x >= 0.0, needs: "at least 0" };
const POSITIVE: Range = Range { holds: |x| x > 0.0 && x.is_finite(), needs: "a finite number above 0" };
pub(crate) const FACTOR: Range = Range { holds: |x| x >= 0.0 && x.is_finite(), needs: "a finite number of at least 0" };
const SHARE: Range = Range { holds: |x| (0.0..=1.0).contains(&x), needs: "a number in [0, 1]" };
const CHOICE: Range = Range { holds: |_| true, needs: "one of its words" };

impl Range {
    pub(crate) fn check(&self, shape: &str, field: &str, value: &impl Field) -> Result<()> {
        match value.numbers().into_iter().find(|x| !(self.holds)(*x)) {
            None => Ok(()),
            Some(x) => Err(Error::Usage(format!("schedule {shape}: {field} is {x}, needs {}", self.needs))),
        }
    }
}

/// The interface of every shape: the formula, and the fields by name.
pub(crate) trait Form: Sized {
    const NAME: &'static str;
    const REQUIRED: &'static [&'static str];
    fn template() -> Self;
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn put(&mut self, field: &str, text: &str) -> Option<Result<(), &'static str>>;
    fn check(&self) -> Result<()>;
    /// The value at step `t`, after a warm-up of `warmup` steps.
    fn rate(&self, base: f64, t: u64, warmup: u64) -> f64;
}

/// The name of a shape's type.
pub(crate) fn name<F: Form>(_: &F) -> &'static str {
    F::NAME
}

macro_rules! shapes {
    ($(
        $(#[$doc:meta])*
        $name:ident = $text:literal {
            required { $($(#[$rdoc:meta])* $rfield:ident: $rty:ty, $rrange:ident;)* }
            $($(#[$fdoc:meta])* $field:ident: $ty:ty = $default:expr, $range:ident;)*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $($(#[$rdoc])* pub $rfield: $rty,)*
                $($(#[$fdoc])* pub $field: $ty,)*
            }

            impl $name {
                /// A shape with these values; the other fields have their defaults.
                #[must_use]
                pub const fn new($($rfield: $rty),*) -> Self {
                    Self { $($rfield,)* $($field: $default,)* }
                }
            }

            impl Form for $name {
                const NAME: &'static str = $text;
                const REQUIRED: &'static [&'static str] = &[$(stringify!($rfield)),*];
                fn template() -> Self {
                    Self::new($(<$rty>::default()),*)
                }
                fn fields(&self) -> Vec<(&'static str, String)> {
                    vec![
                        $((stringify!($rfield), self.$rfield.print()),)*
                        $((stringify!($field), self.$field.print()),)*
                    ]
                }
                #[allow(unused_variables, reason = "a shape may have no field")]
                fn put(&mut self, field: &str, text: &str) -> Option<Result<(), &'static str>> {
                    match field {
                        $(stringify!($rfield) => Some(<$rty>::read(text).map(|x| self.$rfield = x).ok_or(<$rty>::KIND)),)*
                        $(stringify!($field) => Some(<$ty>::read(text).map(|x| self.$field = x).ok_or(<$ty>::KIND)),)*
                        _ => None,
                    }
                }
                fn check(&self) -> Result<()> {
                    $($rrange.check($text, stringify!($rfield), &self.$rfield)?;)*
                    $($range.check($text, stringify!($field), &self.$field)?;)*
                    Ok(())
                }
                fn rate(&self, base: f64, t: u64, warmup: u64) -> f64 {
                    self.value(base, t, warmup)
                }
            }
        )*
    };
}

shapes! {
    /// The base at every step.
    Constant = "constant" { required {} }

    /// A line from one share of the base to another, and constant after that: torch's `LinearLR`.
    Linear = "linear" {
        required {}
        /// The share at step 0. Default 1/3, torch's.
        start: f64 = 1.0 / 3.0, FACTOR;
        /// The share from step `steps` on. Default 1, torch's.
        end: f64 = 1.0, FACTOR;
        /// The number of steps of the line. Default 5, torch's.
        steps: u64 = 5, COUNT;
    }

    /// Half a cosine from the base to `min`, the closed form of torch's `CosineAnnealingLR`, and `min` after that.
    Cosine = "cosine" {
        required {
            /// The step at which `min` is reached, counted from the end of the warm-up.
            steps: u64, COUNT;
        }
        /// The lowest value, which is not a share of the base. Default 0.
        min: f64 = 0.0, FACTOR;
        /// Whether the value stays at `min`; otherwise it climbs back to the base within as many steps, and so on, as in torch. Default true.
        hold: bool = true, CHOICE;
    }

    /// The base, multiplied by `gamma` at every step: torch's `ExponentialLR`.
    Exponential = "exponential" {
        required {
            /// The factor.
            gamma: f64, POSITIVE;
        }
    }

    /// The base, multiplied by `gamma` once every `step_size` steps: torch's `StepLR`.
    Step = "step" {
        required {
            /// The number of steps of each value.
            step_size: u64, COUNT;
        }
        /// The factor. Default 0.1, torch's.
        gamma: f64 = 0.1, POSITIVE;
    }

    /// The base, multiplied by `gamma` at each milestone: torch's `MultiStepLR`.
    MultiStep = "multi_step" {
        required {
            /// The first step of each next value, in any order; a step that is listed twice counts twice.
            milestones: Vec<u64>, ANY_COUNT;
        }
        /// The factor. Default 0.1, torch's.
        gamma: f64 = 0.1, POSITIVE;
    }

    /// A climb to the base, then a fall far below the first value: torch's `OneCycleLR` with the base as `max_lr`. The momentum does not
    /// change; to cycle the momentum, give it its own schedule. From step `steps` on the last value stays (torch stops there).
    OneCycle = "one_cycle" {
        required {
            /// The number of all steps, torch's `total_steps`.
            steps: u64, COUNT;
        }
        /// The share of the steps in which the value climbs. Default 0.3, torch's.
        pct_start: f64 = 0.3, SHARE;
        /// The first value is the base divided by this factor. Default 25, torch's.
        div_factor: f64 = 25.0, POSITIVE;
        /// The last value is the first value divided by this factor. Default 1e4, torch's.
        final_div_factor: f64 = 1e4, POSITIVE;
        /// The form of each phase. Default [`Anneal::Cos`], torch's.
        anneal: Anneal = Anneal::Cos, CHOICE;
        /// Whether the value falls to the first value as fast as it climbed, and only then to the last. Default false, torch's.
        three_phase: bool = false, CHOICE;
    }

    /// The base times √(n / (n + t)): with a warm-up of n steps in front, the base times √(n / steps since the start).
    InverseSqrt = "inverse_sqrt" {
        required {}
        /// The number n. Default 0: n is the length of the warm-up, or 10,000 without a warm-up.
        timescale: u64 = 0, ANY_COUNT;
    }

    /// The base times (1 - t / steps)^power, and then 0: torch's `PolynomialLR`.
    Polynomial = "polynomial" {
        required {}
        /// The step at which 0 is reached. Default 5, torch's.
        steps: u64 = 5, COUNT;
        /// The exponent. Default 1, torch's.
        power: f64 = 1.0, FACTOR;
    }
}

macro_rules! defaults {
    ($($name:ident),*) => {
        $(impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        })*
    };
}
defaults!(Constant, Linear, InverseSqrt, Polynomial);

/// The form of a phase of [`OneCycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anneal {
    /// Half a cosine.
    Cos,
    /// A line.
    Linear,
}

impl Anneal {
    fn between(self, start: f64, end: f64, share: f64) -> f64 {
        match self {
            Self::Cos => end + (start - end) / 2.0 * ((PI * share).cos() + 1.0),
            Self::Linear => (end - start) * share + start,
        }
    }
}

impl Field for Anneal {
    const KIND: &'static str = "cos or linear";
    fn print(&self) -> String {
        if *self == Self::Cos { "cos" } else { "linear" }.to_owned()
    }
    fn read(text: &str) -> Option<Self> {
        match text {
            "cos" => Some(Self::Cos),
            "linear" => Some(Self::Linear),
            _ => None,
        }
    }
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

impl Constant {
    fn value(&self, base: f64, _: u64, _: u64) -> f64 {
        base
    }
}

impl Linear {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        if t >= self.steps {
            return base * self.end;
        }
        base * (self.start + (self.end - self.start) * t as f64 / self.steps as f64)
    }
}

impl Cosine {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        let t = if self.hold { t.min(self.steps) } else { t };
        self.min + (base - self.min) * (1.0 + (PI * t as f64 / self.steps as f64).cos()) / 2.0
    }
}

impl Exponential {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        base * self.gamma.powf(t as f64)
    }
}

impl Step {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        base * self.gamma.powf(t.checked_div(self.step_size).unwrap_or(0) as f64)
    }
}

impl MultiStep {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        base * self.gamma.powf(self.milestones.iter().filter(|m| **m <= t).count() as f64)
    }
}

impl OneCycle {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        let first = base / self.div_factor;
        let last = first / self.final_div_factor;
        let climb = self.pct_start * self.steps as f64;
        let end = self.steps as f64 - 1.0;
        let phases = if self.three_phase {
            vec![(climb - 1.0, first, base), (2.0 * climb - 2.0, base, first), (end, first, last)]
        } else {
            vec![(climb - 1.0, first, base), (end, base, last)]
        };
        let (t, mut begin) = (t as f64, 0.0);
        for (end, from, to) in phases {
            if t <= end {
                let share = if end > begin { (t - begin) / (end - begin) } else { 1.0 };
                return self.anneal.between(from, to, share);
            }
            begin = end;
        }
        last
    }
}

impl InverseSqrt {
    fn value(&self, base: f64, t: u64, warmup: u64) -> f64 {
        let n = [self.timescale, warmup, 10_000].into_iter().find(|n| *n > 0).unwrap_or(1) as f64;
        base * (n / (n + t as f64)).sqrt()
    }
}

impl Polynomial {
    fn value(&self, base: f64, t: u64, _: u64) -> f64 {
        base * (1.0 - t.min(self.steps) as f64 / self.steps as f64).powf(self.power)
    }
}
