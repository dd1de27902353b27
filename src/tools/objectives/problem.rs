//! The interface of a problem: data from which both forms of an objective are made, and the settings that make the data.

use super::objective::{CpuObjective, GpuObjective, TensorSpec};
use crate::optim::rule::settings::Configured;
use crate::{Error, Result};
use std::path::Path;

/// The measure of [`Problem::validation`] and [`Problem::test`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// `rmse`, `accuracy`, …
    pub name: &'static str,
    /// Whether a larger value is better.
    pub more_is_better: bool,
}

impl Measure {
    /// The root of the mean squared error.
    pub const RMSE: Self = Self { name: "rmse", more_is_better: false };
    /// The share of rows that were classified correctly.
    pub const ACCURACY: Self = Self { name: "accuracy", more_is_better: true };
    /// The distance from the true solution, as a share of the solution's norm.
    pub const RECOVERY_ERROR: Self = Self { name: "recovery error", more_is_better: false };
}

/// A problem with its data, from which either form of its objective is made.
///
/// The data come from the setting `seed` (or a file), the initial values from the seed given to
/// [`initial`](Self::initial): the same settings give the same data on every machine.
///
/// ```
/// use wgpu_optim::tools::objectives::problems;
/// use wgpu_optim::optim::Value;
///
/// let problem = problems::find("matrix")?.configure(None, [("rows", Value::Number(30.0))])?;
/// let params = problem.initial(1);
/// let slices: Vec<&[f32]> = params.iter().map(Vec::as_slice).collect();
/// let loss = problem.cpu_f32()?.loss(&slices, 0)?.loss;
/// assert!(loss > 0.0 && problem.test(&slices).is_some());
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
pub trait Problem: Send + Sync {
    /// The problem's name in [`ALL`](super::problems::ALL).
    fn name(&self) -> &'static str;

    /// The tensors, in the order of every form's slices.
    fn tensors(&self) -> &[TensorSpec];

    /// Initial values of each tensor.
    fn initial(&self, seed: u64) -> Vec<Vec<f32>>;

    /// The fast form on the host.
    ///
    /// # Errors
    /// A size is larger than the form can hold.
    fn cpu_f32(&self) -> Result<Box<dyn CpuObjective<f32> + Send>>;

    /// The exact form on the host.
    ///
    /// # Errors
    /// A size is larger than the form can hold.
    fn cpu_f64(&self) -> Result<Box<dyn CpuObjective<f64> + Send>>;

    /// The form on a GPU, with the data in the GPU's memory.
    ///
    /// # Errors
    /// The data is larger than the device can bind.
    fn gpu(&self, device: &wgpu::Device) -> Result<Box<dyn GpuObjective>>;

    /// The measure of validation and test; `None` if the problem has neither, so that only the loss counts.
    fn measure(&self) -> Option<Measure>;

    /// The measure on the validation data, by which settings such as learning rates are chosen; `None` if the problem has none.
    /// `params` have the tensors' lengths.
    fn validation(&self, params: &[&[f32]]) -> Option<f64>;

    /// The measure on the test data, by which no setting is chosen; `None` if the problem has none. `params` have the tensors' lengths.
    fn test(&self, params: &[&[f32]]) -> Option<f64>;
}

/// The settings from which a problem is made.
pub trait Recipe: Configured + Sized {
    /// Whether the data come from a file.
    const FROM_FILE: bool = false;

    /// Makes the data. [`problem`](Self::problem) calls it after its checks.
    ///
    /// # Errors
    /// The sizes contradict each other, or the file is malformed.
    fn build(&self, file: Option<&Path>) -> Result<Box<dyn Problem>>;

    /// Checks the settings and makes the problem, with the data of `file` if [`Self::FROM_FILE`] is true.
    ///
    /// # Errors
    /// A value is out of range; the sizes contradict each other; the file is missing, not expected, or malformed.
    fn problem(&self, file: Option<&Path>) -> Result<Box<dyn Problem>> {
        self.check_ranges()?;
        match file {
            None if Self::FROM_FILE => Err(Error::Usage(format!("{}: needs a file", Self::NAME))),
            Some(file) if !Self::FROM_FILE => {
                Err(Error::Usage(format!("{}: takes no file, has {}", Self::NAME, file.display())))
            }
            _ => self.build(file),
        }
    }
}
