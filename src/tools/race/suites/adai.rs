//! Adai and AdaiW (arXiv 2006.15815): the held-out error, and the sharpness of the minima.
//!
//! This crate does not have the paper's networks (ResNet-18 to GoogLeNet on CIFAR); the digits stand for them.

use std::path::Path;

use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

const CASES: [(&str, &str, &str); 2] = [
    (
        "digits",
        "digits",
        "Whether minima are flatter than Adam's, and the held-out error smaller than SGD's and Adam's.",
    ),
    ("few digits", "digits validation=0.2 test=0.6", "The same with a fifth of the digits to learn from."),
];

pub(super) fn heats(size: Size, _: Option<&Path>) -> Result<Vec<Heat>> {
    let heat = |(name, problem, about): &(&str, &str, &str)| {
        let heat = Heat::new(*name, *about, track(problem)?, size.steps(1500), field()?);
        Ok(Heat { sharpness: true, seeds: (1..=10).collect(), ..heat })
    };
    size.of(&CASES).iter().map(heat).collect()
}

/// The authors' settings: Adai's rate is ten times that of SGD with momentum.
fn field() -> Result<Vec<Entrant>> {
    Ok(vec![
        subject("adaiw", "adaiw lr=1 weight_decay=5e-4")?,
        rival("adai", "adai lr=1 weight_decay=5e-4")?,
        rival("sgd, momentum", "sgd lr=0.1 momentum=0.9 weight_decay=5e-4")?,
        rival("adam", "adam lr=1e-3 weight_decay=5e-4")?,
        rival("adamw", "adamw lr=1e-3 weight_decay=5e-4")?,
        rival("amsgrad", "adam lr=1e-3 amsgrad=true weight_decay=5e-4")?,
        control("sgd, averaged momentum", "sgd lr=1 momentum=0.9 dampening=0.9 weight_decay=5e-4")?,
        control("sgd, plain", "sgd lr=1 weight_decay=5e-4")?,
    ])
}
