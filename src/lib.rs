//! The optimizer step for everything that trains on wgpu.

pub mod cpu;
mod error;
pub mod optim;

pub use error::{Error, Result};
pub use wgpu;
