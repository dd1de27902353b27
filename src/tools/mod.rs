//! The tools around the library, behind the feature `tools`. The command line prints what they return; they print nothing, and no step of
//! an optimizer needs them.
//!
//! - [`adapter`] finds and opens an adapter; [`backend`] chooses between a GPU, the fast CPU path and the f64 oracle.
//! - [`verify`] compares every optimizer with the oracle; [`replay`] runs trajectories of other implementations; [`mod@bench`] measures steps.
//! - [`objectives`] are losses and gradients on the GPU and on the host; [`train`] and [`race`] run optimizers on them.
//! - [`shader`] gives the texts of the kernels; [`model`] counts memory from tensors' shapes; [`report`] says where and when something ran.
//! - [`tour`] chooses a little of each for a first look.

pub mod adapter;
pub mod backend;
pub mod bench;
pub mod model;
pub mod objectives;
pub mod race;
pub mod replay;
pub mod report;
pub mod shader;
pub mod tour;
pub mod train;
pub mod verify;
