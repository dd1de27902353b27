//! S-Adam (arXiv 2605.29547): weights and activations of few bits, small batches, and its toys.
//!
//! This crate does not have the authors' networks (a small CNN and ResNet-18 on CIFAR and subsets of ImageNet); the digits stand for them.

use std::path::Path;

use super::super::controls::{Length, Rate, Treatment};
use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

/// A heat: its name, its problem, its question, its steps, the rate of all entrants, and S-Adam's settings.
struct Case {
    name: &'static str,
    problem: &'static str,
    about: &'static str,
    steps: u64,
    lr: f64,
    k: u32,
    lambda: f64,
    sigma: f64,
}

const EXPERIMENT: Case =
    Case { name: "", problem: "", about: "", steps: 1000, lr: 1e-3, k: 8, lambda: 2.0, sigma: 0.01 };

const CASES: [Case; 6] = [
    Case {
        name: "digits of 2 bits",
        problem: "digits batch=128 bits=2",
        about: "Whether a network whose weights and activations have 2 bits is trained better.",
        ..EXPERIMENT
    },
    Case {
        name: "digits of 4 bits",
        problem: "digits batch=128 bits=4",
        about: "Whether a network whose weights and activations have 4 bits is trained better.",
        ..EXPERIMENT
    },
    Case {
        name: "digits in batches of 2",
        problem: "digits batch=2",
        about: "Whether S-Adam tolerates the noise of small batches better.",
        steps: 3000,
        ..EXPERIMENT
    },
    Case {
        name: "digits",
        problem: "digits batch=128",
        about: "The result without rounding and with ordinary batches.",
        ..EXPERIMENT
    },
    Case {
        name: "l1",
        problem: "l1",
        about: "Whether the kinks of an L1 penalty help or hurt.",
        steps: 300,
        lr: 0.01,
        k: 4,
        lambda: 0.5,
        ..EXPERIMENT
    },
    Case {
        name: "kinked rosenbrock",
        problem: "rosenbrock form=kinked y=2 spread=0.1",
        about: "Where paths in a valley with kinks end.",
        steps: 200,
        lr: 0.05,
        k: 5,
        lambda: 1.0,
        sigma: 1e-4,
    },
];

pub(super) fn heats(size: Size, _: Option<&Path>) -> Result<Vec<Heat>> {
    let heat = |case: &Case| {
        let (track, steps) = (track(case.problem)?, size.steps(case.steps));
        Ok(Heat::new(case.name, case.about, track, steps, field(case)?))
    };
    let quick = |case: &&Case| size == Size::Full || !case.name.contains("of 4 bits") && case.name != "digits";
    CASES.iter().filter(quick).map(heat).collect()
}

fn field(case: &Case) -> Result<Vec<Entrant>> {
    let Case { lr, k, lambda, sigma, .. } = case;
    let sadam = |k: u32| format!("sadam lr={lr} k={k} lgi_lambda={lambda} sigma={sigma}");
    let adamw = format!("adamw lr={lr} weight_decay=1e-2");
    let of = || "sadam".to_owned();
    Ok(vec![
        subject("sadam", &sadam(*k))?,
        rival("sadam, k 2", &sadam(2))?,
        rival("adamw", &adamw)?,
        rival("prox_sgd", "prox_sgd lr=0.01 momentum=0.9 l1=1e-4")?,
        rival("rmsprop", &format!("rmsprop lr={lr}"))?,
        control("adamw, mean damping", &adamw)?.rate(Rate::MeanDamping { of: of() }),
        control("adamw, random damping", &adamw)?
            .rate(Rate::Share { of: of(), factor: 1.0 })
            .treatment(Treatment::RandomDamping { probes: *k, lambda: *lambda }),
        control("adamw, sadam's evaluations", &adamw)?
            .rate(Rate::Share { of: "adamw".to_owned(), factor: 1.0 })
            .length(Length::EvaluationsOf(of())),
    ])
}
