//! WarpAdam (arXiv 2409.04244), with this crate's choice of P: whether a P that was learned on some tasks helps on other tasks.
//!
//! The paper published no P, and no numbers for a comparison.

use std::path::Path;

use super::super::controls::{Rate, Treatment};
use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

/// The number of tasks on which P is learned.
const TASKS: u32 = 16;

/// Families of tasks with a common structure that P could learn.
const FAMILIES: [(&str, &str, &str, f64, u64); 4] = [
    (
        "rotated quadratics",
        "quadratic size=32 target=1",
        "Whether P learned on quadratics with the same steep axes helps on unseen quadratics with other lowest points.",
        0.03,
        300,
    ),
    (
        "rotated quadratics, spread",
        "quadratic size=32 target=1 spectrum=spread",
        "The same with curvatures over the whole range.",
        0.03,
        300,
    ),
    (
        "rotated quadratics, shuffled",
        "quadratic size=32 target=1 spectrum=shuffled",
        "The same with other steep axes in each task: only the basis is shared.",
        0.03,
        300,
    ),
    (
        "digits",
        "digits hidden=32",
        "Whether P learned on other splits and initial values of the digits helps.",
        1e-3,
        300,
    ),
];

pub(super) fn heats(size: Size, _: Option<&Path>) -> Result<Vec<Heat>> {
    let heat = |(name, problem, about, lr, steps): &(&str, &str, &str, f64, u64)| {
        Ok(Heat::new(*name, *about, track(problem)?, size.steps(*steps), field(*lr)?))
    };
    size.of(&FAMILIES).iter().map(heat).collect()
}

fn field(lr: f64) -> Result<Vec<Entrant>> {
    let warpadam = |more: &str| format!("warpadam lr={lr} {more}");
    let learned = Treatment::LearnedWarp { tasks: TASKS };
    Ok(vec![
        subject("warpadam, learned and frozen", &warpadam("warp_lr=0.01"))?.treatment(learned),
        rival("adam", &format!("adam lr={lr}"))?,
        rival("warpadam, learning as it goes", &warpadam("warp_lr=0.01"))?,
        rival("warpadam, raw, as it goes", &warpadam("warp=raw warp_lr=0.01"))?,
        control("warpadam, diagonal P, learned and frozen", &warpadam("warp_lr=0.01 warp_block=1"))?.treatment(learned),
        control("warpadam, P = I", &warpadam("warp=frozen"))?.rate(Rate::Share { of: "adam".to_owned(), factor: 1.0 }),
    ])
}
