//! Races: optimizers on the problems on which their papers claim to win, over several seeds, with the controls that could explain the
//! effect.
//!
//! A [`Plan`] holds heats; a [`Heat`] is one problem and its [`Entrant`]s, each an optimizer with its settings, a
//! [`Rate`] and, for controls, a [`Treatment`]. [`suite`] gives the plans that the command line knows by name. [`run`] makes the
//! runs, on the host as many at once as it has threads; [`standings`] sums them up; [`report`] writes tables, a CSV and plots.
//!
//! Everybody runs on equal terms: the same data and initial parameters for a seed, the same budget, learning rates from one grid chosen
//! by the error on validation data ([`Search`]), differences paired by seed ([`Difference`]). A rule of one's own enters as any other:
//!
//! ```
//! use wgpu_optim::tools::backend::Backend;
//! use wgpu_optim::optim::{CustomRule, Range};
//! use wgpu_optim::tools::race;
//! use wgpu_optim::tools::race::{Budget, Entrant, Ledger, Role};
//!
//! # fn main() -> wgpu_optim::Result<()> {
//! let rule = CustomRule::from_wgsl("sign", "
//!     struct Hyper { lr: f32 }
//!     fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
//!         return -h.lr * sign(g);
//!     }")?
//!     .setting("lr", 1e-2, Range::NOT_NEGATIVE)
//!     .cpu(|h, _p, g, _s| -h[0] * g.signum());
//! let mut plan = race::suite("matrix")?.plan(race::Size::Quick, None)?;
//! (plan.seeds, plan.tune) = (Some(1), false);
//! plan.budget = Some(Budget::Steps(Some(20)));
//! plan.heats[0].entrants.push(Entrant::new("sign", Role::Rival, rule));
//! let race = race::run(&plan, &Backend::Cpu, &mut Ledger::default(), |_| {})?;
//! let standings = race::standings(&plan, &race);
//! assert!(standings.iter().any(|s| s.entrant == "sign" && s.error.is_some()));
//! # Ok(())
//! # }
//! ```

mod budget;
mod controls;
mod grid;
mod heat;
mod ledger;
mod outcome;
mod pool;
pub mod report;
mod runner;
mod schedule;
mod standings;
mod stats;
mod suites;

pub use budget::Budget;
pub use controls::{Length, Rate, Treatment, random_damping};
pub use grid::{GridPoint, Search};
pub use heat::{Entrant, Heat, Published, Role, Track};
pub use ledger::Ledger;
pub use outcome::{Cost, Key, Outcome, Point};
pub use schedule::{Event, Race, Tuned, run};
pub use standings::{Standing, standings};
pub use stats::{Difference, Spread, wins};
pub use suites::{Size, Suite, suite, suites};

use crate::{Error, Result};

/// What is raced, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The suite's name.
    pub suite: String,
    /// One after another.
    pub heats: Vec<Heat>,
    /// How many seeds each entrant runs with. Default: each heat's own, mostly five.
    pub seeds: Option<usize>,
    /// Whether learning rates are chosen from the grid, by the validation error of the first three seeds. Default: the papers' rates.
    pub tune: bool,
    /// Where runs end. Default: after each heat's number of steps.
    pub budget: Option<Budget>,
}

impl Plan {
    /// These heats with their own seeds and lengths, untuned.
    #[must_use]
    pub fn new(suite: impl Into<String>, heats: Vec<Heat>) -> Self {
        Self { suite: suite.into(), heats, seeds: None, tune: false, budget: None }
    }

    /// Keeps the heats that have one of these texts in their names.
    ///
    /// # Errors
    /// A text that no heat has.
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
    /// No heat or seed; two heats of one name; a heat that makes no sense.
    pub fn check(&self) -> Result<()> {
        if self.heats.is_empty() || self.seeds == Some(0) {
            let (heats, seeds) = (self.heats.len(), self.seeds.unwrap_or(1));
            return Err(Error::Usage(format!("the race has {heats} heats and {seeds} seeds, needs some of both")));
        }
        for (at, heat) in self.heats.iter().enumerate() {
            heat.check()?;
            if self.heats[..at].iter().any(|other| other.name == heat.name) {
                return Err(Error::Duplicate { kind: "heat", name: heat.name.clone() });
            }
        }
        Ok(())
    }

    /// Where a heat's runs end.
    fn budget(&self, heat: &Heat) -> Budget {
        self.budget.unwrap_or(Budget::Steps(None)).or(heat.steps)
    }
}
