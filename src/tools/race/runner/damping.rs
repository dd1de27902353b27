//! The control that damps the learning rate at random.

use crate::optim::Rule;
use crate::tools::race::controls::random_damping;
use crate::tools::race::rates::{rate, setting};
use crate::{Error, Result, Schedule};

/// Schedules that damp the rate at random and keep the strength of a decoupled decay.
pub(super) fn random_schedules(
    rule: &dyn Rule,
    probes: u32,
    lambda: f64,
    seed: u64,
) -> Result<Vec<(&'static str, Schedule)>> {
    let lr =
        rate(rule).ok_or_else(|| Error::Usage(format!("{}: random damping needs a learning rate", rule.name())))?;
    let damping = move |t| random_damping(probes, lambda, seed, t);
    let mut schedules = vec![("lr", Schedule::custom(move |t| lr * damping(t)))];
    if let Some(decay) = setting(rule, "weight_decay") {
        schedules.push(("weight_decay", Schedule::custom(move |t| decay / damping(t))));
    }
    Ok(schedules)
}
