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

/// The factor of the elements that a cautious step moves, from their count and that of all elements of the tensor. A total holds each count, and
/// no quotient, so that the totals of parts of a tensor add up.
pub(crate) fn caution<F: Real>(agreeing: F, elements: F) -> F {
    F::one() / (agreeing / elements.max(F::one())).max(F::from_f64(1e-3))
}

/// 1 - β^t without cancellation.
pub(crate) fn bias_correction(beta: f64, t: u64) -> f64 {
    if beta == 0.0 { 1.0 } else { -(t as f64 * beta.ln()).exp_m1() }
}

/// The least logarithm of a rate of decay: e to this power is 0 in f32 too.
pub(crate) const LEAST_LN: f64 = -1e4;

/// ln β, bounded for β = 0.
pub(crate) fn ln_beta(beta: f64) -> f64 {
    beta.ln().max(LEAST_LN)
}
