//! Rounding of weights and hidden activations in the forward pass. Gradients pass through as if nothing was rounded (the straight-through
//! estimator), as in S-Adam's experiments (arXiv 2605.29547).

use crate::optim::rule::Real;

/// The numbers to which values are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// Four numbers: -2, -1, 0 and 1. The largest magnitude of the values is scaled to 1.5.
    Two,
    /// Sixteen numbers: -8 to 7. The largest magnitude of the values is scaled to 7.
    Four,
}

/// The rounding of a tensor's values: `x·scale` is rounded to the nearest integer in `least..=most` and divided by the scale. The scale
/// takes the largest magnitude to `top`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) top: f32,
    pub(super) least: f32,
    pub(super) most: f32,
}

/// Keeps the scale finite where all values are 0.
pub(super) const FLOOR: f32 = 1e-5;

impl Bits {
    pub(super) const fn grid(self) -> Grid {
        match self {
            Self::Two => Grid { top: 1.5, least: -2.0, most: 1.0 },
            Self::Four => Grid { top: 7.0, least: -8.0, most: 7.0 },
        }
    }

    /// Rounds values with the largest magnitude `largest`. Values that are not finite become NaN, so that they stay visible.
    #[inline(always)]
    pub(super) fn round<F: Real>(self, largest: F, from: &[F], to: &mut Vec<F>) {
        let Grid { top, least, most } = self.grid();
        let [top, least, most, floor] = [top, least, most, FLOOR].map(|x| F::from_f64(x.into()));
        let scale = top / (largest + floor);
        let value = |x: &F| {
            let whole = to_even(*x * scale);
            let above = if whole < least { least } else { whole };
            (if above > most { most } else { above }) / scale
        };
        to.clear();
        to.extend(from.iter().map(value));
    }
}

/// The nearest integer, with ties to even, as in WGSL and torch. Adding a number with a unit in the last place of 1 rounds in this way.
#[inline(always)]
fn to_even<F: Real>(x: F) -> F {
    let large = F::from_f64(1.5) / F::epsilon();
    (x + large) - large
}
