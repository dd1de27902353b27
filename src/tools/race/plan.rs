//! The plan of a race: its heats, the number of seeds, and the end of runs.

use super::budget::Budget;
use super::heat::Heat;
use crate::{Error, Result};

/// The plan of a race.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The suite's name.
    pub suite: String,
    /// The heats, which run one after another.
    pub heats: Vec<Heat>,
    /// The number of seeds per entrant. Default: each heat's own number, mostly five.
    pub seeds: Option<usize>,
    /// Whether learning rates are chosen from the grid, by the mean validation error over each heat's tuning seeds. Default: the papers'
    /// rates.
    pub tune: bool,
    /// The end of runs. Default: after each heat's number of steps.
    pub budget: Option<Budget>,
}

impl Plan {
    /// A plan of these heats with their own seeds and lengths, without tuning.
    #[must_use]
    pub fn new(suite: impl Into<String>, heats: Vec<Heat>) -> Self {
        Self { suite: suite.into(), heats, seeds: None, tune: false, budget: None }
    }

    /// Keeps the heats with one of these texts in their names.
    ///
    /// # Errors
    /// No heat's name contains one of the texts.
    pub fn keep(&mut self, texts: &[String]) -> Result<()> {
        if let Some(lost) = texts.iter().find(|text| !self.heats.iter().any(|heat| heat.name.contains(text.as_str()))) {
            return Err(Error::unknown("heat", lost, self.heats.iter().map(|heat| heat.name.as_str())));
        }
        self.heats.retain(|heat| texts.iter().any(|text| heat.name.contains(text.as_str())));
        Ok(())
    }

    /// Checks everything that can be checked before a run.
    ///
    /// # Errors
    /// The plan has no heat or no seed; two heats have one name; a heat is invalid.
    pub fn check(&self) -> Result<()> {
        if self.heats.is_empty() || self.seeds == Some(0) {
            let (heats, seeds) = (self.heats.len(), self.seeds.unwrap_or(1));
            return Err(Error::Usage(format!(
                "the race has {heats} heats and {seeds} seeds, needs at least one of each"
            )));
        }
        for (at, heat) in self.heats.iter().enumerate() {
            heat.check()?;
            if self.heats[..at].iter().any(|other| other.name == heat.name) {
                return Err(Error::Duplicate { kind: "heat", name: heat.name.clone() });
            }
        }
        Ok(())
    }

    /// The end of a heat's runs.
    pub(super) fn budget(&self, heat: &Heat) -> Budget {
        self.budget.unwrap_or(Budget::Steps(None)).or(heat.steps)
    }
}
