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

mod around;
#[cfg(feature = "tools")]
pub mod backend;
#[cfg(feature = "tools")]
pub mod bench;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
pub mod cpu;
mod engine;
mod error;
mod evaluate;
#[cfg(feature = "tools")]
pub mod gpu;
mod integrator;
pub mod memory;
#[cfg(feature = "tools")]
pub mod model;
mod no_decay;
#[cfg(feature = "tools")]
pub mod objective;
pub mod optim;
#[cfg(feature = "tools")]
pub mod race;
pub mod random;
#[cfg(feature = "tools")]
pub mod replay;
#[cfg(feature = "tools")]
pub mod report;
pub mod schedule;
#[cfg(feature = "tools")]
pub mod shader;
mod stats;
pub mod storage;
#[cfg(feature = "checkpoint")]
mod temporary;
#[cfg(feature = "checkpoint")]
mod tensor_file;
#[cfg(feature = "tools")]
pub mod tour;
#[cfg(feature = "tools")]
pub mod train;
#[cfg(feature = "tools")]
pub mod trajectory;
#[cfg(feature = "tools")]
pub mod verify;

pub use around::{Accumulate, Clip, Ema, LossScale};
#[cfg(feature = "checkpoint")]
pub use engine::Snapshot;
pub use engine::{Builder, Evaluating, Group, Optimizer, Rows, Stage, Tensor, Variant, read_buffer};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Evaluations};
pub use no_decay::NoDecay;
#[cfg(feature = "custom")]
pub use optim::CustomRule;
pub use optim::{
    AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, AdamWScheduleFree, FlowAdam, Lamb, Lion, NAdam, NormOf, ProxSgd,
    RAdam, RmsProp, Rule, SAdam, Sgd, SgdScheduleFree, VRAdam, WarpAdam,
};
pub use schedule::Schedule;
pub use stats::{Norms, Stats, TensorStats};
pub use storage::Storage;
pub use wgpu;

/// The README's code, compiled.
#[cfg(all(doctest, feature = "tools"))]
#[doc = include_str!("../README.md")]
struct Readme;
