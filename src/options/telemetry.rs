//! Measurements of a step.

use std::sync::Arc;

use crate::Error;

/// The norms of one tensor, or of all tensors together, in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// ‖g‖ before a clip by norm: unscaled, over all micro-batches, clipped by value. Infinite above 1.8e19, where ‖g‖² leaves f32.
    pub gradient: f64,
    /// The count of the gradient's elements that are not finite.
    pub nonfinite: u64,
    /// ‖θ‖ before the step.
    pub parameter: f64,
    /// ‖Δθ‖; 0 for a skipped step.
    pub update: f64,
    /// The factor of the clip by norm; 1 without a clip. Over all tensors, the smallest factor. 0 where ‖g‖ is infinite, NaN where a gradient
    /// is NaN.
    pub clip: f64,
}

impl Norms {
    /// ‖Δθ‖ / ‖θ‖; 0 where no parameter changed.
    #[must_use]
    pub fn update_ratio(&self) -> f64 {
        if self.update == 0.0 { 0.0 } else { self.update / self.parameter }
    }
}

/// A tensor's part of [`Stats`].
#[derive(Clone, Debug, PartialEq)]
pub struct TensorStats {
    /// The tensor's name.
    pub name: Arc<str>,
    /// The tensor's norms.
    pub norms: Norms,
}

/// The measurements of one finished step.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// The step count after this step, without skipped steps.
    pub step_count: u64,
    /// The count so far of steps that were skipped because of a gradient that is not finite.
    pub skipped: u64,
    /// The norms over all tensors.
    pub total: Norms,
    /// The norms of each tensor, in order.
    pub tensors: Vec<TensorStats>,
    /// The count so far of samples that were not taken because every slot of the ring buffer was in use.
    pub dropped: u64,
}

impl Stats {
    /// The name of the first tensor with a gradient, or a norm of it, that is not finite.
    #[must_use]
    pub fn first_nonfinite(&self) -> Option<&str> {
        let bad = |norms: &Norms| norms.nonfinite > 0 || !norms.gradient.is_finite();
        self.tensors.iter().find(|t| bad(&t.norms)).map(|t| &*t.name)
    }
}

/// The error for a rule that telemetry cannot measure.
/// The error where no step counts the gradients that are not finite.
pub(crate) fn nothing_counts() -> Error {
    let problem = "no step counts gradients that are not finite: build with a test for them, a loss scale, a clip by norm or telemetry";
    Error::Usage(problem.to_owned())
}

/// The squares from which the norms of a step are computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Squares {
    pub(crate) gradient: f64,
    pub(crate) nonfinite: f64,
    pub(crate) parameter: f64,
    pub(crate) update: f64,
    pub(crate) clip: f64,
}

impl Squares {
    /// Whether a step with these gradients is skipped, if the optimizer tests its steps.
    pub(crate) fn is_bad(&self) -> bool {
        self.nonfinite > 0.0 || !self.gradient.is_finite()
    }

    pub(crate) fn norms(self) -> Norms {
        Norms {
            gradient: self.gradient.sqrt(),
            nonfinite: self.nonfinite as u64,
            parameter: self.parameter.sqrt(),
            update: self.update.sqrt(),
            clip: self.clip,
        }
    }

    /// The norms over all tensors.
    pub(crate) fn total(tensors: &[Self]) -> Self {
        let mut all = Self { clip: f64::INFINITY, ..Self::default() };
        for tensor in tensors {
            all.gradient += tensor.gradient;
            all.nonfinite += tensor.nonfinite;
            all.parameter += tensor.parameter;
            all.update += tensor.update;
            all.clip = if all.clip.is_nan() || all.clip < tensor.clip { all.clip } else { tensor.clip };
        }
        Self { clip: if tensors.is_empty() { 1.0 } else { all.clip }, ..all }
    }
}
