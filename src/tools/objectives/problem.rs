//! Problems with their data, by name.

use super::problems::{
    Digits, Kinematics, L1Regression, MatrixCompletion, Quadratic, Ratings, Recipe, Robust, Rosenbrock, Sensing,
    Spirals, TensorCompletion,
};
use super::{CpuObjective, GpuObjective, TensorSpec};
use crate::optim::Value;
use crate::{Error, Result};
use std::path::Path;

/// What [`Problem::validation`] and [`Problem::test`] measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// `rmse`, `accuracy`, …
    pub name: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
}

impl Measure {
    /// The root of the mean squared error.
    pub const RMSE: Self = Self { name: "rmse", more_is_better: false };
    /// The share of rows that were classified correctly.
    pub const ACCURACY: Self = Self { name: "accuracy", more_is_better: true };
    /// The distance from what was to be found, as a share of its norm.
    pub const RECOVERY_ERROR: Self = Self { name: "recovery error", more_is_better: false };
}

/// A problem with its data, from which either form of its objective is made.
///
/// The data come from the setting `seed` (or a file), the initial values from the seed given to
/// [`initial`](Self::initial): the same settings give the same data on every machine.
///
/// ```
/// use wgpu_optim::tools::objectives::problem;
/// use wgpu_optim::optim::Value;
///
/// let problem = problem::find("matrix")?.configure(None, [("rows", Value::Number(30.0))])?;
/// let params = problem.initial(1);
/// let slices: Vec<&[f32]> = params.iter().map(Vec::as_slice).collect();
/// let loss = problem.cpu_f32()?.loss(&slices, 0)?.loss;
/// assert!(loss > 0.0 && problem.test(&slices).is_some());
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
pub trait Problem: Send + Sync {
    /// Its name in [`ALL`].
    fn name(&self) -> &'static str;

    /// The tensors, in the order of every form's slices.
    fn tensors(&self) -> &[TensorSpec];

    /// Initial values of each tensor.
    fn initial(&self, seed: u64) -> Vec<Vec<f32>>;

    /// The fast form on the host.
    ///
    /// # Errors
    /// Sizes that the form cannot hold.
    fn cpu_f32(&self) -> Result<Box<dyn CpuObjective<f32> + Send>>;

    /// The exact form on the host.
    ///
    /// # Errors
    /// Sizes that the form cannot hold.
    fn cpu_f64(&self) -> Result<Box<dyn CpuObjective<f64> + Send>>;

    /// The form on a GPU, with its data there.
    ///
    /// # Errors
    /// Data that the device cannot bind.
    fn gpu(&self, device: &wgpu::Device) -> Result<Box<dyn GpuObjective>>;

    /// What validation and test measure. `None` where the problem has neither: there the loss is all that counts.
    fn measure(&self) -> Option<Measure>;

    /// The measure on data that choose settings such as learning rates; `None` where the problem has none.
    /// `params` are of the tensors' lengths.
    fn validation(&self, params: &[&[f32]]) -> Option<f64>;

    /// The measure on data that nothing was chosen by; `None` where the problem has none. `params` are of the tensors' lengths.
    fn test(&self, params: &[&[f32]]) -> Option<f64>;
}

/// A problem as the registry knows it.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The settings' names, in order.
    pub settings: &'static [&'static str],
    /// Whether its data come from a file.
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

    /// Makes the problem: the defaults with `settings` applied and checked, and the data of `file` where they come from one.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a value out of range, sizes that do not go together, a file that is
    /// missing, not wanted, or not what it should be.
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
/// The name is unknown; the error suggests the nearest.
pub fn find(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|e| e.name == name).ok_or_else(|| Error::unknown("problem", name, ALL.iter().map(|e| e.name)))
}
