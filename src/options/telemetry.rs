//! What a step did, as numbers to look at.

use std::sync::Arc;

use crate::Error;

/// The norms of a tensor, or of all of them, in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// ‖g‖ as the rule would see it before a clip by norm: unscaled, over all micro-batches, clipped by value.
    pub gradient: f64,
    /// How many numbers of the gradient are not finite.
    pub nonfinite: u64,
    /// ‖θ‖ before the step.
    pub parameter: f64,
    /// ‖Δθ‖; 0 where the step was left out.
    pub update: f64,
    /// What the clip by norm multiplied the gradient with; 1 where there is none. Of all tensors, the smallest.
    pub clip: f64,
}

impl Norms {
    /// ‖Δθ‖ / ‖θ‖, 0 where nothing moved.
    #[must_use]
    pub fn update_ratio(&self) -> f64 {
        if self.update == 0.0 { 0.0 } else { self.update / self.parameter }
    }
}

/// A tensor's part of [`Stats`].
#[derive(Clone, Debug, PartialEq)]
pub struct TensorStats {
    /// Its name.
    pub name: Arc<str>,
    /// Its norms.
    pub norms: Norms,
}

/// What one finished step did.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// The step count after this step: skipped steps do not count.
    pub step_count: u64,
    /// Steps left out so far because a gradient was not finite.
    pub skipped: u64,
    /// The norms over all tensors.
    pub total: Norms,
    /// Each tensor's, in order.
    pub tensors: Vec<TensorStats>,
    /// Samples of steps that were not taken so far, because every place of the ring was under way.
    pub dropped: u64,
}

impl Stats {
    /// The name of the first tensor with a gradient that is not finite.
    #[must_use]
    pub fn first_nonfinite(&self) -> Option<&str> {
        self.tensors.iter().find(|t| t.norms.nonfinite > 0).map(|t| &*t.name)
    }
}

/// Why a rule cannot be measured.
pub(crate) fn refuse(rule: &str) -> Error {
    Error::Usage(format!("{rule} moves parameters between evaluations too, which telemetry does not measure"))
}

/// Why nobody knows of gradients that are not finite.
pub(crate) fn nothing_counts() -> Error {
    let problem = "no step counts gradients that are not finite: build with a test for them, a loss scale, a clip by norm or telemetry";
    Error::Usage(problem.to_owned())
}

/// The squares that a step's norms are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Squares {
    pub(crate) gradient: f64,
    pub(crate) nonfinite: f64,
    pub(crate) parameter: f64,
    pub(crate) update: f64,
    pub(crate) clip: f64,
}

impl Squares {
    pub(crate) fn norms(self) -> Norms {
        Norms {
            gradient: self.gradient.sqrt(),
            nonfinite: self.nonfinite as u64,
            parameter: self.parameter.sqrt(),
            update: self.update.sqrt(),
            clip: self.clip,
        }
    }

    /// Over all tensors.
    pub(crate) fn total(tensors: &[Self]) -> Self {
        let mut all = Self { clip: f64::INFINITY, ..Self::default() };
        for tensor in tensors {
            all.gradient += tensor.gradient;
            all.nonfinite += tensor.nonfinite;
            all.parameter += tensor.parameter;
            all.update += tensor.update;
            all.clip = all.clip.min(tensor.clip);
        }
        Self { clip: if tensors.is_empty() { 1.0 } else { all.clip }, ..all }
    }
}
