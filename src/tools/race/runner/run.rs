//! A run to make, and the interface of an entrant on any backend.

use crate::Result;
use crate::gpu::build::builder::Builder;
use crate::memory::Role;
use crate::optim::Rule;
use crate::tools::backend::Backend;
use crate::tools::objectives::Problem;
use crate::tools::race::budget::Budget;
use crate::tools::race::heat::{Entrant, Heat};
use crate::tools::race::outcome::Key;
use crate::tools::tensors;

/// A run to make.
pub(in crate::tools::race) struct Run<'a> {
    pub(in crate::tools::race) heat: &'a Heat,
    pub(in crate::tools::race) entrant: &'a Entrant,
    /// The entrant's rule, with the rate of this run.
    pub(in crate::tools::race) rule: Box<dyn Rule>,
    pub(in crate::tools::race) budget: Budget,
    pub(in crate::tools::race) seed: u64,
}

impl Run<'_> {
    /// The run's identity.
    pub(in crate::tools::race) fn key(&self, backend: &Backend) -> Key {
        let settings = self.rule.settings().into_iter().map(|(name, value)| format!("{name}={value}"));
        Key {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heat: self.heat.name.clone(),
            problem: self.heat.track.describe(&self.entrant.problem),
            entrant: self.entrant.label.clone(),
            optimizer: self.rule.name().to_owned(),
            settings: settings.collect::<Vec<_>>().join(" "),
            treatment: self.entrant.treatment.to_string(),
            storage: self.entrant.storage.to_string(),
            budget: self.end(),
            seed: self.seed,
            backend: backend.kind().name().to_owned(),
        }
    }

    /// The end of the run in words.
    fn end(&self) -> String {
        let patience = self.heat.patience.map(|steps| format!(", patience {steps}"));
        format!("{}{}", self.budget, patience.unwrap_or_default())
    }

    /// A builder of the optimizer with this rule, the run's own or one with other settings.
    pub(super) fn builder(&self, problem: &dyn Problem, rule: Box<dyn Rule>) -> Builder {
        let (mut builder, _) = tensors::builder(rule, problem.tensors());
        builder.storage(self.entrant.storage.clone());
        builder
    }

    /// The bytes per parameter of the rule's states and of its procedure's arrays.
    pub(super) fn state_bytes(&self, problem: &dyn Problem) -> Result<f64> {
        let memory = self.builder(problem, self.rule.clone()).memory_usage(&wgpu::Limits::default())?;
        let kept = memory.shares().iter().filter(|share| matches!(share.role, Role::State(_) | Role::Procedure(_)));
        // Whole numbers: an empty sum of f64 is -0.
        Ok(kept.map(|share| share.bytes).sum::<u64>() as f64 / memory.parameters() as f64)
    }

    pub(super) fn problem(&self, seed: u64) -> Result<Box<dyn Problem>> {
        self.heat.track.open(seed, &self.entrant.problem)
    }
}

/// The results of some steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advance {
    pub(super) steps: u64,
    pub(super) gradients: u64,
    pub(super) losses: u64,
    /// The sum over the steps of the objective before each step. A sum that is not finite ends the run.
    pub(super) loss: f64,
    /// The number of steps on which a trigger fired.
    pub(super) triggers: Option<u64>,
    /// The sum over the steps of the factor on the learning rate.
    pub(super) damping: Option<f64>,
}

/// An entrant on a problem, on any backend. On the host nothing waits.
pub(super) trait Course {
    /// Takes at least one step and at most `most`.
    async fn advance(&mut self, most: u64) -> Result<Advance>;

    /// The training objective at the current parameters, over all data.
    async fn loss(&mut self) -> Result<f64>;

    /// The current parameters.
    async fn params(&mut self) -> Result<Vec<Vec<f32>>>;
}
