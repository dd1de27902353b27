//! The races that have a name: one for each problem, and one for each paper's claims. A suite only makes a plan; how a plan is run is
//! decided elsewhere.

mod adai;
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

/// How large a suite is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As in the papers, or as large as two cores run in reasonable time.
    Full,
    /// In a few minutes: the first heat of each kind, a quarter of the steps, two seeds.
    Quick,
}

impl Size {
    /// A number of steps.
    const fn steps(self, full: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Quick => full.div_ceil(4),
        }
    }

    /// The cases that run.
    fn of<T>(self, cases: &[T]) -> &[T] {
        match self {
            Self::Full => cases,
            Self::Quick => &cases[..cases.len().min(1)],
        }
    }
}

/// A race by its name.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The name.
    pub name: &'static str,
    /// What it races, in a line.
    pub about: &'static str,
    heats: Heats,
}

#[derive(Clone, Copy)]
enum Heats {
    /// A paper's claims or this crate's, at their rates unless these are to be tuned.
    Claims(fn(Size, Option<&Path>) -> Result<Vec<Heat>>),
    /// All optimizers on one problem, with tuned rates.
    Problem(&'static Entry),
}

impl Suite {
    /// What is raced: `file` is the data of problems that need a file, and of the heats that a paper's suite then adds.
    ///
    /// # Errors
    /// A file that is missing or that nobody wants.
    pub fn plan(&self, size: Size, file: Option<&Path>) -> Result<Plan> {
        let (heats, tune) = match self.heats {
            Heats::Claims(heats) => (heats(size, file)?, false),
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

const CLAIMS: &[Suite] = &[
    Suite {
        name: "paper-flowadam",
        about: "10 to 22 % lower held-out error on matrix and tensor recovery; equal to Adam when well-conditioned; soft against hard",
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
        about: "a P that was learned on some tasks helps on others",
        heats: Heats::Claims(warpadam::heats),
    },
    Suite {
        name: "paper-adai",
        about: "flatter minima than Adam, and a smaller held-out error than SGD and Adam",
        heats: Heats::Claims(adai::heats),
    },
    Suite {
        name: "storage",
        about: "half precision and 8-bit states reach what f32 reaches, within its spread over the seeds",
        heats: Heats::Claims(storage::heats),
    },
];

/// Every suite: the papers', this crate's, then one for each problem.
pub fn suites() -> impl Iterator<Item = Suite> {
    let of_problem =
        |entry: &'static Entry| Suite { name: entry.name, about: entry.about, heats: Heats::Problem(entry) };
    CLAIMS.iter().copied().chain(ALL.iter().map(of_problem))
}

/// The suite of this name.
///
/// # Errors
/// There is none; the error suggests the nearest.
pub fn suite(name: &str) -> Result<Suite> {
    let found = suites().find(|suite| suite.name == name);
    found.ok_or_else(|| Error::unknown("suite", name, suites().map(|suite| suite.name)))
}

/// `name key=value …`
fn words(text: &str) -> (&str, impl Iterator<Item = (&str, Value)>) {
    let (name, settings) = text.split_once(' ').unwrap_or((text, ""));
    let pairs = settings.split_whitespace().filter_map(|pair| pair.split_once('='));
    (name, pairs.map(|(name, value)| (name, Value::parse(value))))
}

/// An optimizer, as `adam lr=0.01`.
fn rule(text: &str) -> Result<Box<dyn Rule>> {
    let (name, settings) = words(text);
    optim::find(name)?.configure(settings)
}

/// A problem, as `matrix rows=300`.
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
