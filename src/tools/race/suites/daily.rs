//! The daily race: every rule of the registry on two small problems, at its best rate of one grid.

use super::super::heat::{Entrant, Heat, Role};
use super::{Size, rival, track};
use crate::Result;
use crate::optim;
use crate::optim::Value;

/// The heats: the problem, which is also the name, and the number of steps.
const CASES: [(&str, u64); 2] = [("digits", 1000), ("matrix", 1000)];

/// The rule that the others are compared with.
const SUBJECT: &str = "adamw";

/// The seeds by which rates are judged. They are not among those of the comparison, so that no rule is judged by the data that chose its rate.
const TUNING: [u64; 3] = [1001, 1002, 1003];

pub(super) fn heats(size: Size) -> Result<Vec<Heat>> {
    let heat = |(problem, steps): &(&str, u64)| {
        let about = "Which rules of this crate get furthest with their default settings, and what each costs.";
        let heat = Heat::new(*problem, about, track(problem)?, size.steps(*steps), field()?);
        Ok(Heat { seeds: (1..=10).collect(), tuning: TUNING.to_vec(), ..heat })
    };
    CASES.iter().map(heat).collect()
}

/// Every rule with its defaults, and SGD with the momentum that people use.
fn field() -> Result<Vec<Entrant>> {
    let with_defaults = |entry: &optim::Entry| {
        // A rate without a default is found by the search.
        let required = entry.required.iter().map(|name| (*name, Value::Number(0.1)));
        // Muon shares its rate with AdamW, which steps the vectors of the model.
        let shared =
            entry.settings.contains(&"adjust_lr").then(|| ("adjust_lr", Value::Word("match_rms_adamw".into())));
        let rule = entry.configure(required.chain(shared))?;
        let role = if entry.name == SUBJECT { Role::Subject } else { Role::Rival };
        Ok(Entrant::new(entry.name, role, rule))
    };
    let more = rival("sgd, momentum", "sgd momentum=0.9");
    optim::ALL.iter().map(with_defaults).chain([more]).collect()
}
