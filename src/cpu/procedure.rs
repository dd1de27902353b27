//! Procedures on the host: the form of each procedure of `optim/procedure` for the CPU. [`of`] is the one place that names them.

use std::any::Any;
use std::fmt::Debug;

use crate::Result;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::objective::Evaluate;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::warp::Warped;
use crate::optim::procedure::{Probe, Scheme, Shared, Warp, downcast};

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

/// A procedure on the host.
pub(crate) trait HostProcedure<F: Number> {
    /// Its pass over a tensor of this many elements, if it has one.
    fn tensor_pass(&self, _elements: usize) -> Option<Box<dyn TensorPass<F>>> {
        None
    }

    /// A step with its evaluations, after the evaluation of the gradient, which returned `loss`.
    fn step(
        &self,
        optimizer: &mut Optimizer<F>,
        _loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        _evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        optimizer.step_live(params, &shared(grads))
    }
}

/// A step without a procedure.
struct Plain;

impl<F: Number> HostProcedure<F> for Plain {}

impl<F: Number> HostProcedure<F> for Warp {
    fn tensor_pass(&self, elements: usize) -> Option<Box<dyn TensorPass<F>>> {
        Some(Box::new(Warped::new(*self, elements)))
    }
}

impl<F: Number> HostProcedure<F> for Probe {
    fn step(
        &self,
        optimizer: &mut Optimizer<F>,
        loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        optimizer.probe(*self, loss, params, grads, evaluate)?;
        optimizer.step_live(params, &shared(grads))
    }
}

impl<F: Number> HostProcedure<F> for Scheme {
    fn step(
        &self,
        optimizer: &mut Optimizer<F>,
        _: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        optimizer.step_along(*self, params, grads, evaluate)
    }
}

/// The form of a procedure for the host.
pub(crate) fn of<F: Number>(procedure: &Shared) -> Box<dyn HostProcedure<F>> {
    if let Some(warp) = downcast::<Warp>(procedure) {
        return Box::new(*warp);
    }
    if let Some(probe) = downcast::<Probe>(procedure) {
        return Box::new(*probe);
    }
    if let Some(scheme) = downcast::<Scheme>(procedure) {
        return Box::new(*scheme);
    }
    Box::new(Plain)
}

/// The same slices, for reading.
pub(crate) fn shared<'a, F>(slices: &'a [&mut [F]]) -> Vec<&'a [F]> {
    slices.iter().map(|slice| &**slice).collect()
}
