//! The pass of a procedure over a tensor, before the update.

use std::any::Any;
use std::fmt::Debug;

use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;

/// A procedure's pass over one tensor before the update, with the arrays that the procedure keeps for this tensor.
pub(crate) trait TensorPass<F: Number>: Any + Debug + Send + Sync {
    /// The gradient for the update; `None` if it stays as it is. `states` are those of the rule, of which the pass writes the scratch.
    fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], states: &mut [Option<Vec<F>>]) -> Option<Vec<F>>;

    /// The arrays that a checkpoint saves, under the names of the optimizer on the GPU.
    #[cfg(feature = "checkpoint")]
    fn arrays(&self) -> Vec<(&'static str, &[F])>;

    /// As [`arrays`](Self::arrays), for writing.
    #[cfg(feature = "checkpoint")]
    fn arrays_mut(&mut self) -> Vec<(&'static str, &mut [F])>;
}
