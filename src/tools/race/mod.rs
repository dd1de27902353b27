//! Races: optimizers on the problems on which their papers claim to win, over several seeds, with controls that could explain the effect.
//!
//! A [`Plan`] holds heats; a [`Heat`] is one problem and its [`Entrant`]s, each an optimizer with its settings, a
//! [`Rate`] and, for controls, a [`Treatment`]. [`suite`] gives the plans that the command line knows by name. [`run`] makes the
//! runs, on the host one per thread at a time; [`standings`] summarizes them; [`report`] writes tables, a CSV and plots.
//!
//! All entrants run on equal terms: the same data and initial parameters for a seed, the same budget, learning rates chosen from one grid
//! by the error on validation data ([`Search`]), differences paired by seed ([`Difference`]). Your own rule enters like any other:
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
mod plan;
#[cfg(not(target_arch = "wasm32"))]
mod pool;
mod rates;
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
pub use plan::Plan;
#[cfg(not(target_arch = "wasm32"))]
pub use schedule::run;
pub use schedule::{Event, Race, Tuned, run_async};
pub use standings::{Standing, standings};
pub use stats::{Difference, Spread, wins};
pub use suites::{Size, Suite, suite, suites};
