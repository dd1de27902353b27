//! Objectives: losses and gradients that `train` and `race` run, on the GPU (`shaders/objectives/`) and on the CPU.
//!
//! An objective names its tensors and writes mean gradients into slices of the caller; it does not depend on optimizers. Both forms see the
//! same mini-batches in the same order.
//!
//! [`problems::ALL`] lists problems with their data, by name; [`problems`] also holds their settings, one file per problem. A new problem
//! is such a file, a line in the registry, a case in `tests/objective/problems.rs` and a row of the table in the documentation. The shared
//! parts lie in this folder: models of low rank, squares of linear residuals, the perceptron, and the base of all problems without
//! mini-batches.

mod check;
pub mod digits;
mod full_batch;
mod gpu;
mod halves;
mod linear;
mod low_rank;
mod mlp;
mod normal;
mod objective;
mod problem;
pub mod problems;
mod samples;
mod staged;
mod vector;

pub use crate::options::random;
pub use gpu::Reading;
pub(crate) use halves::Halves;
pub use mlp::{Activation, Bits, CpuMlp, GpuMlp, Mlp};
pub use objective::{CpuObjective, GpuObjective, Outcome, TensorSpec};
pub use problem::{Measure, Problem};
pub use samples::{Part, Samples, Split};

/// Every kernel's name and complete WGSL, to print, translate or check.
#[must_use]
pub fn shaders() -> Vec<(&'static str, String)> {
    [mlp::shaders(), staged::shaders(), low_rank::shaders(), linear::shaders(), problems::shaders(), halves::shaders()]
        .concat()
}
