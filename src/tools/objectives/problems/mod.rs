//! The problems: one file per problem, with its settings, their defaults and source, and how its data are made; `registry` lists them by
//! name. The folder above holds the parts that several objectives share: kernels, models, the traits.

mod data;
mod digits;
mod kinematics;
mod matrix;
mod perceptron;
mod quadratic;
mod ratings;
mod registry;
mod regression;
mod robust;
mod rosenbrock;
mod sensing;
mod spirals;
mod tensor;

pub use super::problem::Recipe;
pub use digits::Digits;
pub use kinematics::Kinematics;
pub use matrix::MatrixCompletion;
pub use quadratic::{Quadratic, Spectrum};
pub use ratings::{Layout, RatingTable, Ratings};
pub use registry::{ALL, Entry, find};
pub use regression::L1Regression;
pub use robust::Robust;
pub use rosenbrock::{Rosenbrock, Valley};
pub use sensing::Sensing;
pub use spirals::Spirals;
pub use tensor::TensorCompletion;

/// The texts of the kernels that belong to one problem.
pub(super) fn shaders() -> Vec<(&'static str, String)> {
    [regression::shaders(), rosenbrock::shaders(), kinematics::shaders()].concat()
}
