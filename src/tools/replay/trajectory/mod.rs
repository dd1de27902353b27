//! Trajectories: files that hold a run of somebody else's optimizer, what a replay writes, and how the two are compared.
//!
//! A trajectory is a safetensors file. Its tensors:
//!
//! | key | meaning |
//! |---|---|
//! | `param/<tensor>` | f32, the parameters before the first step |
//! | `grad/<t>/<tensor>` | f32, the gradient of step t, t = 1..steps |
//! | `curvature/<tensor>` | f32, in place of gradients: f(θ) = ½ Σ c θ², so ∇f = c·θ |
//! | `direction/<t>/<j>/<tensor>` | f32, the j-th probe direction of step t, j = 1..k |
//! | `expect/<t>/param/<tensor>` | f64, the parameters after step t |
//! | `expect/<t>/<state>/<tensor>` | f64, a state after step t |
//! | `expect/lgi` | f64, S-Adam's LGI of each step |
//! | `expect/triggers` | i64, FlowAdam's steps that took the ODE branch, counted from 1 |
//!
//! Its metadata, all of it required: `optimizer`, `hyper` (a JSON object of numbers, truth values and texts), `steps`, `source`,
//! `tolerance_f32` and `tolerance_f64` (both from 0 up to 1, 1 excluded). Other metadata is ignored; another tensor is an error,
//! so that a misspelt key cannot pass as a thing not expected.
//!
//! A file is complete or refused: every tensor has its gradient in every step or its curvature, every direction that another
//! tensor or step has, and every expectation that another tensor has of that step; all of a tensor's shapes agree; and no key
//! names a step past `steps`. With curvature and no directions nothing in the file bounds `steps`, so a million does.
//! The data may be any bits: a NaN in a gradient is a test of the optimizer. [`Comparison`] fails wherever a NaN is got or
//! expected.

mod check;
mod compare;
mod key;
mod recorded;
mod writer;

pub use compare::{Comparison, Deviation, Precision, add_travel, raise_peak};
pub use recorded::{Tensor, Trajectory};
pub use writer::{Element, Writer};
