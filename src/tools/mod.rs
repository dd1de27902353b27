//! The tools around the library, behind the feature `tools`. The tools return results, which the command line prints. No step of an
//! optimizer needs the tools.
//!
//! - [`adapter`] finds and opens an adapter; [`backend`] chooses between a GPU, the fast CPU path and the f64 oracle.
//! - [`verify`] compares every optimizer with the oracle; [`replay`] runs trajectories of other implementations; [`mod@bench`] measures
//!   steps.
//! - [`objectives`] has losses and gradients on the GPU and on the host; [`train`] and [`race`] run optimizers on them.
//! - [`shader`] gives the texts of the kernels; [`model`] counts memory from tensors' shapes; [`report`] describes where and when a run took
//!   place; [`files`] keeps a run's outputs apart from its inputs.
//! - [`tour`] selects a few cases of verify, train and bench for a first look.

pub mod adapter;
pub mod backend;
pub mod bench;
pub mod files;
pub mod model;
pub mod objectives;
pub mod race;
pub mod replay;
pub mod report;
pub mod shader;
mod tensors;
#[cfg(not(target_arch = "wasm32"))]
pub mod tour;
pub mod train;
pub mod verify;
