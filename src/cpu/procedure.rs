//! Procedures on the host: the form of each procedure of `optim/procedure` for the CPU. [`of`] is the one place that names them.

use crate::Result;
#[cfg(feature = "tools")]
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::objective::Evaluate;
#[cfg(feature = "cpu")]
use crate::cpu::orthogonal::Orthogonal;
use crate::cpu::part::Part;
use crate::cpu::pass::TensorPass;
use crate::cpu::warp::Warped;
#[cfg(feature = "tools")]
use crate::optim::Rule;
#[cfg(feature = "cpu")]
use crate::optim::procedure::Orthogonalize;
use crate::optim::procedure::{Probe, Scheme, Shared, Warp, downcast};

/// A procedure on the host.
pub(crate) trait HostProcedure<F: Number> {
    /// Its pass over a tensor of this shape, if it has one.
    fn tensor_pass(&self, _shape: &[usize]) -> Option<Box<dyn TensorPass<F>>> {
        None
    }

    /// A step with its evaluations, after the evaluation of the gradient, which returned `loss`.
    fn step(
        &self,
        part: &mut Part<F>,
        _loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        _evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        part.step_live(params, &shared(grads))
    }
}

/// A step without a procedure.
struct Plain;

impl<F: Number> HostProcedure<F> for Plain {}

impl<F: Number> HostProcedure<F> for Warp {
    fn tensor_pass(&self, shape: &[usize]) -> Option<Box<dyn TensorPass<F>>> {
        Some(Box::new(Warped::new(*self, shape.iter().product())))
    }
}

#[cfg(feature = "cpu")]
impl<F: Number> HostProcedure<F> for Orthogonalize {
    fn tensor_pass(&self, shape: &[usize]) -> Option<Box<dyn TensorPass<F>>> {
        Some(Box::new(Orthogonal::new(*self, shape)))
    }
}

impl<F: Number> HostProcedure<F> for Probe {
    fn step(
        &self,
        part: &mut Part<F>,
        loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        part.probe(*self, loss, params, grads, evaluate)?;
        part.step_live(params, &shared(grads))
    }
}

impl<F: Number> HostProcedure<F> for Scheme {
    fn step(
        &self,
        part: &mut Part<F>,
        _: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        part.step_along(*self, params, grads, evaluate)
    }
}

/// The form of a procedure for the host.
pub(crate) fn of<F: Number>(procedure: &Shared) -> Box<dyn HostProcedure<F>> {
    if let Some(warp) = downcast::<Warp>(procedure) {
        return Box::new(*warp);
    }
    #[cfg(feature = "cpu")]
    if let Some(iteration) = downcast::<Orthogonalize>(procedure) {
        return Box::new(*iteration);
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

/// Makes the states of a tensor that the procedure of `rule` makes before each update.
#[cfg(feature = "tools")]
pub(crate) fn make_states<F: Number>(
    rule: &dyn Rule,
    hyper: &[F],
    shape: &[usize],
    g: &[F],
    states: &mut [Option<Vec<F>>],
) {
    let group = Scaled { cpu: F::of_rule(rule), hyper: hyper.to_vec(), rule, sums: rule.sums() };
    if let Some(mut pass) = of::<F>(&rule.procedure()).tensor_pass(shape) {
        pass.pass(&group, g, states);
    }
}
