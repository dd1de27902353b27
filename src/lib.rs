//! The optimizer step for everything that trains on wgpu.

mod error;
#[cfg(feature = "tools")]
pub mod objective;

pub use error::{Error, Result};
pub use wgpu;
