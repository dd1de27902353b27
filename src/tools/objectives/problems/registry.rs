//! Every problem, by name.

use super::{
    Digits, Kinematics, L1Regression, MatrixCompletion, Quadratic, Ratings, Robust, Rosenbrock, Sensing, Spirals,
    TensorCompletion,
};
use crate::optim::Value;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::{Error, Result};
use std::path::Path;

/// An entry of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    /// The settings' names, in order.
    pub settings: &'static [&'static str],
    /// Whether the problem's data come from a file.
    pub from_file: bool,
    defaults: fn() -> Vec<(&'static str, Value)>,
    make: Make,
}

type Make = fn(Option<&Path>, &mut Settings<'_, '_>) -> Result<Box<dyn Problem>>;
type Settings<'s, 'n> = dyn Iterator<Item = (&'n str, Value)> + 's;

impl Entry {
    const fn of<T: Recipe>(about: &'static str) -> Self {
        Self {
            name: T::NAME,
            about,
            settings: T::SETTINGS,
            from_file: T::FROM_FILE,
            defaults: || T::template().settings(),
            make: |file, settings| {
                let mut recipe = T::template();
                for (name, value) in settings {
                    recipe.set(name, &value)?;
                }
                recipe.problem(file)
            },
        }
    }

    /// All settings with their defaults.
    #[must_use]
    pub fn defaults(&self) -> Vec<(&'static str, Value)> {
        (self.defaults)()
    }

    /// Makes the problem from the defaults and `settings`, which are checked, and from the data of `file` if the problem needs a file.
    ///
    /// # Errors
    /// A setting is unknown (the error suggests the nearest name) or out of range; the sizes contradict each other; the file is
    /// missing, not expected, or malformed.
    pub fn configure<'a>(
        &self,
        file: Option<&Path>,
        settings: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Box<dyn Problem>> {
        (self.make)(file, &mut settings.into_iter())
    }
}

/// Every problem.
pub static ALL: &[Entry] = &[
    Entry::of::<MatrixCompletion>("a low-rank matrix from some of its entries"),
    Entry::of::<TensorCompletion>("a tensor of low CP rank from some of its entries"),
    Entry::of::<Ratings>("ratings of items by users, from a file"),
    Entry::of::<Robust>("a low-rank matrix under gross errors, by Huber's loss"),
    Entry::of::<Sensing>("a low-rank matrix from random projections"),
    Entry::of::<Quadratic>("a stiff quadratic whose axes are rotated"),
    Entry::of::<Rosenbrock>("Rosenbrock's valley, smooth or with kinks"),
    Entry::of::<L1Regression>("regression with an L1 penalty on sparse coefficients"),
    Entry::of::<Spirals>("two spirals, told apart by a perceptron"),
    Entry::of::<Digits>("handwritten digits by a perceptron, with 2 or 4 bits on request"),
    Entry::of::<Kinematics>("a planar arm that follows a half circle"),
];

/// The problem of this name.
///
/// # Errors
/// The name is unknown; the error suggests the nearest name.
pub fn find(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|e| e.name == name).ok_or_else(|| Error::unknown("problem", name, ALL.iter().map(|e| e.name)))
}
