//! The caller's objective, as a step evaluates it.

use crate::Result;
use crate::optim::procedure::evaluation::EvalRequest;

/// Evaluates the objective and returns the loss. Writes the gradients if the request is [`EvalRequest::Gradient`].
pub(crate) trait Evaluate<F>: FnMut(EvalRequest, &mut [&mut [F]], &mut [&mut [F]]) -> Result<f64> {}

impl<F, E: FnMut(EvalRequest, &mut [&mut [F]], &mut [&mut [F]]) -> Result<f64>> Evaluate<F> for E {}
