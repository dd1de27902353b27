//! The caller's objective, as a step evaluates it while it is under way.

use crate::Result;
use crate::optim::procedure::evaluation::EvalRequest;

/// Evaluates the objective, writing a gradient where that is asked for, and returns the loss.
pub(crate) trait Evaluate<F>: FnMut(EvalRequest, &mut [&mut [F]], &mut [&mut [F]]) -> Result<f64> {}

impl<F, E: FnMut(EvalRequest, &mut [&mut [F]], &mut [&mut [F]]) -> Result<f64>> Evaluate<F> for E {}
