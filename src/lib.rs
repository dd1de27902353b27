//! The optimizer step for everything that trains on wgpu.

mod error;
pub mod optim;

pub use error::{Error, Result};
pub use wgpu;
