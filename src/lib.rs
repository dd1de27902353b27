//! The optimizer step for everything that trains on wgpu.

mod engine;
mod error;
#[cfg(feature = "tools")]
pub mod gpu;
pub mod optim;

pub use engine::{Builder, Group, Optimizer, Stage, Tensor, Variant, read_buffer};
pub use error::{Error, Result};
pub use optim::{Adam, AdamW, NormOf, Rule, VRAdam};
pub use wgpu;
