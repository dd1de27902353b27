//! The races with a name: one per problem, one per paper, and this crate's own. A suite only makes a plan; [`run`](super::run) runs it.

mod adai;
mod daily;
mod flowadam;
mod problems;
mod sadam;
mod storage;
mod vradam;
mod warpadam;

use std::path::Path;

use super::heat::{Entrant, Heat, Role, Track};
use super::plan::Plan;
use crate::optim;
use crate::optim::{Rule, Value};
use crate::tools::objectives::problems::{ALL, Entry};
use crate::{Error, Result};

/// The size of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The size of the papers, or the size that two cores can run in reasonable time.
    Full,
    /// A size for a few minutes: the first heat of each kind, a quarter of the steps, two seeds.
    Quick,
}

impl Size {
    /// The number of steps at this size.
    const fn steps(self, full: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Quick => full.div_ceil(4),
        }
    }

    /// The cases that run at this size.
    fn of<T>(self, cases: &[T]) -> &[T] {
        match self {
            Self::Full => cases,
            Self::Quick => &cases[..cases.len().min(1)],
        }
    }
}

/// A race with a name.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The name.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    heats: Heats,
}

#[derive(Clone, Copy)]
enum Heats {
    /// The claims of a paper or of this crate, at the published rates unless the plan tunes them.
    Claims(fn(Size, Option<&Path>) -> Result<Vec<Heat>>),
    /// Many optimizers on several problems, with tuned rates.
    Tuned(fn(Size) -> Result<Vec<Heat>>),
    /// All optimizers on one problem, with tuned rates.
    Problem(&'static Entry),
}

impl Suite {
    /// Makes the plan. `file` has the data of a problem that needs a file; a paper's suite then adds heats on this data.
    ///
    /// # Errors
    /// The suite needs a file and none is given, or the suite takes no file and one is given.
    pub fn plan(&self, size: Size, file: Option<&Path>) -> Result<Plan> {
        let (heats, tune) = match self.heats {
            Heats::Claims(heats) => (heats(size, file)?, false),
            Heats::Tuned(heats) => (heats(size)?, true),
            Heats::Problem(entry) => (vec![problems::heat(entry, size, file)?], true),
        };
        let wants = heats.iter().any(|heat| heat.track.problem.from_file);
        match file {
            None if wants => return Err(Error::Usage(format!("{} needs a file of data", self.name))),
            Some(file) if !wants => {
                return Err(Error::Usage(format!("{} takes no file, {} was given", self.name, file.display())));
            }
            _ => {}
        }
        let seeds = (size == Size::Quick).then_some(2);
        Ok(Plan { seeds, tune, ..Plan::new(self.name, heats) })
    }
}

const NAMED: &[Suite] = &[
    Suite {
        name: "paper-flowadam",
        about: "10 to 22 % lower held-out error on matrix and tensor recovery; equal to Adam on well-conditioned problems; soft against hard injection",
        heats: Heats::Claims(flowadam::heats),
    },
    Suite {
        name: "paper-vradam",
        about: "steadier at high learning rates than AdamW, and a better final loss",
        heats: Heats::Claims(vradam::heats),
    },
    Suite {
        name: "paper-sadam",
        about: "better with few bits and with small batches",
        heats: Heats::Claims(sadam::heats),
    },
    Suite {
        name: "paper-warpadam",
        about: "a P that was learned on some tasks helps on other tasks",
        heats: Heats::Claims(warpadam::heats),
    },
    Suite {
        name: "paper-adai",
        about: "flatter minima than Adam, and a smaller held-out error than SGD and Adam",
        heats: Heats::Claims(adai::heats),
    },
    Suite {
        name: "storage",
        about: "half precision and 8-bit states reach the result of f32, within the spread of f32 over the seeds",
        heats: Heats::Claims(storage::heats),
    },
    Suite {
        name: "daily",
        about: "every optimizer on digits and on matrix completion, at its best rate of one grid, with its cost in bytes and evaluations",
        heats: Heats::Tuned(daily::heats),
    },
];

/// Every suite: the papers', this crate's, then one for each problem.
pub fn suites() -> impl Iterator<Item = Suite> {
    let of_problem =
        |entry: &'static Entry| Suite { name: entry.name, about: entry.about, heats: Heats::Problem(entry) };
    NAMED.iter().copied().chain(ALL.iter().map(of_problem))
}

/// The suite of this name.
///
/// # Errors
/// The suite does not exist; the error suggests the nearest name.
pub fn suite(name: &str) -> Result<Suite> {
    let found = suites().find(|suite| suite.name == name);
    found.ok_or_else(|| Error::unknown("suite", name, suites().map(|suite| suite.name)))
}

/// Splits `name key=value …`.
fn words(text: &str) -> (&str, impl Iterator<Item = (&str, Value)>) {
    let (name, settings) = text.split_once(' ').unwrap_or((text, ""));
    let pairs = settings.split_whitespace().filter_map(|pair| pair.split_once('='));
    (name, pairs.map(|(name, value)| (name, Value::parse(value))))
}

/// An optimizer, from a text such as `adam lr=0.01`.
fn rule(text: &str) -> Result<Box<dyn Rule>> {
    let (name, settings) = words(text);
    optim::find(name)?.configure(settings)
}

/// A problem, from a text such as `matrix rows=300`.
fn track(text: &str) -> Result<Track> {
    let (name, settings) = words(text);
    Track::new(name, settings)
}

fn subject(label: &str, text: &str) -> Result<Entrant> {
    Ok(Entrant::new(label, Role::Subject, rule(text)?))
}

fn rival(label: &str, text: &str) -> Result<Entrant> {
    Ok(Entrant::new(label, Role::Rival, rule(text)?))
}

fn control(label: &str, text: &str) -> Result<Entrant> {
    Ok(Entrant::new(label, Role::Control, rule(text)?))
}
