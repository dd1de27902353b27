//! The optimizer step for everything that trains on wgpu.

mod error;
#[cfg(feature = "tools")]
pub mod trajectory;

pub use error::{Error, Result};
pub use wgpu;
