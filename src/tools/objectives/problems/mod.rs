//! The problems: one file each, with its settings, their defaults and source, and how its data are made.

mod data;
mod digits;
mod kinematics;
mod matrix;
mod perceptron;
mod quadratic;
mod ratings;
mod regression;
mod robust;
mod rosenbrock;
mod sensing;
mod spirals;
mod tensor;

pub use digits::Digits;
pub use kinematics::Kinematics;
pub use matrix::MatrixCompletion;
pub use quadratic::{Quadratic, Spectrum};
pub use ratings::{Layout, RatingTable, Ratings};
pub use regression::L1Regression;
pub use robust::Robust;
pub use rosenbrock::{Rosenbrock, Valley};
pub use sensing::Sensing;
pub use spirals::Spirals;
pub use tensor::TensorCompletion;

use super::Problem;
use crate::optim::rule::Real;
use crate::optim::rule::settings::Configured;
use crate::{Error, Result};
use std::path::Path;

/// The settings of a problem: from them it is made.
pub trait Recipe: Configured + Sized {
    /// Whether its data come from a file.
    const FROM_FILE: bool = false;

    /// Makes the data; what [`problem`](Self::problem) calls once everything is checked.
    ///
    /// # Errors
    /// Sizes that do not go together, or a file that is not what it should be.
    fn build(&self, file: Option<&Path>) -> Result<Box<dyn Problem>>;

    /// Checks the settings and makes the problem, with the data of `file` where [`Self::FROM_FILE`] says so.
    ///
    /// # Errors
    /// A value out of range, sizes that do not go together, a file that is missing, not wanted, or not what it should be.
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

/// The sign, and 0 at 0. A NaN stays one.
fn sign<F: Real>(x: F) -> F {
    if x == F::zero() { x } else { x.signum() }
}

/// The texts of kernels that one problem alone has.
pub(super) fn shaders() -> Vec<(&'static str, String)> {
    [regression::shaders(), rosenbrock::shaders(), kinematics::shaders()].concat()
}
