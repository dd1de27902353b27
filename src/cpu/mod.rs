//! The optimizers on the host: in f64 the oracle that everything is compared with, plain and one element at a time; in f32 the fast path,
//! on all cores and with the widest vector units found at run time.
//!
//! The files have the names of those in `gpu` that do the same thing. At the bottom lie `number` (the types to compute in), `extent` (how
//! much of a tensor a step sees) and `hyper` (the scalars of one step); `tensor` holds what is kept for a tensor, `around` and `rows` what
//! is kept around the rule. `step` goes over `decide` and `walk`; `build` makes everything from the builder that the GPU has too. What the rules compute does not live here: that is
//! `optim`.

mod around;
mod build;
mod decide;
mod eval_params;
mod evaluate;
mod extent;
mod flow;
mod hyper;
mod number;
mod objective;
mod optimizer;
mod pieces;
mod probe;
mod remap;
mod rows;
mod select;
mod settings;
#[cfg(feature = "checkpoint")]
mod snapshot;
mod step;
mod storage;
mod stored;
mod telemetry;
mod tensor;
mod walk;
mod warp;

#[cfg(feature = "checkpoint")]
pub(crate) use crate::cpu::around::Counters;
pub use crate::cpu::number::{Number, vector_units};
pub use crate::cpu::optimizer::Optimizer;
