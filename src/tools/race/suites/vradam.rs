//! VRAdam (arXiv 2505.13196): its claims on a model that two cores can train, over the rates that it should tolerate.
//!
//! This crate does not have the paper's models (a CNN, a transformer, GPT-2, a GFlowNet); the digits stand for them.

use std::path::Path;

use super::super::controls::Rate;
use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

/// The rates of the heats in which all entrants have the same rate: from AdamW's default to a rate at which no network trains.
const RATES: [f64; 5] = [1e-1, 1e-3, 1e-2, 3e-1, 1.0];

pub(super) fn heats(size: Size, _: Option<&Path>) -> Result<Vec<Heat>> {
    let mut heats = vec![at_own_rates(size)?];
    for rate in size.of(&RATES) {
        heats.push(at_one_rate("digits", "digits", *rate, size.steps(1000))?);
    }
    for rate in size.of(&[1.0, 0.1]) {
        heats.push(at_one_rate("stiff quadratic", "quadratic", *rate, size.steps(500))?);
    }
    Ok(heats)
}

fn at_own_rates(size: Size) -> Result<Heat> {
    let about = "Whether the final loss and the held-out error are smaller, with each entrant at its own rate.";
    let entrants = vec![
        subject("vradam", "vradam lr=1e-3")?,
        rival("adamw", "adamw lr=1e-3 weight_decay=1e-5")?,
        rival("radam", "radam lr=1e-3")?,
        rival("sgd, nesterov", "sgd lr=0.1 momentum=0.9 nesterov=true")?,
        rival("rmsprop", "rmsprop lr=1e-3")?,
        mean_damping("adamw")?,
    ];
    Ok(Heat::new("digits", about, track("digits")?, size.steps(1000), entrants))
}

/// All entrants at one rate, with tuning too.
fn at_one_rate(name: &str, problem: &str, lr: f64, steps: u64) -> Result<Heat> {
    let about = "Whether VRAdam tolerates a rate that AdamW does not.";
    let entrants = vec![
        subject("vradam", &format!("vradam lr={lr}"))?.rate(Rate::Fixed),
        rival("adamw", &format!("adamw lr={lr} weight_decay=1e-5"))?.rate(Rate::Fixed),
        rival("radam", &format!("radam lr={lr}"))?.rate(Rate::Fixed),
        mean_damping("adamw")?,
        control("vradam, gradient's norm", &format!("vradam lr={lr} norm_of=gradient"))?.rate(Rate::Fixed),
    ];
    Ok(Heat::new(format!("{name} at {lr}"), about, track(problem)?, steps, entrants))
}

fn mean_damping(rule: &str) -> Result<Entrant> {
    let of = "vradam".to_owned();
    let label = format!("{rule}, mean damping");
    Ok(control(&label, &format!("{rule} weight_decay=1e-5"))?.rate(Rate::MeanDamping { of }))
}
