//! Storage: whether training in half precision and with 8-bit states reaches the result of f32.
//!
//! A form reaches f32's result if the mean over the seeds, of the held-out error and of the training loss, lies no more than f32's own
//! standard deviation from f32's mean. The held-out error alone is not enough: lost steps stop a run early, which can lower the held-out error.

use std::path::Path;

use super::super::heat::{Entrant, Heat};
use super::{Size, control, rival, subject, track};
use crate::Result;

/// The heats: name, problem, steps and optimizer.
const CASES: [(&str, &str, u64, &str); 2] =
    [("digits", "digits", 1500, "adamw lr=1e-3 weight_decay=1e-2"), ("matrix", "matrix l2=1e-5", 1500, "adam lr=1e-2")];

/// The problems' tensors are small: the smallest weight tensor has 640 elements. States of biases stay in f32.
const MIN: &str = "min=256";

pub(super) fn heats(size: Size, _: Option<&Path>) -> Result<Vec<Heat>> {
    let heat = |(name, problem, steps, rule): &(&str, &str, u64, &str)| {
        let about = format!(
            "Whether `{rule}` gets as far with less memory; states of fewer than 256 elements stay f32 ({MIN})."
        );
        let heat = Heat::new(*name, about, track(problem)?, size.steps(*steps), field(rule)?);
        Ok(Heat { seeds: (1..=10).collect(), ..heat })
    };
    CASES.iter().map(heat).collect()
}

fn field(rule: &str) -> Result<Vec<Entrant>> {
    let stored = |entrant: fn(&str, &str) -> Result<Entrant>, storage: &str| {
        Ok(entrant(storage, rule)?.stored(format!("{storage},{MIN}").parse()?))
    };
    Ok(vec![
        subject("f32", rule)?,
        stored(rival, "bf16-sr")?,
        stored(rival, "bf16-split")?,
        stored(rival, "f32,8bit")?,
        stored(rival, "bf16-sr,8bit")?,
        stored(control, "bf16-nearest")?,
    ])
}
