//! Formulas that several rules share.

use super::number::Real;

/// The square in the second moment, if the elements of a row share nothing.
#[inline(always)]
pub(crate) fn own_square<F: Real>(weight: F, x: F) -> F {
    weight * x * x
}

/// 1 where a cautious step moves an element, else 0: both numbers have the same sign, and neither is 0.
#[inline(always)]
pub(crate) fn agreeing<F: Real>(a: F, b: F) -> F {
    let zero = F::zero();
    if (a > zero && b > zero) || (a < zero && b < zero) { F::one() } else { zero }
}

/// The factor of the elements that a cautious step moves, from their share of the tensor.
pub(crate) fn caution<F: Real>(share: F) -> F {
    F::one() / share.max(F::from_f64(1e-3))
}

/// 1 - β^t without cancellation.
pub(crate) fn bias_correction(beta: f64, t: u64) -> f64 {
    if beta == 0.0 { 1.0 } else { -(t as f64 * beta.ln()).exp_m1() }
}
