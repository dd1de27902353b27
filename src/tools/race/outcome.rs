//! What one run of an entrant left behind.

use serde::{Deserialize, Serialize};

/// What errors measure where a problem has no held-out data.
pub(super) const LOSS: &str = "loss";

/// Which run: everything that decides its numbers. Two runs with equal keys on one backend are the same run.
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
    /// What was changed about the optimizer, or about how it runs; empty where nothing was.
    pub treatment: String,
    /// How its numbers were stored: `f32`, `bf16-sr`, ….
    pub storage: String,
    /// Where the run ends.
    pub budget: String,
    /// Decides the data and the initial parameters.
    pub seed: u64,
    /// `gpu`, `cpu` or `reference`.
    pub backend: String,
}

/// A measurement on the way. Numbers that are not finite are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken.
    pub step: u64,
    /// Evaluations so far, in gradients: [`Cost::evaluations`].
    pub evaluations: f64,
    /// The objective where the next step starts: over the mini-batches since the last point their mean.
    pub loss: Option<f64>,
    /// The error on validation data.
    pub validation: Option<f64>,
    /// The error on held-out data.
    pub test: Option<f64>,
    /// The share of steps since the last point at which a trigger fired.
    pub triggered: Option<f64>,
    /// The mean factor on the learning rate since the last point.
    pub damping: Option<f64>,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Steps taken.
    pub steps: u64,
    /// Gradient evaluations.
    pub gradients: u64,
    /// Evaluations of the loss alone.
    pub losses: u64,
    /// Seconds in steps and evaluations, without the measurements.
    pub seconds: f64,
}

impl Cost {
    /// Evaluations in gradients. A loss alone counts as a third of a gradient, which is a forward pass and a backward pass of twice its
    /// work.
    #[must_use]
    pub fn evaluations(&self) -> f64 {
        self.gradients as f64 + self.losses as f64 / 3.0
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which run.
    pub key: Key,
    /// What the errors measure: `rmse`, `error rate`, `loss`, ….
    pub measure: String,
    /// The learning rate, of rules that have one.
    pub lr: Option<f64>,
    /// What it cost.
    pub cost: Cost,
    /// Whether the loss or a parameter stopped being finite; the run ended there.
    pub diverged: bool,
    /// The training objective at the end.
    pub loss: Option<f64>,
    /// The error on validation data at the end, or the loss of problems that have none; what rates are chosen by.
    pub validation: Option<f64>,
    /// The error on held-out data at the end, or the loss of problems that have none.
    pub test: Option<f64>,
    /// The error on held-out data at that point of the run where validation was best: the run, stopped early.
    pub early: Option<f64>,
    /// At how many steps a trigger fired; for rules that have one.
    pub triggers: Option<u64>,
    /// The mean factor that the rule put on its learning rate; for rules that have one.
    pub damping: Option<f64>,
    /// The largest eigenvalue of the training loss's Hessian at the end; where the heat asks for it.
    pub sharpness: Option<f64>,
    /// About a hundred measurements on the way.
    pub points: Vec<Point>,
    /// The parameters at each step, for problems that have two.
    pub path: Vec<[f32; 2]>,
}

impl Outcome {
    /// The held-out error, infinite where the run went astray.
    #[must_use]
    pub fn error(&self) -> f64 {
        or_infinite(self.test)
    }

    /// The validation error, infinite where the run went astray.
    #[must_use]
    pub fn score(&self) -> f64 {
        or_infinite(self.validation)
    }
}

/// A number as JSON can hold it.
pub(super) fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

pub(super) fn or_infinite(x: Option<f64>) -> f64 {
    x.unwrap_or(f64::INFINITY)
}
