//! Which runs a race needs, and in which order: first the search for rates, then everybody, those last who follow another's outcome.

use std::collections::HashMap;

use super::controls::{Length, Rate};
use super::grid::{GridPoint, Search};
use super::heat::{Entrant, Heat};
use super::ledger::Ledger;
use super::outcome::Outcome;
use super::runner::Run;
use super::{Budget, Plan, pool, runner};
use crate::backend::Backend;
use crate::optim::{Rule, Value};
use crate::{Error, Result, report};

/// How many seeds a rate is judged by.
const TUNING_SEEDS: usize = 3;

/// What a race reports on its way.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// More runs are to come, of which some were made before.
    Planned {
        /// How many are to be made.
        runs: usize,
        /// How many were made before.
        known: usize,
    },
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

/// What a race left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Race {
    /// Every heat's runs, by entrant and seed.
    pub outcomes: Vec<Outcome>,
    /// The searches, where the plan tunes.
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
}

/// Makes every run of the plan that the ledger does not hold, and keeps it there. The same plan on the same backend gives the same
/// numbers, seconds excepted, unless its budget is in seconds.
///
/// On the host as many runs are under way as it has threads, each on one; on a GPU one at a time. Blocks.
///
/// # Errors
/// A plan that makes no sense; what the backend and the problems report.
pub fn run(plan: &Plan, backend: &Backend, ledger: &mut Ledger, on: impl FnMut(Event<'_>)) -> Result<Race> {
    plan.check()?;
    let mut field = Field { plan, backend, ledger, on };
    let tuned = if plan.tune { field.tune()? } else { Vec::new() };
    field.race(tuned)
}

struct Field<'a, O> {
    plan: &'a Plan,
    backend: &'a Backend,
    ledger: &'a mut Ledger,
    on: O,
}

impl<O: FnMut(Event<'_>)> Field<'_, O> {
    fn tune(&mut self) -> Result<Vec<Tuned>> {
        let plan = self.plan;
        let own = |heat: &&Heat, entrant: &&Entrant| entrant.rate == Rate::Own && rate(entrant.rule.as_ref()).is_some() && heat.steps > 0;
        let everybody = plan.heats.iter().flat_map(|heat| heat.entrants.iter().map(move |entrant| (heat, entrant)));
        let searched: Vec<(&Heat, &Entrant)> = everybody.filter(|(heat, entrant)| own(heat, entrant)).collect();
        let mut searches = vec![Search::default(); searched.len()];
        loop {
            let pending = |(at, search): (usize, &Search)| search.pending().into_iter().map(move |p| (at, p)).collect();
            let pending: Vec<(usize, GridPoint)> =
                searches.iter().enumerate().flat_map(|search| -> Vec<(usize, GridPoint)> { pending(search) }).collect();
            if pending.is_empty() {
                break;
            }
            let seeds = plan.seeds.min(TUNING_SEEDS);
            let mut runs = Vec::new();
            for (at, point) in &pending {
                let (heat, entrant) = searched[*at];
                let rule = with_rate(entrant.rule.as_ref(), point.rate())?;
                let budget = plan.budget(heat);
                let run = |seed| Run { heat, entrant, rule: rule.clone(), budget, seed };
                runs.extend(heat.seeds(seeds).into_iter().map(run));
            }
            let outcomes = self.make(&runs)?;
            for ((at, point), outcomes) in pending.iter().zip(outcomes.chunks(seeds)) {
                searches[*at].put(*point, outcomes.iter().map(Outcome::score).sum::<f64>() / seeds as f64);
            }
        }
        let named = |((heat, entrant), search): ((&Heat, &Entrant), Search)| Tuned {
            heat: heat.name.clone(),
            entrant: entrant.label.clone(),
            search,
        };
        Ok(searched.into_iter().zip(searches).map(named).collect())
    }

    fn race(&mut self, tuned: Vec<Tuned>) -> Result<Race> {
        let plan = self.plan;
        let mut race = Race { outcomes: Vec::new(), tuned };
        let (followers, leaders): (Vec<_>, Vec<_>) = plan
            .heats
            .iter()
            .flat_map(|heat| heat.entrants.iter().map(move |entrant| (heat, entrant)))
            .partition(|(_, entrant)| entrant.needs().next().is_some());
        for wave in [leaders, followers] {
            let mut runs = Vec::new();
            for (heat, entrant) in wave {
                for seed in heat.seeds(plan.seeds) {
                    runs.push(self.prepare(&race, heat, entrant, seed)?);
                }
            }
            let outcomes = self.make(&runs)?;
            race.outcomes.extend(outcomes);
        }
        Ok(race)
    }

    /// An entrant's run, with the rate and the length that follow from the outcomes so far.
    fn prepare<'a>(&self, race: &Race, heat: &'a Heat, entrant: &'a Entrant, seed: u64) -> Result<Run<'a>> {
        let outcome = |of: &str| {
            let mut theirs = race.of(&heat.name, of);
            let found = theirs.find(|outcome| outcome.key.seed == seed);
            found.ok_or_else(|| Error::Usage(format!("heat `{}`: `{of}` has no run with seed {seed}", heat.name)))
        };
        let own = |label: &str, rule: &dyn Rule| {
            let best = race.search(&heat.name, label).and_then(Search::best).map(GridPoint::rate);
            best.or_else(|| rate(rule))
        };
        let rule = match &entrant.rate {
            Rate::Own => own(&entrant.label, entrant.rule.as_ref())
                .map_or_else(|| Ok(entrant.rule.clone()), |lr| with_rate(entrant.rule.as_ref(), lr))?,
            Rate::Share { of, factor } => {
                let leader = heat.entrant(of).and_then(|e| own(of, e.rule.as_ref()));
                let leader = leader.ok_or_else(|| Error::Usage(format!("`{of}` has no learning rate to share")))?;
                with_rate(entrant.rule.as_ref(), rounded(leader * factor))?
            }
            Rate::MeanDamping { of } => {
                let theirs = outcome(of)?;
                let damping = theirs.damping.filter(|d| *d > 0.0);
                let damping = damping.ok_or_else(|| Error::Usage(format!("`{of}` damps no learning rate")))?;
                damped(entrant.rule.as_ref(), theirs.lr, damping)?
            }
        };
        let budget = match &entrant.length {
            Length::Own => self.plan.budget(heat),
            Length::EvaluationsOf(of) => Budget::Evaluations(Some(outcome(of)?.cost.evaluations().round() as u64)),
        };
        Ok(Run { heat, entrant, rule, budget, seed })
    }

    /// The outcomes of these runs, in order: those that the ledger lacks are made.
    fn make(&mut self, runs: &[Run<'_>]) -> Result<Vec<Outcome>> {
        let Self { backend, ledger, on, .. } = self;
        let keys: Vec<_> = runs.iter().map(|run| run.key(backend)).collect();
        // Two entrants of one heat never share a key; a search and the race may.
        let unknown: HashMap<_, _> =
            keys.iter().zip(runs).filter(|(key, _)| ledger.find(key).is_none()).collect();
        let mut missing: Vec<&Run<'_>> = unknown.values().copied().collect();
        missing.sort_by_key(|run| runs.iter().position(|r| std::ptr::eq(r, *run)));
        on(Event::Planned { runs: missing.len(), known: runs.len() - missing.len() });
        let threads = if backend.gpu().is_some() { 1 } else { report::threads() };
        pool::all(&missing, threads, |run| runner::run(run, backend), |_, outcome: Outcome| {
            on(Event::Ended(&outcome));
            ledger.put(outcome)
        })?;
        let found = keys.iter().filter_map(|key| ledger.find(key).cloned()).collect::<Vec<_>>();
        Ok(found)
    }
}

/// A rule's learning rate, where it has one.
pub(super) fn rate(rule: &dyn Rule) -> Option<f64> {
    setting(rule, "lr")
}

pub(super) fn setting(rule: &dyn Rule, wanted: &str) -> Option<f64> {
    rule.settings().into_iter().find_map(|(name, value)| match value {
        Value::Number(x) if name == wanted => Some(x),
        _ => None,
    })
}

fn with_rate(rule: &dyn Rule, lr: f64) -> Result<Box<dyn Rule>> {
    with(rule, "lr", lr)
}

fn with(rule: &dyn Rule, name: &str, value: f64) -> Result<Box<dyn Rule>> {
    let mut rule = rule.boxed();
    rule.set(name, &Value::Number(value))?;
    rule.check()?;
    Ok(rule)
}

/// The rate damped, and the decoupled decay as strong as before.
fn damped(rule: &dyn Rule, lr: f64, damping: f64) -> Result<Box<dyn Rule>> {
    let slowed = with_rate(rule, lr * damping)?;
    match setting(rule, "weight_decay") {
        Some(decay) => with(slowed.as_ref(), "weight_decay", decay / damping),
        None => Ok(slowed),
    }
}

/// A product of decimal rates as its shortest decimal: 0.3 of 0.01 is 0.003.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.12e}").parse().unwrap_or(rate)
}
