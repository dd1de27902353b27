//! The runs of a race and their order: first the search for rates, then all entrants; entrants that need the outcomes of others run last.

use std::collections::HashSet;

use super::controls::{Length, Rate};
use super::grid::{GridPoint, Search};
use super::heat::{Entrant, Heat};
use super::ledger::Ledger;
use super::outcome::{Key, Outcome, Point};
use super::plan::Plan;
#[cfg(not(target_arch = "wasm32"))]
use super::pool;
use super::rates::{rate, rounded, setting, with, with_rate};
use super::runner::Run;
use super::{Budget, runner};
use crate::optim::Rule;
use crate::tools::backend::Backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::tools::report;
use crate::{Error, Result};

/// A report during a race.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// More runs are planned; some of them were made before.
    Planned {
        /// The number of runs to make.
        runs: usize,
        /// The number of runs that the ledger already holds.
        known: usize,
    },
    /// A run took a measurement.
    Measured(&'a Key, &'a Point),
    /// A run ended.
    Ended(&'a Outcome),
}

/// The search for an entrant's rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The heat's name.
    pub heat: String,
    /// The entrant's label.
    pub entrant: String,
    /// Every rate with its mean validation error.
    pub search: Search,
}

/// The result of a race.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Race {
    /// The runs of every heat, by entrant and seed.
    pub outcomes: Vec<Outcome>,
    /// The searches, if the plan tunes.
    pub tuned: Vec<Tuned>,
}

impl Race {
    /// An entrant's outcomes, in the order of the seeds.
    pub fn of<'a>(&'a self, heat: &'a str, entrant: &'a str) -> impl Iterator<Item = &'a Outcome> {
        self.outcomes.iter().filter(move |o| o.key.heat == heat && o.key.entrant == entrant)
    }

    /// The search for an entrant's rate.
    #[must_use]
    pub fn search(&self, heat: &str, entrant: &str) -> Option<&Search> {
        self.tuned.iter().find(|t| t.heat == heat && t.entrant == entrant).map(|t| &t.search)
    }

    /// The best rate of an entrant that was tuned, or the rate of its rule.
    fn rate(&self, heat: &Heat, entrant: &Entrant) -> Option<f64> {
        let best = self.search(&heat.name, &entrant.label).and_then(Search::best);
        best.map(GridPoint::rate).or_else(|| rate(entrant.rule.as_ref()))
    }
}

/// Makes every run of the plan that the ledger does not hold, and stores it there. The same plan on the same backend gives the same numbers,
/// except for seconds, unless the budget is in seconds.
///
/// The host makes one run per thread at a time, and a GPU makes one run at a time. The function blocks; a page calls [`run_async`].
///
/// # Errors
/// The plan is invalid; the backend or a problem reports an error.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(plan: &Plan, backend: &Backend, ledger: &mut Ledger, on: impl FnMut(Event<'_>)) -> Result<Race> {
    pollster::block_on(run_async(plan, backend, ledger, on))
}

/// As `run`. In a page one run follows the other, and the future yields to the event loop where a run waits for the GPU.
///
/// # Errors
/// As `run`.
pub async fn run_async(plan: &Plan, backend: &Backend, ledger: &mut Ledger, on: impl FnMut(Event<'_>)) -> Result<Race> {
    plan.check()?;
    let mut field = Field { plan, backend, ledger, on };
    let tuned = if plan.tune { field.tune().await? } else { Vec::new() };
    field.race(tuned).await
}

struct Field<'a, O> {
    plan: &'a Plan,
    backend: &'a Backend,
    ledger: &'a mut Ledger,
    on: O,
}

impl<O: FnMut(Event<'_>)> Field<'_, O> {
    async fn tune(&mut self) -> Result<Vec<Tuned>> {
        let searched: Vec<(&Heat, &Entrant)> =
            all_entrants(self.plan).filter(|(_, entrant)| entrant.is_tuned()).collect();
        let mut searches = vec![Search::default(); searched.len()];
        loop {
            let pending: Vec<(usize, GridPoint)> = searches
                .iter()
                .enumerate()
                .flat_map(|(at, search)| search.pending().into_iter().map(move |point| (at, point)))
                .collect();
            if pending.is_empty() {
                break;
            }
            let tries: Vec<_> = pending.iter().map(|(at, point)| (searched[*at], *point)).collect();
            for ((at, point), score) in pending.iter().zip(self.scores(&tries).await?) {
                searches[*at].put(*point, score);
            }
        }
        let named = |((heat, entrant), search): ((&Heat, &Entrant), Search)| Tuned {
            heat: heat.name.clone(),
            entrant: entrant.label.clone(),
            search,
        };
        Ok(searched.into_iter().zip(searches).map(named).collect())
    }

    /// The mean validation error of each entrant with each rate.
    async fn scores(&mut self, tries: &[((&Heat, &Entrant), GridPoint)]) -> Result<Vec<f64>> {
        let mut runs = Vec::new();
        for ((heat, entrant), point) in tries {
            let rule = with_rate(entrant.rule.as_ref(), point.rate())?;
            let run = |seed| Run { heat, entrant, rule: rule.clone(), budget: self.plan.budget(heat), seed };
            runs.push(heat.tuning_seeds(self.plan.seeds).into_iter().map(run).collect::<Vec<_>>());
        }
        let seeds: Vec<usize> = runs.iter().map(Vec::len).collect();
        let mut outcomes = self.make(&runs.into_iter().flatten().collect::<Vec<_>>()).await?.into_iter();
        let mean = |seeds: usize| outcomes.by_ref().take(seeds).map(|o| o.score()).sum::<f64>() / seeds as f64;
        Ok(seeds.into_iter().map(mean).collect())
    }

    async fn race(&mut self, tuned: Vec<Tuned>) -> Result<Race> {
        let plan = self.plan;
        let mut race = Race { outcomes: Vec::new(), tuned };
        let (followers, leaders): (Vec<_>, Vec<_>) =
            all_entrants(plan).partition(|(_, entrant)| entrant.needs().next().is_some());
        for wave in [leaders, followers] {
            let mut runs = Vec::new();
            for (heat, entrant) in wave {
                for seed in heat.seeds(plan.seeds) {
                    runs.push(prepare(plan, &race, heat, entrant, seed)?);
                }
            }
            let outcomes = self.make(&runs).await?;
            race.outcomes.extend(outcomes);
        }
        Ok(race)
    }

    /// The outcomes of these runs, in order. Runs that the ledger does not hold are made.
    async fn make(&mut self, runs: &[Run<'_>]) -> Result<Vec<Outcome>> {
        let Self { backend, ledger, on, .. } = self;
        let keys: Vec<Key> = runs.iter().map(|run| run.key(backend)).collect();
        let mut unknown: HashSet<&Key> = keys.iter().filter(|key| ledger.find(key).is_none()).collect();
        let missing: Vec<&Run<'_>> =
            keys.iter().zip(runs).filter(|(key, _)| unknown.remove(key)).map(|(_, run)| run).collect();
        on(Event::Planned { runs: missing.len(), known: runs.len() - missing.len() });
        each(&missing, backend, on, |outcome| ledger.put(outcome)).await?;
        Ok(keys.iter().filter_map(|key| ledger.find(key).cloned()).collect())
    }
}

/// Makes these runs, on as many threads as the backend allows.
#[cfg(not(target_arch = "wasm32"))]
async fn each(
    runs: &[&Run<'_>],
    backend: &Backend,
    on: &mut impl FnMut(Event<'_>),
    mut put: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let threads = if backend.gpu().is_some() { 1 } else { report::threads() };
    let keys: Vec<Key> = runs.iter().map(|run| run.key(backend)).collect();
    let on = std::cell::RefCell::new(on);
    pool::all(
        runs,
        threads,
        |run, note| pollster::block_on(runner::run(run, backend, &mut |point| note(*point))),
        |at, point| (on.borrow_mut())(Event::Measured(&keys[at], &point)),
        |_, outcome: Outcome| {
            (on.borrow_mut())(Event::Ended(&outcome));
            put(outcome)
        },
    )
}

/// Makes these runs, one after the other.
#[cfg(target_arch = "wasm32")]
async fn each(
    runs: &[&Run<'_>],
    backend: &Backend,
    on: &mut impl FnMut(Event<'_>),
    mut put: impl FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    for run in runs {
        let key = run.key(backend);
        let outcome = runner::run(run, backend, &mut |point| on(Event::Measured(&key, point))).await?;
        on(Event::Ended(&outcome));
        put(outcome)?;
    }
    Ok(())
}

fn all_entrants(plan: &Plan) -> impl Iterator<Item = (&Heat, &Entrant)> {
    plan.heats.iter().flat_map(|heat| heat.entrants.iter().map(move |entrant| (heat, entrant)))
}

/// An entrant's run, with the rate and the length that follow from the outcomes so far.
fn prepare<'a>(plan: &Plan, race: &Race, heat: &'a Heat, entrant: &'a Entrant, seed: u64) -> Result<Run<'a>> {
    let outcome_of = |of| {
        let found = race.of(&heat.name, of).find(|outcome| outcome.key.seed == seed);
        found.ok_or_else(|| Error::Usage(format!("heat `{}`: `{of}` has no run with seed {seed}", heat.name)))
    };
    let rule = match &entrant.rate {
        Rate::Own | Rate::Fixed => match race.rate(heat, entrant) {
            Some(lr) => with_rate(entrant.rule.as_ref(), lr)?,
            None => entrant.rule.clone(),
        },
        Rate::Share { of, factor } => {
            let leader = heat.entrant(of).and_then(|leader| race.rate(heat, leader));
            let leader = leader.ok_or_else(|| Error::Usage(format!("`{of}` has no learning rate to share")))?;
            with_rate(entrant.rule.as_ref(), rounded(leader * factor))?
        }
        Rate::MeanDamping { of } => damped(entrant.rule.as_ref(), outcome_of(of)?)?,
    };
    let budget = match &entrant.length {
        Length::Own => plan.budget(heat),
        Length::EvaluationsOf(of) => Budget::Evaluations(Some(outcome_of(of)?.cost.evaluations().round() as u64)),
    };
    Ok(Run { heat, entrant, rule, budget, seed })
}

/// The rule at the mean damped rate of another run. A decoupled decay keeps its strength, because the other run's decay was not damped.
fn damped(rule: &dyn Rule, other: &Outcome) -> Result<Box<dyn Rule>> {
    let Some((lr, damping)) = other.lr.zip(other.damping).filter(|(_, damping)| *damping > 0.0) else {
        return Err(Error::Usage(format!("`{}` damps no learning rate", other.key.entrant)));
    };
    let slowed = with_rate(rule, lr * damping)?;
    match setting(rule, "weight_decay") {
        Some(decay) => with(slowed.as_ref(), "weight_decay", decay / damping),
        None => Ok(slowed),
    }
}
