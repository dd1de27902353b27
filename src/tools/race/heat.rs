//! A heat: one problem and its entrants.

use std::path::PathBuf;

use super::controls::{Length, Rate, Treatment};
use super::rates::rate;
use crate::optim::{Rule, Value};
use crate::tools::objectives::{Problem, problems};
use crate::{Error, Result, Storage};

/// The seed of the initial values minus the seed of the data, as in FlowAdam's experiments.
const INITIAL: u64 = 1000;

/// The seeds of FlowAdam's experiments.
const SEEDS: [u64; 5] = [42, 123, 456, 789, 999];

/// The most seeds by which a rate is judged.
const TUNING_SEEDS: usize = 3;

/// The problem of a heat, for any seed.
#[derive(Clone)]
pub struct Track {
    /// The problem.
    pub problem: &'static problems::Entry,
    /// Settings that differ from the problem's defaults. A `seed` among them fixes the data, so that a run's seed decides only the initial
    /// values.
    pub settings: Vec<(String, Value)>,
    /// The data file, for problems that need one.
    pub file: Option<PathBuf>,
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe(&[]))
    }
}

impl Track {
    /// The problem of this name with these settings.
    ///
    /// # Errors
    /// The problem does not exist.
    pub fn new<'a>(problem: &str, settings: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Self> {
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { problem: problems::find(problem)?, settings, file: None })
    }

    /// The problem of a run with this seed, with the entrant's own settings.
    pub(super) fn open(&self, seed: u64, own: &[(String, Value)]) -> Result<Box<dyn Problem>> {
        let seeded = self.problem.settings.contains(&"seed").then_some(("seed", Value::Number(seed as f64)));
        let given = self.settings.iter().chain(own).map(|(name, value)| (name.as_str(), value.clone()));
        self.problem.configure(self.file.as_deref(), seeded.into_iter().chain(given))
    }

    /// The initial values for this seed.
    pub(super) fn initial(problem: &dyn Problem, seed: u64) -> Vec<Vec<f32>> {
        problem.initial(seed.wrapping_add(INITIAL))
    }

    /// A description in one line, with the entrant's own settings.
    pub(super) fn describe(&self, own: &[(String, Value)]) -> String {
        let settings = self.settings.iter().chain(own).map(|(name, value)| format!(" {name}={value}"));
        let file = self.file.iter().map(|file| format!(" {}", file.display()));
        std::iter::once(self.problem.name.to_owned()).chain(file).chain(settings).collect()
    }
}

/// The role of an entrant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The optimizer under test; differences are taken against it.
    Subject,
    /// An optimizer that the subject is compared with.
    Rival,
    /// A variant that tests a possible explanation of a difference.
    Control,
}

impl Role {
    /// The role's name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Rival => "rival",
            Self::Control => "control",
        }
    }
}

/// A published mean and standard deviation of the held-out error.
pub type Published = (f64, Option<f64>);

/// An entrant of a heat.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// The entrant's name, unique in the heat.
    pub label: String,
    /// The entrant's role.
    pub role: Role,
    /// The optimizer with its settings.
    pub rule: Box<dyn Rule>,
    /// The source of its learning rate.
    pub rate: Rate,
    /// The end of its runs.
    pub length: Length,
    /// The change to its runs.
    pub treatment: Treatment,
    /// How its parameters, gradients and states are stored. Default: f32. The problem is evaluated with the stored parameters.
    pub storage: Storage,
    /// Settings of the problem for this entrant only, such as an L2 term that another entrant has in its rule.
    pub problem: Vec<(String, Value)>,
    /// The result that the optimizer's authors published for this problem.
    pub published: Option<Published>,
}

impl Entrant {
    /// An optimizer without changes, with the rate of its rule.
    pub fn new(label: impl Into<String>, role: Role, rule: impl Into<Box<dyn Rule>>) -> Self {
        Self {
            label: label.into(),
            role,
            rule: rule.into(),
            rate: Rate::Own,
            length: Length::Own,
            treatment: Treatment::None,
            storage: Storage::default(),
            problem: Vec::new(),
            published: None,
        }
    }

    /// Sets the source of the rate.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// Sets the end of the runs.
    #[must_use]
    pub fn length(self, length: Length) -> Self {
        Self { length, ..self }
    }

    /// Sets the change to the runs.
    #[must_use]
    pub fn treatment(self, treatment: Treatment) -> Self {
        Self { treatment, ..self }
    }

    /// Sets the storage.
    #[must_use]
    pub fn stored(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Adds a setting of the problem for this entrant only.
    #[must_use]
    pub fn with(mut self, setting: &str, value: impl Into<f64>) -> Self {
        self.problem.push((setting.to_owned(), Value::Number(value.into())));
        self
    }

    /// Sets the published mean and standard deviation.
    #[must_use]
    pub fn published(self, mean: f64, std: Option<f64>) -> Self {
        Self { published: Some((mean, std)), ..self }
    }

    /// Whether its rate is the best of the grid in a race that tunes.
    pub(super) fn is_tuned(&self) -> bool {
        self.rate == Rate::Own && rate(self.rule.as_ref()).is_some() && !self.rule.finds_rate()
    }

    /// The labels of the entrants that must have run before.
    pub(super) fn needs(&self) -> impl Iterator<Item = &str> {
        let rate = match &self.rate {
            Rate::MeanDamping { of } => Some(of.as_str()),
            Rate::Own | Rate::Fixed | Rate::Share { .. } => None,
        };
        let length = match &self.length {
            Length::EvaluationsOf(of) => Some(of.as_str()),
            Length::Own => None,
        };
        rate.into_iter().chain(length)
    }

    /// The label of the entrant that sets this entrant's rate.
    pub(super) fn leader(&self) -> Option<&str> {
        match &self.rate {
            Rate::Own | Rate::Fixed => None,
            Rate::Share { of, .. } | Rate::MeanDamping { of } => Some(of),
        }
    }
}

/// One problem and its entrants.
#[derive(Clone, Debug)]
pub struct Heat {
    /// The heat's name, unique in the race.
    pub name: String,
    /// The question that the heat answers, in one sentence.
    pub about: String,
    /// The problem.
    pub track: Track,
    /// The number of steps of a run without a budget.
    pub steps: u64,
    /// The loss below which a run ends early. Default: none.
    pub until: Option<f64>,
    /// The number of steps after the best validation error at which a run ends. The errors of the run are then those at its best point.
    /// Default: none.
    pub patience: Option<u64>,
    /// The seeds. Default: the five of FlowAdam's experiments. Further seeds are 1, 2, 3, …
    pub seeds: Vec<u64>,
    /// The seeds by which rates are judged. Default: the first of `seeds`.
    pub tuning: Vec<u64>,
    /// The entrants.
    pub entrants: Vec<Entrant>,
    /// Whether the largest eigenvalue of the loss's Hessian is measured at the end of a run.
    pub sharpness: bool,
}

impl Heat {
    /// A heat with the default seeds.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        about: impl Into<String>,
        track: Track,
        steps: u64,
        entrants: Vec<Entrant>,
    ) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            track,
            steps,
            until: None,
            patience: None,
            seeds: SEEDS.to_vec(),
            tuning: Vec::new(),
            entrants,
            sharpness: false,
        }
    }

    /// The first `count` seeds, or the seeds of the heat.
    #[must_use]
    pub fn seeds(&self, count: Option<usize>) -> Vec<u64> {
        let more = (1..).filter(|seed| !self.seeds.contains(seed) && !self.tuning.contains(seed));
        self.seeds.iter().copied().chain(more).take(count.unwrap_or(self.seeds.len())).collect()
    }

    /// The seeds by which rates are judged in a race of `count` seeds: three at most, and no more than the race has.
    #[must_use]
    pub fn tuning_seeds(&self, count: Option<usize>) -> Vec<u64> {
        let raced = self.seeds(count);
        let most = raced.len().min(TUNING_SEEDS);
        let seeds = if self.tuning.is_empty() { raced } else { self.tuning.clone() };
        seeds.into_iter().take(most).collect()
    }

    /// The entrant of this label.
    #[must_use]
    pub fn entrant(&self, label: &str) -> Option<&Entrant> {
        self.entrants.iter().find(|e| e.label == label)
    }

    /// The subject, if the heat has one.
    #[must_use]
    pub fn subject(&self) -> Option<&Entrant> {
        self.entrants.iter().find(|e| e.role == Role::Subject)
    }

    /// Checks everything that can be checked before a run.
    ///
    /// # Errors
    /// The heat has no entrant or no step; two entrants have one label; an entrant follows itself, a missing entrant, or an entrant that
    /// follows another; a setting is out of range.
    pub fn check(&self) -> Result<()> {
        let problem = |text: String| Err(Error::Usage(format!("heat `{}`: {text}", self.name)));
        let mut opened: Vec<&[(String, Value)]> = Vec::new();
        if self.entrants.is_empty() || self.steps == 0 {
            return problem(format!(
                "{} entrants and {} steps, needs at least one of each",
                self.entrants.len(),
                self.steps
            ));
        }
        for (at, entrant) in self.entrants.iter().enumerate() {
            entrant.rule.check()?;
            if !opened.contains(&entrant.problem.as_slice()) {
                self.track.open(self.seeds(Some(1))[0], &entrant.problem)?;
                opened.push(&entrant.problem);
            }
            if self.entrants[..at].iter().any(|e| e.label == entrant.label) {
                return Err(Error::Duplicate { kind: "entrant", name: entrant.label.clone() });
            }
            // An entrant may only follow an entrant that follows no other: entrants run in two waves.
            let rate = entrant.leader().map(|of| (of, self.entrant(of).map(|e| e.leader().is_some())));
            let outcomes = entrant.needs().map(|of| (of, self.entrant(of).map(|e| e.needs().next().is_some())));
            for (followed, follows) in rate.into_iter().chain(outcomes) {
                match follows {
                    Some(false) => {}
                    Some(true) => {
                        return problem(format!("`{}` follows `{followed}`, which follows another", entrant.label));
                    }
                    None => return problem(format!("`{}` follows `{followed}`, which does not exist", entrant.label)),
                }
            }
        }
        Ok(())
    }
}
