//! The optimizer step for everything that trains on wgpu.

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
#[cfg(feature = "tools")]
pub mod gpu;
#[cfg(feature = "tools")]
pub mod objective;
pub mod optim;
#[cfg(feature = "tools")]
pub mod replay;
#[cfg(feature = "tools")]
pub mod report;
pub mod schedule;
#[cfg(feature = "tools")]
pub mod shader;
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
pub use engine::{Builder, Group, Optimizer, Stage, Tensor, Variant, read_buffer};
pub use error::{Error, Result};
#[cfg(feature = "custom")]
pub use optim::CustomRule;
pub use optim::{
    AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, Lamb, Lion, NAdam, NormOf, ProxSgd, RAdam, RmsProp, Rule, Sgd, VRAdam,
};
pub use schedule::Schedule;
pub use wgpu;
