//! The results of a race: each entrant's mean and spread over the seeds, and its differences from the subject.

use serde::Serialize;

use super::grid::{GridPoint, Search};
use super::heat::{Entrant, Heat, Role};
use super::outcome::{Outcome, or_infinite};
use super::plan::Plan;
use super::schedule::Race;
use super::stats::{Difference, Spread, wins};

/// The result of an entrant at the end of a heat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The heat's name.
    pub heat: String,
    /// The entrant's label.
    pub entrant: String,
    /// `subject`, `rival` or `control`.
    pub role: &'static str,
    /// The optimizer's name.
    pub optimizer: String,
    /// How the entrant's numbers are stored: `f32`, `bf16-sr`, ….
    pub storage: String,
    /// The learning rate; the mean over the seeds if the entrant follows another entrant's damping.
    pub lr: Option<f64>,
    /// Whether the best rate lies at a bound of the search.
    pub lr_at_limit: bool,
    /// The number of runs.
    pub runs: usize,
    /// The number of runs that diverged.
    pub diverged: usize,
    /// The measure of the errors: `rmse`, `error rate`, `loss`, ….
    pub measure: String,
    /// The held-out error of the runs that did not diverge; their loss if the problem has no held-out data.
    pub error: Option<Spread>,
    /// The published mean and standard deviation.
    pub published: Option<(f64, Option<f64>)>,
    /// The number of seeds with which no other entrant had a smaller error.
    pub wins: usize,
    /// The subject's error minus this entrant's, paired by seed: below 0 the subject is better.
    pub difference: Option<Difference>,
    /// The same difference as a share of this entrant's mean error.
    pub relative: Option<Difference>,
    /// The mean error minus the subject's, in standard deviations of the subject over the seeds; only if the two differ in storage.
    pub deviations: Option<f64>,
    /// The same for the training objective.
    pub loss_deviations: Option<f64>,
    /// The number of seeds with which the subject's error is smaller.
    pub beaten: usize,
    /// The held-out error at the point of the best validation error, as with early stopping.
    pub early: Option<Spread>,
    /// The training objective at the end.
    pub loss: Option<Spread>,
    /// The bytes per parameter of the rule's states, and of the arrays with which a rule probes, integrates or multiplies.
    pub state_bytes: Option<f64>,
    /// The mean number of evaluations per run, counted in gradients.
    pub evaluations: f64,
    /// The mean number of gradients per run.
    pub gradients: f64,
    /// The mean number of losses without a gradient per run.
    pub losses: f64,
    /// The mean seconds per run.
    pub seconds: f64,
    /// The mean number of steps per run on which a trigger fired.
    pub triggers: Option<f64>,
    /// The mean factor on the learning rate.
    pub damping: Option<f64>,
    /// The largest eigenvalue of the loss's Hessian.
    pub sharpness: Option<Spread>,
}

/// The standings of every entrant of every heat, in the plan's order.
#[must_use]
pub fn standings(plan: &Plan, race: &Race) -> Vec<Standing> {
    plan.heats.iter().flat_map(|heat| of_heat(heat, race)).collect()
}

fn of_heat(heat: &Heat, race: &Race) -> Vec<Standing> {
    let outcomes: Vec<Vec<&Outcome>> =
        heat.entrants.iter().map(|entrant| race.of(&heat.name, &entrant.label).collect()).collect();
    let errors: Vec<Vec<f64>> = outcomes.iter().map(|runs| runs.iter().map(|o| o.error()).collect()).collect();
    let losses: Vec<Vec<f64>> =
        outcomes.iter().map(|runs| runs.iter().map(|o| or_infinite(o.loss)).collect()).collect();
    let subject = heat.entrants.iter().position(|e| e.role == Role::Subject);
    let wins = wins(&errors);
    let standing = |at: usize| {
        let subjects = subject.filter(|subject| *subject != at).map(|subject| &errors[subject]);
        let pairs: Vec<(f64, f64)> = subjects.into_iter().flatten().copied().zip(errors[at].iter().copied()).collect();
        let stored_otherwise = |subject: &usize| heat.entrants[*subject].storage != heat.entrants[at].storage;
        let compared = subject.filter(stored_otherwise);
        let deviations = |values: &[Vec<f64>]| compared.and_then(|subject| deviations(&values[subject], &values[at]));
        let (deviations, loss_deviations) = (deviations(&errors), deviations(&losses));
        Standing {
            wins: wins[at],
            deviations,
            loss_deviations,
            ..one(heat, &heat.entrants[at], &outcomes[at], &pairs, race)
        }
    };
    (0..heat.entrants.len()).map(standing).collect()
}

/// The mean minus the subject's mean, in standard deviations of the subject. A run that diverged makes the result infinite.
fn deviations(subject: &[f64], own: &[f64]) -> Option<f64> {
    let spread = Spread::of(subject).filter(|spread| spread.std > 0.0)?;
    let mean = own.iter().sum::<f64>() / own.len() as f64;
    Some((mean - spread.mean) / spread.std)
}

fn one(heat: &Heat, entrant: &Entrant, runs: &[&Outcome], pairs: &[(f64, f64)], race: &Race) -> Standing {
    let search = race.search(&heat.name, &entrant.label);
    let values = |of: fn(&Outcome) -> Option<f64>| runs.iter().map(|o| or_infinite(of(o))).collect::<Vec<f64>>();
    let spread = |of| Spread::of(&values(of));
    let mean = |of| spread(of).map(|s| s.mean);
    let error = spread(|o| o.test);
    let difference = Difference::paired(pairs);
    Standing {
        heat: heat.name.clone(),
        entrant: entrant.label.clone(),
        role: entrant.role.name(),
        optimizer: entrant.rule.name().to_owned(),
        storage: entrant.storage.to_string(),
        lr: search.and_then(Search::best).map(GridPoint::rate).or_else(|| mean(|o| o.lr)),
        lr_at_limit: search.is_some_and(Search::at_limit),
        runs: runs.len(),
        diverged: runs.iter().filter(|o| o.diverged).count(),
        published: entrant.published,
        measure: runs.first().map_or_else(String::new, |o| o.measure.clone()),
        wins: 0,
        deviations: None,
        loss_deviations: None,
        relative: difference.zip(error).map(|(difference, error)| difference.relative_to(error.mean)),
        difference,
        beaten: pairs.iter().filter(|(subject, own)| subject < own).count(),
        error,
        early: spread(|o| o.early),
        loss: spread(|o| o.loss),
        state_bytes: mean(|o| Some(o.state_bytes)),
        evaluations: mean(|o| Some(o.cost.evaluations())).unwrap_or(0.0),
        gradients: mean(|o| Some(o.cost.gradients as f64)).unwrap_or(0.0),
        losses: mean(|o| Some(o.cost.losses as f64)).unwrap_or(0.0),
        seconds: mean(|o| Some(o.cost.seconds)).unwrap_or(0.0),
        triggers: mean(|o| o.triggers.map(|n| n as f64)),
        damping: mean(|o| o.damping),
        sharpness: spread(|o| o.sharpness),
    }
}
