//! Formulas that several rules share.

use super::number::Real;

/// The square in the second moment, where the elements of a row share nothing.
#[inline(always)]
pub(crate) fn own_square<F: Real>(weight: F, x: F) -> F {
    weight * x * x
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
