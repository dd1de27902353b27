//! The optimizer step for everything that trains on wgpu.

pub mod cpu;
mod engine;
mod error;
#[cfg(feature = "tools")]
pub mod gpu;
#[cfg(feature = "tools")]
pub mod objective;
pub mod optim;
#[cfg(feature = "tools")]
pub mod trajectory;

pub use engine::{Accumulate, Builder, Clip, Ema, Group, LossScale, Optimizer, Stage, Tensor, Variant, read_buffer};
pub use error::{Error, Result};
#[cfg(feature = "custom")]
pub use optim::CustomRule;
pub use optim::{
    AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, Lamb, Lion, NAdam, NormOf, ProxSgd, RAdam, RmsProp, Rule, Sgd, VRAdam,
};
pub use wgpu;
