//! The loss of an observed entry's residual.

use crate::optim::rule::Real;

/// The loss of an entry's residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools::objectives) enum Observed {
    /// The square.
    Squared,
    /// Huber's loss with δ = 1: r²/2 up to 1, |r| - 1/2 beyond.
    Huber,
}

impl Observed {
    #[inline(always)]
    pub(super) fn term<F: Real>(self, r: F) -> F {
        let half = F::from_f64(0.5);
        match self {
            Self::Squared => r * r,
            Self::Huber if r.abs() > F::one() => r.abs() - half,
            Self::Huber => half * r * r,
        }
    }

    #[inline(always)]
    pub(super) fn slope<F: Real>(self, r: F) -> F {
        match self {
            Self::Squared => r + r,
            Self::Huber if r.abs() > F::one() => r.signum(),
            Self::Huber => r,
        }
    }
}
