//! Formulas that several rules share.

use super::number::Real;

/// The square in the second moment, if the elements of a row share nothing.
#[inline(always)]
pub(crate) fn own_square<F: Real>(weight: F, x: F) -> F {
    weight * x * x
}

/// 1 - β^t without cancellation.
pub(crate) fn bias_correction(beta: f64, t: u64) -> f64 {
    if beta == 0.0 { 1.0 } else { -(t as f64 * beta.ln()).exp_m1() }
}
