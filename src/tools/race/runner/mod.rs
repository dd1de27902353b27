//! One run: an entrant on a problem with a seed, on one backend.

mod device;
mod host;
mod meter;
mod sharpness;

use super::Budget;
use super::controls::random_damping;
use super::heat::{Entrant, Heat};
use super::outcome::{Key, LOSS, Outcome, finite};
use super::schedule::{rate, setting};
use crate::optim::Rule;
use crate::tools::backend::Backend;
use crate::tools::objectives::{Measure, Problem};
use crate::{Error, Result, Schedule};
use meter::Meter;

/// A run to be made.
pub(super) struct Run<'a> {
    pub(super) heat: &'a Heat,
    pub(super) entrant: &'a Entrant,
    /// The entrant's rule, with the rate of this run.
    pub(super) rule: Box<dyn Rule>,
    pub(super) budget: Budget,
    pub(super) seed: u64,
}

impl Run<'_> {
    /// What tells it from every other run.
    pub(super) fn key(&self, backend: &Backend) -> Key {
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

    fn problem(&self, seed: u64) -> Result<Box<dyn Problem>> {
        self.heat.track.open(seed, &self.entrant.problem)
    }
}

/// What some steps did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advance {
    steps: u64,
    gradients: u64,
    losses: u64,
    /// The sum over the steps of the objective where they began; what is not finite ends the run.
    loss: f64,
    /// At how many of them a trigger fired.
    triggers: Option<u64>,
    /// The sum over the steps of the factor on the learning rate.
    damping: Option<f64>,
}

/// An entrant that moves over a problem, on whatever backend.
trait Course {
    /// Makes some steps, no more than `most`.
    fn advance(&mut self, most: u64) -> Result<Advance>;

    /// The training objective here, over all of its data.
    fn loss(&mut self) -> Result<f64>;

    /// The parameters here.
    fn params(&mut self) -> Result<Vec<Vec<f32>>>;
}

/// Makes a run.
pub(super) fn run(run: &Run<'_>, backend: &Backend) -> Result<Outcome> {
    let problem = run.problem(run.seed)?;
    let outcome = match backend {
        Backend::Cpu => drive(run, problem.as_ref(), &mut host::Host::<f32>::new(run, problem.as_ref())?),
        Backend::Reference => drive(run, problem.as_ref(), &mut host::Host::<f64>::new(run, problem.as_ref())?),
        Backend::Gpu(gpu) => drive(run, problem.as_ref(), &mut device::Device::new(run, problem.as_ref(), gpu)?),
    }?;
    Ok(Outcome { key: run.key(backend), ..outcome })
}

fn drive(run: &Run<'_>, problem: &dyn Problem, course: &mut dyn Course) -> Result<Outcome> {
    let mut meter = Meter::new(run, problem);
    meter.measure(course)?;
    while !meter.is_over() {
        let advance = meter.time(|most| course.advance(most))?;
        if !advance.loss.is_finite() {
            return Ok(meter.diverged());
        }
        if meter.wants_point() || meter.is_over() {
            meter.measure(course)?;
        }
    }
    let mut outcome = meter.ended(course)?;
    if run.heat.sharpness && !outcome.diverged {
        outcome.sharpness = finite(sharpness::of(problem, &course.params()?)?);
    }
    Ok(outcome)
}

/// A measure as an error: less is better.
fn error(measure: Option<Measure>, value: Option<f64>) -> Option<f64> {
    let turn = |x| if measure.is_some_and(|m| m.more_is_better) { 1.0 - x } else { x };
    value.map(turn)
}

/// What the errors of a problem measure.
fn measured(problem: &dyn Problem) -> &'static str {
    match problem.measure() {
        None => LOSS,
        Some(Measure::ACCURACY) => "error rate",
        Some(measure) => measure.name,
    }
}

/// Schedules that damp the rate at random and leave the strength of a decoupled decay.
fn random_schedules(rule: &dyn Rule, probes: u32, lambda: f64, seed: u64) -> Result<Vec<(&'static str, Schedule)>> {
    let lr =
        rate(rule).ok_or_else(|| Error::Usage(format!("{}: random damping needs a learning rate", rule.name())))?;
    let damping = move |t| random_damping(probes, lambda, seed, t);
    let mut schedules = vec![("lr", Schedule::custom(move |t| lr * damping(t)))];
    if let Some(decay) = setting(rule, "weight_decay") {
        schedules.push(("weight_decay", Schedule::custom(move |t| decay / damping(t))));
    }
    Ok(schedules)
}
