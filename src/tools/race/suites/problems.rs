//! The suite of a problem: the papers' optimizers and the common ones, all tuned.

use std::path::Path;

use super::super::heat::{Entrant, Heat, Role, Track};
use super::{Size, rule};
use crate::Result;
use crate::tools::objectives::problems::Entry;

const FIELD: &[&str] =
    &["sgd momentum=0.9", "adam", "adamw", "flowadam", "vradam", "sadam", "warpadam", "adaiw lr=0.1"];

const STEPS: u64 = 500;

pub(super) fn heat(entry: &'static Entry, size: Size, file: Option<&Path>) -> Result<Heat> {
    let entrants = FIELD.iter().map(|text| {
        let rule = rule(text)?;
        Ok(Entrant::new(rule.name(), Role::Rival, rule))
    });
    let track = Track { problem: entry, settings: Vec::new(), file: file.map(Path::to_owned) };
    let entrants = entrants.collect::<Result<_>>()?;
    Ok(Heat::new(
        entry.name,
        format!("Which optimizer gets furthest on {}.", entry.about),
        track,
        size.steps(STEPS),
        entrants,
    ))
}
