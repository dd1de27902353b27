//! The optimizer step for everything that trains on wgpu.

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
#[cfg(feature = "checkpoint")]
mod temporary;
#[cfg(feature = "checkpoint")]
mod tensor_file;
#[cfg(feature = "tools")]
pub mod trajectory;
#[cfg(feature = "tools")]
pub mod verify;

#[cfg(feature = "checkpoint")]
pub use engine::Snapshot;
pub use engine::{Accumulate, Builder, Clip, Ema, Group, LossScale, Optimizer, Stage, Tensor, Variant, read_buffer};
pub use error::{Error, Result};
pub use optim::{
    AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, Lamb, Lion, NAdam, NormOf, ProxSgd, RAdam, RmsProp, Rule, Sgd, VRAdam,
};
pub use wgpu;
