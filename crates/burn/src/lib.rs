//! Burn's modules stepped where they lie.

mod engine;
mod error;
mod evaluate;
mod module;
mod optimizer;
mod options;
mod params;
mod rates;
mod record;
mod step;
mod tensor;

pub use burn;
pub use error::{Error, Result};
pub use evaluate::Evaluation;
pub use optimizer::WgpuOptimizer;
pub use options::Options;
pub use rates::LearningRates;
pub use wgpu_optim;
