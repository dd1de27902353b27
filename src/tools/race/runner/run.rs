//! A run to be made, and what an entrant does on any backend.

use crate::Result;
use crate::optim::Rule;
use crate::tools::backend::Backend;
use crate::tools::objectives::Problem;
use crate::tools::race::budget::Budget;
use crate::tools::race::heat::{Entrant, Heat};
use crate::tools::race::outcome::Key;

/// A run to be made.
pub(in crate::tools::race) struct Run<'a> {
    pub(in crate::tools::race) heat: &'a Heat,
    pub(in crate::tools::race) entrant: &'a Entrant,
    /// The entrant's rule, with the rate of this run.
    pub(in crate::tools::race) rule: Box<dyn Rule>,
    pub(in crate::tools::race) budget: Budget,
    pub(in crate::tools::race) seed: u64,
}

impl Run<'_> {
    /// What tells it from every other run.
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
            budget: self.budget.to_string(),
            seed: self.seed,
            backend: backend.kind().name().to_owned(),
        }
    }

    pub(super) fn problem(&self, seed: u64) -> Result<Box<dyn Problem>> {
        self.heat.track.open(seed, &self.entrant.problem)
    }
}

/// What some steps did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advance {
    pub(super) steps: u64,
    pub(super) gradients: u64,
    pub(super) losses: u64,
    /// The sum over the steps of the objective where they began; what is not finite ends the run.
    pub(super) loss: f64,
    /// At how many of them a trigger fired.
    pub(super) triggers: Option<u64>,
    /// The sum over the steps of the factor on the learning rate.
    pub(super) damping: Option<f64>,
}

/// An entrant that moves over a problem, on whatever backend.
pub(super) trait Course {
    /// Makes some steps, no more than `most`.
    fn advance(&mut self, most: u64) -> Result<Advance>;

    /// The training objective here, over all of its data.
    fn loss(&mut self) -> Result<f64>;

    /// The parameters here.
    fn params(&mut self) -> Result<Vec<Vec<f32>>>;
}
