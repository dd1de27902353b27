//! Trajectories: files that hold a run of another implementation; the files that a replay writes; and the comparison of the two.
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
//! so that a misspelt key cannot silently turn off an expectation.
//!
//! An incomplete file is refused. Every tensor must have its gradient in every step, or its curvature. If one tensor has a direction in
//! one step, every tensor must have it in every step. If one tensor has an expectation after a step, every tensor must have it. All
//! shapes of a tensor must agree, and no key may name a step past `steps`. With curvature and without directions, the file itself does
//! not bound `steps`; the limit is then a million. The data may be any bits: a NaN in a gradient is a test of the optimizer.
//! [`Comparison`] fails wherever a NaN is found or expected.

mod check;
mod compare;
mod key;
mod recorded;
mod writer;

pub use compare::{Comparison, Deviation, Precision, add_travel, raise_peak};
pub use recorded::{Tensor, Trajectory};
pub use writer::{Element, Writer};
