//! The number types that a rule's CPU form runs in.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The number types that a rule's CPU form runs in: f32 and f64. Each function is the standard library's of the same name, except
/// [`clamp`](Self::clamp).
pub trait Real:
    Copy
    + PartialOrd
    + Debug
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// Rounds from f64.
    fn from_f64(x: f64) -> Self;
    /// Widens to f64.
    fn to_f64(self) -> f64;
    /// 0
    fn zero() -> Self;
    /// 1
    fn one() -> Self;
    /// The distance from 1 to the next larger number.
    fn epsilon() -> Self;
    /// Not a number.
    fn nan() -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The magnitude.
    fn abs(self) -> Self;
    /// 1 or -1 with the sign of this number, also where this number is a zero; NaN for NaN.
    fn signum(self) -> Self;
    /// The larger of two; of a number and NaN the number.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; of a number and NaN the number.
    fn min(self, other: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// e to this power.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The sine.
    fn sin(self) -> Self;
    /// The cosine.
    fn cos(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// This number to a power.
    fn powf(self, power: Self) -> Self;

    /// This number, clamped to the bounds. A NaN stays a NaN. The function does not check the bounds, so that the compiler turns loops
    /// over it into vector instructions.
    #[inline]
    #[must_use]
    fn clamp(self, least: Self, most: Self) -> Self {
        if self < least {
            least
        } else if self > most {
            most
        } else {
            self
        }
    }
}

macro_rules! real {
    ($($type:ident)*) => {$(
        impl Real for $type {
            #[inline]
            fn from_f64(x: f64) -> Self {
                x as Self
            }
            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn zero() -> Self {
                0.0
            }
            #[inline]
            fn one() -> Self {
                1.0
            }
            #[inline]
            fn epsilon() -> Self {
                Self::EPSILON
            }
            #[inline]
            fn nan() -> Self {
                Self::NAN
            }
            real! { @std $type is_finite() -> bool }
            real! { @std $type abs() -> Self }
            real! { @std $type signum() -> Self }
            real! { @std $type max(other) -> Self }
            real! { @std $type min(other) -> Self }
            real! { @std $type sqrt() -> Self }
            real! { @std $type exp() -> Self }
            real! { @std $type ln() -> Self }
            real! { @std $type sin() -> Self }
            real! { @std $type cos() -> Self }
            real! { @std $type tanh() -> Self }
            real! { @std $type powf(power) -> Self }
        }
    )*};
    (@std $type:ident $name:ident($($other:ident)?) -> $out:ty) => {
        #[inline]
        fn $name(self $(, $other: Self)?) -> $out {
            $type::$name(self $(, $other)?)
        }
    };
}

real!(f32 f64);
