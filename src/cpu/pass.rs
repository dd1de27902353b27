//! The pass of a procedure over a tensor, before the update.

use std::any::Any;
use std::fmt::Debug;

use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;

/// A procedure's pass over one tensor before the update, with the arrays that the procedure keeps for this tensor.
pub(crate) trait TensorPass<F: Number>: Any + Debug + Send + Sync {
    /// The gradient for the update. `states` are those of the rule.
    fn pass(&mut self, group: &Scaled<'_, F>, g: &[F], states: &[Option<Vec<F>>]) -> Vec<F>;

    /// The arrays that a checkpoint saves, under the names of the optimizer on the GPU.
    #[cfg(feature = "checkpoint")]
    fn arrays(&self) -> Vec<(&'static str, &[F])>;

    /// As [`arrays`](Self::arrays), for writing.
    #[cfg(feature = "checkpoint")]
    fn arrays_mut(&mut self) -> Vec<(&'static str, &mut [F])>;
}
