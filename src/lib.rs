//! The optimizer step for everything that trains on wgpu: optimizers as WGSL kernels, on the caller's own device and buffers.
//!
//! An [`Optimizer`] is built once, from a configuration such as [`AdamW`] or [`VRAdam`], any number of tensors and parameter groups;
//! [`Optimizer::step`] then records a step into the caller's encoder: one launch for all tensors, nothing submitted, nothing waited
//! for, nothing created. Parameters and gradients lie in the crate's buffers or in the caller's ([`Builder::bind`]); states lie in an
//! arena of the crate's.
//!
//! - The rules: [`optim`], one file each, with the registry [`optim::ALL`]; [`CustomRule`] for one's own WGSL.
//! - Around every rule, inside the same launches: [`Clip`], [`LossScale`], [`Accumulate`], [`Ema`], [`Schedule`].
//! - [`storage`]: parameters and gradients in half precision, states in half precision or eight bits.
//! - [`checkpoint`]: everything that resuming needs, and torch's states.
//! - [`cpu`]: the same rules on the host: in f64 the oracle that everything is compared with, in f32 on all cores.
//! - With the feature `tools`: [`verify`], [`mod@bench`], [`replay`], [`train`] and [`race`], what the command line prints.
//!
//! How a step is made: the caller's passes write gradients; where a rule or a clip needs sums, a read-only pass sums spans of every
//! tensor and one workgroup adds and decides; the update walks chunks of 1024 elements, one workgroup each. The count of applied steps
//! lives on the GPU and picks that step's bias corrections from a ring that the host fills ahead, so that a dropped encoder or a skipped
//! step shifts nothing.

pub mod cpu;
mod error;
mod gpu;
#[cfg(feature = "checkpoint")]
mod io;
pub mod optim;
mod options;
#[cfg(feature = "tools")]
pub mod tools;

pub use error::{Error, Result};
#[cfg(feature = "checkpoint")]
pub use gpu::Snapshot;
pub use gpu::layout::memory;
pub use gpu::{Builder, Group, Optimizer, PendingStep, RowSet, Tensor, read_buffer};
#[doc(hidden)]
pub use gpu::{Class, Stage};
#[cfg(feature = "checkpoint")]
pub use io::checkpoint;
#[cfg(feature = "custom")]
pub use optim::CustomRule;
pub use optim::procedure::evaluation::{EvalRequest, Evaluations};
pub use optim::{
    AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, AdamWScheduleFree, FlowAdam, Lamb, Lion, NAdam, NormOf, ProxSgd,
    RAdam, RmsProp, Rule, SAdam, Sgd, SgdScheduleFree, VRAdam, WarpAdam,
};
pub use options::around::{Accumulate, Clip, Ema, LossScale};
pub use options::no_decay::NoDecay;
#[doc(hidden)]
pub use options::random;
pub use options::schedule::{self, Schedule};
pub use options::storage::{self, Storage};
pub use options::telemetry::{Norms, Stats, TensorStats};
pub use wgpu;

/// The README's code, compiled.
#[cfg(all(doctest, feature = "tools"))]
#[doc = include_str!("../README.md")]
struct Readme;
