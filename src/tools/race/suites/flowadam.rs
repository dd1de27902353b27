//! FlowAdam (arXiv 2604.06652): its tables I, II, III and V, its ablation and toys, and the author's follow-up (arXiv 2608.05136).
//!
//! Link prediction (table IV, another model of data) and CIFAR-10 are missing. Jester and MovieLens need a file from the user.

use std::path::Path;

use super::super::controls::{Length, Rate, Treatment};
use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

/// The weight of ‖θ‖² in the loss of the authors' FlowAdam. The authors' Adam has this number as a weight decay, which is half as strong.
const L2: f64 = 1e-5;

/// Published means and deviations of FlowAdam, Adam and AdamW.
type Published = [Option<(f64, f64)>; 3];

/// A case of a table: the heat's name, the problem's settings, and the published results.
type Case = (&'static str, &'static str, Published);

const MATRICES: [Case; 3] = [
    (
        "matrix small",
        "rows=200 columns=300 rank=10 density=0.3 noise=0.1",
        [Some((0.088, 0.001)), Some((0.098, 0.001)), Some((0.115, 0.003))],
    ),
    (
        "matrix medium",
        "rows=300 columns=400 rank=15 density=0.2 noise=0.1",
        [Some((0.111, 0.001)), Some((0.129, 0.001)), Some((0.181, 0.004))],
    ),
    (
        "matrix sparse",
        "rows=400 columns=500 rank=20 density=0.15 noise=0.15",
        [Some((0.237, 0.001)), Some((0.303, 0.005)), Some((0.640, 0.015))],
    ),
];

const ROBUST: [Case; 3] = [
    (
        "robust small",
        "rows=60 columns=80 rank=5 magnitude=4 noise=0.08",
        [Some((0.619, 0.031)), Some((0.736, 0.053)), None],
    ),
    (
        "robust medium",
        "rows=80 columns=100 rank=8 magnitude=4.5 noise=0.1",
        [Some((0.822, 0.016)), Some((0.955, 0.020)), None],
    ),
    (
        "robust large",
        "rows=100 columns=120 rank=10 outliers=0.18 magnitude=5 noise=0.12",
        [Some((0.819, 0.014)), Some((0.938, 0.054)), None],
    ),
];

const TENSORS: [Case; 3] = [
    (
        "tensor small",
        "rows=30 columns=40 layers=50 rank=5 density=0.1",
        [Some((0.063, 0.001)), Some((0.071, 0.002)), Some((0.083, 0.008))],
    ),
    (
        "tensor medium",
        "rows=40 columns=50 layers=60 rank=8 density=0.08",
        [Some((0.060, 0.002)), Some((0.068, 0.002)), Some((0.105, 0.027))],
    ),
    (
        "tensor large",
        "rows=50 columns=60 layers=70 rank=10 density=0.08",
        [Some((0.049, 0.001)), Some((0.055, 0.001)), Some((0.067, 0.005))],
    ),
];

pub(super) fn heats(size: Size, file: Option<&Path>) -> Result<Vec<Heat>> {
    let mut heats = Vec::new();
    for (problem, cases, steps) in [("matrix", &MATRICES, 1000), ("robust", &ROBUST, 500), ("tensor", &TENSORS, 1000)] {
        for case in size.of(cases) {
            heats.push(recovery(problem, case, size.steps(steps))?);
        }
    }
    heats.extend([kinematics(size)?, quadratic(size)?, rosenbrock(size)?, round(size)?, spirals(size)?]);
    if size == Size::Full {
        heats.push(sensing()?);
    }
    if let Some(file) = file {
        heats.extend(ratings(size, file)?);
    }
    Ok(heats)
}

/// The entrant with the L2 term in its loss.
fn regularised(entrant: Entrant) -> Entrant {
    entrant.with("l2", L2)
}

/// FlowAdam with `settings`, its rivals and its controls, all with the rate `lr`.
fn field(lr: f64, settings: &str, [flow, adam, adamw]: Published) -> Result<Vec<Entrant>> {
    let flowadam = |more: &str| format!("flowadam lr={lr} {settings} {more}");
    let same = || Rate::Share { of: "flowadam".to_owned(), factor: 1.0 };
    let matched = || control("adam, matched L2", &format!("adam lr={lr}")).map(regularised);
    let with = |entrant: Entrant, published: Option<(f64, f64)>| match published {
        Some((mean, std)) => entrant.published(mean, Some(std)),
        None => entrant,
    };
    Ok(vec![
        with(regularised(subject("flowadam", &flowadam(""))?), flow),
        with(rival("adam", &format!("adam lr={lr} weight_decay=1e-5"))?, adam),
        with(rival("adamw", &format!("adamw lr={lr} weight_decay=1e-2"))?, adamw),
        matched()?,
        Entrant { label: "adam, matched L2, 0.3 of the rate".to_owned(), ..matched()? }
            .rate(Rate::Share { of: "flowadam".to_owned(), factor: 0.3 }),
        regularised(control("flowadam, no flow move", &flowadam(""))?).rate(same()).treatment(Treatment::Stay),
        regularised(control("flowadam, hard injection", &flowadam("injection=hard"))?).rate(same()),
        regularised(control("flowadam, dopri5", &flowadam("integrator=dopri5"))?).rate(same()),
        Entrant { label: "adam, matched L2, dopri5's gradients".to_owned(), ..matched()? }
            .rate(Rate::Share { of: "adam, matched L2".to_owned(), factor: 1.0 })
            .length(Length::EvaluationsOf("flowadam, dopri5".to_owned())),
    ])
}

fn recovery(problem: &str, (name, settings, published): &Case, steps: u64) -> Result<Heat> {
    let about = "Whether FlowAdam recovers the unobserved entries with a smaller error than Adam, and why.";
    let track = track(&format!("{problem} {settings}"))?;
    Ok(Heat::new(*name, about, track, steps, field(0.01, "", *published)?))
}

fn kinematics(size: Size) -> Result<Heat> {
    let about = "Whether an arm's tip follows a half circle more closely.";
    let settings = "switch_sensitivity=0.9 curvature_sensitivity=1.5 ode_t_scale=0.5";
    let entrants = field(0.015, settings, [Some((0.144, 0.070)), Some((0.182, 0.080)), Some((0.182, 0.080))])?;
    let seeds = vec![42, 100, 123, 789, 999];
    Ok(Heat { seeds, ..Heat::new("kinematics", about, track("kinematics")?, size.steps(1500), entrants) })
}

fn quadratic(size: Size) -> Result<Heat> {
    let about = "The remaining loss on a quadratic with two steep axes. The published losses come from one script; its factor before H is not known.";
    let mut entrants = field(0.01, "", [None; 3])?;
    for (entrant, loss) in entrants.iter_mut().zip([36.0, 97.0]) {
        entrant.published = Some((loss, None));
    }
    Ok(Heat::new("stiff quadratic", about, track("quadratic")?, size.steps(500), entrants))
}

fn rosenbrock(size: Size) -> Result<Heat> {
    let about =
        "Whether the loss in Rosenbrock's valley ends about 12 % below Adam's, from starts that seeds move a little.";
    let settings = "switch_sensitivity=0.5 curvature_sensitivity=2 ode_t_scale=1";
    Ok(Heat::new(
        "rosenbrock",
        about,
        track("rosenbrock spread=0.1")?,
        size.steps(500),
        field(0.01, settings, [None; 3])?,
    ))
}

fn round(size: Size) -> Result<Heat> {
    let about = "Whether FlowAdam equals Adam where all axes have nearly one curvature.";
    let track = track("quadratic condition=2 spectrum=spread")?;
    Ok(Heat::new("well-conditioned quadratic", about, track, size.steps(500), field(0.01, "", [None; 3])?))
}

/// This heat has twenty seeds; the paper has one.
fn spirals(size: Size) -> Result<Heat> {
    let about = "Whether soft injection classifies two spirals on which hard injection fails: the paper has 0 % of errors against 17.5 %, \
                 with one seed.";
    let settings = "switch_sensitivity=0.5 curvature_sensitivity=2 ode_t_scale=1";
    let flowadam = |more: &str| format!("flowadam lr=0.005 {settings} {more}");
    let same = || Rate::Share { of: "flowadam".to_owned(), factor: 1.0 };
    let entrants = vec![
        subject("flowadam", &flowadam(""))?.published(0.0, None),
        rival("adam", "adam lr=0.005")?.published(0.0, None),
        rival("sgd", "sgd lr=0.01 momentum=0.9")?.published(0.456, None),
        control("flowadam, hard injection", &flowadam("injection=hard"))?.published(0.175, None).rate(same()),
        control("flowadam, no flow move", &flowadam(""))?.rate(same()).treatment(Treatment::Stay),
    ];
    let seeds = (1..=20).collect();
    Ok(Heat { seeds, ..Heat::new("spirals", about, track("spirals")?, size.steps(4000), entrants) })
}

/// No entrant is regularised and every entrant interpolates, so that runs end at a training loss.
fn sensing() -> Result<Heat> {
    let about = "Which of the matrices that fit all measurements an optimizer finds; the published results are FlowAdam's with its own clip, and Adam's.";
    let flowadam = "flowadam lr=0.001";
    let same = || Rate::Share { of: "flowadam".to_owned(), factor: 1.0 };
    let entrants = vec![
        subject("flowadam", flowadam)?.published(0.3466, None),
        rival("adam", "adam lr=0.01")?.published(0.5734, None),
        rival("sgd", "sgd lr=0.01")?.published(0.1312, None),
        control("adam, FlowAdam's rate", "adam")?.rate(same()),
        control("adam, 0.3 of FlowAdam's rate", "adam")?.rate(Rate::Share { of: "flowadam".to_owned(), factor: 0.3 }),
        control("flowadam, no flow move", flowadam)?.rate(same()).treatment(Treatment::Stay),
    ];
    let seeds = vec![42, 123, 456];
    let heat = Heat::new("sensing", about, track("sensing")?, 20_000, entrants);
    Ok(Heat { seeds, until: Some(1e-7), ..heat })
}

/// Ratings from the user's file, without biases and with biases that are fitted first, both by the paper's protocol for MovieLens: 2000 steps
/// at most, and an end after 100 steps without a better validation error. The paper's runs on Jester have 1000 steps.
fn ratings(size: Size, file: &Path) -> Result<[Heat; 2]> {
    let heat = |name: &str, biases: bool, about: &str| {
        let mut track = track(&format!("ratings biases={biases}"))?;
        track.file = Some(file.to_owned());
        let heat = Heat::new(name, about, track, size.steps(2000), field(0.01, "", [None; 3])?);
        Ok(Heat { patience: Some(100), ..heat })
    };
    Ok([
        heat("ratings", false, "Whether held-out ratings are predicted better: the paper says by 6 % on Jester.")?,
        heat("ratings without biases", true, "Whether little of that gain remains if biases are fitted first.")?,
    ])
}
