//! The outcome of one run.

use serde::{Deserialize, Serialize};

/// The measure of errors for a problem without held-out data.
pub(super) const LOSS: &str = "loss";

/// The identity of a run: everything that decides its numbers. Two runs with equal keys are the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// This crate's version.
    pub version: String,
    /// The heat's name.
    pub heat: String,
    /// The problem with its settings.
    pub problem: String,
    /// The entrant's label.
    pub entrant: String,
    /// The optimizer's name.
    pub optimizer: String,
    /// All its settings with their values.
    pub settings: String,
    /// The change to the optimizer or to its run; empty without a change.
    pub treatment: String,
    /// The storage: `f32`, `bf16-sr`, ….
    pub storage: String,
    /// The end of the run.
    pub budget: String,
    /// The seed of the data and the initial parameters.
    pub seed: u64,
    /// `gpu`, `cpu` or `reference`.
    pub backend: String,
}

/// A measurement during a run. Numbers that are not finite are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken.
    pub step: u64,
    /// Evaluations so far, counted in gradients: [`Cost::evaluations`].
    pub evaluations: f64,
    /// The objective before the next step: the mean over the mini-batches since the last point.
    pub loss: Option<f64>,
    /// The error on validation data.
    pub validation: Option<f64>,
    /// The error on held-out data.
    pub test: Option<f64>,
    /// The share of steps since the last point on which a trigger fired.
    pub triggered: Option<f64>,
    /// The mean factor on the learning rate since the last point.
    pub damping: Option<f64>,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Steps taken.
    pub steps: u64,
    /// Gradient evaluations.
    pub gradients: u64,
    /// Evaluations of the loss without the gradient.
    pub losses: u64,
    /// Seconds in steps and evaluations, without measurements.
    pub seconds: f64,
}

impl Cost {
    /// Evaluations, counted in gradients. A loss alone counts as a third of a gradient: a gradient is a forward pass and a backward pass of
    /// twice its work.
    #[must_use]
    pub fn evaluations(&self) -> f64 {
        self.gradients as f64 + self.losses as f64 / 3.0
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The identity of the run.
    pub key: Key,
    /// The measure of the errors: `rmse`, `error rate`, `loss`, ….
    pub measure: String,
    /// The learning rate, if the rule has one.
    pub lr: Option<f64>,
    /// The cost of the run.
    pub cost: Cost,
    /// The bytes per parameter of the rule's states, and of the arrays with which a rule probes, integrates or multiplies.
    pub state_bytes: f64,
    /// Whether the loss or a parameter became infinite or NaN; the run ended there.
    pub diverged: bool,
    /// The training objective at the end.
    pub loss: Option<f64>,
    /// The error on validation data at the end, or at the best point of a run with patience; or the loss if the problem has no validation
    /// data. Rates are chosen by this error.
    pub validation: Option<f64>,
    /// The error on held-out data at the same point, or the loss if the problem has no held-out data.
    pub test: Option<f64>,
    /// The error on held-out data at the point of the best validation error, as with early stopping.
    pub early: Option<f64>,
    /// The number of steps on which a trigger fired, if the rule has one.
    pub triggers: Option<u64>,
    /// The mean factor that the rule put on its learning rate, if the rule has one.
    pub damping: Option<f64>,
    /// The largest eigenvalue of the training loss's Hessian at the end, if the heat measures it.
    pub sharpness: Option<f64>,
    /// The measurements during the run, about a hundred.
    pub points: Vec<Point>,
    /// The parameters at each step, for problems that have two.
    pub path: Vec<[f32; 2]>,
}

impl Outcome {
    /// The held-out error, infinite if the run diverged.
    #[must_use]
    pub fn error(&self) -> f64 {
        or_infinite(self.test)
    }

    /// The validation error, infinite if the run diverged.
    #[must_use]
    pub fn score(&self) -> f64 {
        or_infinite(self.validation)
    }
}

/// A finite number, which JSON can hold; `None` for any other.
pub(super) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

pub(super) fn or_infinite(x: Option<f64>) -> f64 {
    x.unwrap_or(f64::INFINITY)
}
