//! Burn's modules stepped where they lie.

mod error;
mod module;
mod optimizer;
mod options;
mod rates;
mod step;
mod tensor;

pub use burn;
pub use error::{Error, Result};
pub use optimizer::WgpuOptimizer;
pub use options::Options;
pub use rates::LearningRates;
pub use wgpu_optim;
