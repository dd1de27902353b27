//! The comparison of a replay with the values that a trajectory expects.
//!
//! Rounding errors grow with the sum of the numbers that were added, and so does the allowance. For a parameter this sum is its path,
//! Σ|Δθ| over the oracle's steps. A wrong learning rate or decay changes every Δθ by a share, so that it shows even if θ is large beside
//! Δθ. A state moves back and forth (a first moment shrinks again), so its measure is its peak, the largest magnitude that it reached.
//!
//! In the table of limits, t is the step, `tolerance` is the file's tolerance, and ulp32(x) is the distance of f32 numbers at x plus the
//! smallest normal f32, because a device may flush smaller numbers to 0:
//!
//! | | f32 backends | f64 reference |
//! |---|---|---|
//! | parameter | 3·t·ulp32(θ) + tolerance·path | tolerance·(\|θ\| + path) |
//! | state | 3·t·ulp32(P) + tolerance·peak | 3·t·ulp64(P) + tolerance·peak |
//!
//! S-Adam's LGI, and the steps on which FlowAdam followed its flow, are compared too if the file has them.
//!
//! θ is the expected value, and P is the largest peak in the tensor: if an element's terms cancel (g + λθ near 0), the element keeps the
//! absolute error of the terms, and only the size of its neighbours tells how large that is.

use std::fmt;

use super::{key::PARAM, writer::Element};
use crate::io::tensor_file::quote;
use crate::{Error, Result};

/// The precision in which a backend computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// The GPU and the fast CPU path.
    F32,
    /// The reference.
    F64,
}

/// One element with its expected value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Deviation {
    /// |got − want| as a share of the limit; infinite if a number or the limit is not finite.
    pub share: f64,
    /// The step, counted from 1.
    pub step: usize,
    /// `param` or the state's name.
    pub quantity: String,
    /// The tensor's name.
    pub tensor: String,
    /// The element's index in the tensor.
    pub index: usize,
    /// The backend's value.
    pub got: f64,
    /// The expected value.
    pub want: f64,
    /// The largest allowed difference of the two.
    pub limit: f64,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, step, quantity, tensor, index, got, want, limit } = self;
        let (quantity, tensor) = (quote(quantity), quote(tensor));
        let off = (got - want).abs();
        write!(f, "{quantity} of {tensor}, element {index}, step {step}: got {got:e}, expected {want:e}, ")?;
        write!(f, "off by {off:.3e} = {share:.3} of the {limit:.3e} allowed")
    }
}

/// Collects the deviations of a replay from its trajectory.
#[derive(Debug, Clone)]
pub struct Comparison {
    precision: Precision,
    tolerance: f64,
    compared: u64,
    worst: Option<Deviation>,
}

impl Comparison {
    /// A comparison without any element so far.
    pub fn new(precision: Precision, tolerance: f64) -> Self {
        Self { precision, tolerance, compared: 0, worst: None }
    }

    /// Compares a tensor's parameters after `step`; `path` is each element's Σ|Δθ| up to this step (see [`add_travel`]).
    ///
    /// # Errors
    /// [`Error::Tensor`] if the lengths differ; nothing is compared then.
    pub fn param<T: Element>(
        &mut self,
        step: usize,
        tensor: &str,
        got: &[T],
        want: &[f64],
        path: &[f64],
    ) -> Result<()> {
        let (precision, tolerance) = (self.precision, self.tolerance);
        let limit = |want: f64, path: f64| match precision {
            Precision::F32 => 3.0 * step as f64 * ulp32(want) + tolerance * path,
            Precision::F64 => tolerance * (want.abs() + path),
        };
        self.compare(step, PARAM, tensor, got, want, path, limit)
    }

    /// Compares S-Adam's LGI of a step. The LGI is the square of the slopes' differences, which the authors round to f32.
    ///
    /// # Errors
    /// None at present.
    pub fn lgi(&mut self, step: usize, got: f64, want: f64) -> Result<()> {
        let share = match self.precision {
            Precision::F32 => self.tolerance,
            Precision::F64 => 4e-7,
        };
        self.compare(step, "lgi", "all tensors", &[got], &[want], &[0.0], |want, _| share * (want + want.sqrt()))
    }

    /// Compares whether a step followed FlowAdam's flow: 1 or 0.
    ///
    /// # Errors
    /// None at present.
    pub fn flow(&mut self, step: usize, got: f64, want: f64) -> Result<()> {
        self.compare(step, "flow", "all tensors", &[got], &[want], &[0.0], |_, _| 0.5)
    }

    /// Compares a tensor's state after `step`; `peak` is the largest magnitude of each element up to this step (see [`raise_peak`]).
    ///
    /// # Errors
    /// [`Error::Tensor`] if the lengths differ; nothing is compared then.
    pub fn state<T: Element>(
        &mut self,
        step: usize,
        state: &str,
        tensor: &str,
        got: &[T],
        want: &[f64],
        peak: &[f64],
    ) -> Result<()> {
        let largest = peak.iter().chain(want).fold(0.0, |largest, x| larger(largest, x.abs()));
        let ulp = match self.precision {
            Precision::F32 => ulp32(largest),
            Precision::F64 => ulp64(largest),
        };
        let (rounding, tolerance) = (3.0 * step as f64 * ulp, self.tolerance);
        let limit = |want: f64, peak| rounding + tolerance * larger(peak, want.abs());
        self.compare(step, state, tensor, got, want, peak, limit)
    }

    /// The element with the greatest share of its limit, among parameters and states; `None` if nothing was compared.
    pub fn worst(&self) -> Option<&Deviation> {
        self.worst.as_ref()
    }

    /// The number of elements that were compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Whether every compared element lies within its limit.
    pub fn passed(&self) -> bool {
        self.worst.as_ref().is_none_or(|worst| worst.share <= 1.0)
    }

    #[expect(clippy::too_many_arguments, reason = "one place, three slices and their limit")]
    fn compare<T: Element>(
        &mut self,
        step: usize,
        quantity: &str,
        tensor: &str,
        got: &[T],
        want: &[f64],
        scale: &[f64],
        limit: impl Fn(f64, f64) -> f64,
    ) -> Result<()> {
        check_lengths(quantity, tensor, got.len(), want.len(), scale.len())?;
        self.compared += got.len() as u64;
        let mut most = self.worst.as_ref().map_or(-1.0, |worst| worst.share);
        for (index, ((&got, &want), &scale)) in got.iter().zip(want).zip(scale).enumerate() {
            let (got, limit) = (got.into(), limit(want, scale));
            let share = share(got, want, limit);
            if share > most {
                most = share;
                let (quantity, tensor) = (quantity.to_owned(), tensor.to_owned());
                self.worst = Some(Deviation { share, step, quantity, tensor, index, got, want, limit });
            }
        }
        Ok(())
    }
}

fn check_lengths(quantity: &str, tensor: &str, got: usize, want: usize, scale: usize) -> Result<()> {
    if got == want && scale == want {
        return Ok(());
    }
    let problem = format!("{} has {got} elements and scales for {scale}, needs {want} of each", quote(quantity));
    Err(Error::Tensor { tensor: tensor.to_owned(), problem })
}

/// The share of the limit: never NaN, and above 1 for every deviation that must not pass.
fn share(got: f64, want: f64, limit: f64) -> f64 {
    let off = (got - want).abs();
    if !(off.is_finite() && limit.is_finite()) {
        f64::INFINITY
    } else if off == 0.0 {
        0.0
    } else {
        off / limit
    }
}

/// Adds |after − before| of one step of the oracle to each element's path.
pub fn add_travel(path: &mut [f64], before: &[f64], after: &[f64]) {
    for ((path, before), after) in path.iter_mut().zip(before).zip(after) {
        *path += (after - before).abs();
    }
}

/// Raises each element's peak to |state| if that is larger. A NaN stays NaN.
pub fn raise_peak(peak: &mut [f64], state: &[f64]) {
    for (peak, state) in peak.iter_mut().zip(state) {
        *peak = larger(*peak, state.abs());
    }
}

/// The larger number; NaN if either number is NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

/// The distance of f32 numbers at x, plus the smallest normal f32. NaN or infinite if x is too large for an f32.
fn ulp32(x: f64) -> f64 {
    let x = (x as f32).abs();
    f64::from(x.next_up()) - f64::from(x) + f64::from(f32::MIN_POSITIVE)
}

fn ulp64(x: f64) -> f64 {
    x.abs().next_up() - x.abs()
}
