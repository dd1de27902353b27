//! The optimizers on the host. The f64 form is the oracle: it computes one element at a time, and tests compare every other path with it.
//! The f32 form is the fast path: it computes on all cores, with the widest vector units of the processor.
//!
//! The files have the names of the files in `gpu` with the same work. All files use `number` (the number types), `extent` (the part of a
//! tensor that a step sees) and `hyper` (the scalars of one step); `counts` keeps the step counts of tensors. `tensor` keeps the states of
//! a tensor; `around` and `rows` keep the numbers of the options. `step` calls `decide` and `walk`; `build` creates the optimizer from the
//! builder that the GPU uses too. The mathematics of the rules lives in `optim`.

mod around;
mod build;
mod counts;
mod decide;
mod eval_params;
mod evaluate;
mod extent;
mod factors;
mod flow;
mod fold;
mod hyper;
mod number;
mod objective;
mod optimizer;
#[cfg(feature = "cpu")]
mod orthogonal;
mod part;
mod partial;
mod pass;
mod pieces;
mod probe;
mod procedure;
mod remap;
mod rows;
mod select;
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
#[cfg(feature = "tools")]
pub(crate) use crate::cpu::factors::Factors;
pub use crate::cpu::number::{Number, vector_units};
pub use crate::cpu::optimizer::Optimizer;
#[cfg(feature = "checkpoint")]
pub(crate) use crate::cpu::part::Part;
#[cfg(feature = "tools")]
pub(crate) use crate::cpu::procedure::make_states;
