//! What all objectives without mini-batches share on the host: checks, the L2 term and the outcome.

use super::{CpuObjective, Outcome, TensorSpec, check};
use crate::Result;
use crate::optim::rule::Real;

/// An objective's own mathematics, on slices that are known to fit.
pub(super) trait Terms<F> {
    /// The number of data points.
    fn rows(&self) -> usize;

    /// The loss, and its gradient over `grads` where asked. Sums of many terms are kept in f64, so that the difference of
    /// two losses means something.
    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64;
}

/// [`Terms`] as an objective of one batch, with `l2`·‖θ‖² added.
pub(super) struct FullBatch<T> {
    tensors: Vec<TensorSpec>,
    l2: f64,
    terms: T,
}

impl<T> FullBatch<T> {
    pub(super) fn boxed<'a, F: Real>(tensors: &[TensorSpec], l2: f64, terms: T) -> Box<dyn CpuObjective<F> + Send + 'a>
    where
        T: Terms<F> + Send + 'a,
    {
        Box::new(Self { tensors: tensors.to_vec(), l2, terms })
    }

    fn outcome<F: Real>(&self, params: &[&[F]], loss: f64) -> Outcome
    where
        T: Terms<F>,
    {
        let penalty = if self.l2 == 0.0 { 0.0 } else { self.l2 * params.iter().map(|p| squares(p)).sum::<f64>() };
        Outcome { rows: self.terms.rows() as u32, loss: loss + penalty, correct: 0 }
    }
}

fn squares<F: Real>(values: &[F]) -> f64 {
    values.iter().map(|x| x.wide() * x.wide()).sum()
}

impl<F: Real, T: Terms<F>> CpuObjective<F> for FullBatch<T> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn batches(&self) -> usize {
        1
    }

    fn set_epoch(&mut self, _: u32) {}

    fn gradient(&mut self, params: &[&[F]], batch: usize, grads: &mut [&mut [F]]) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        check::lengths(&self.tensors, grads.iter().map(|g| g.len()), "gradients")?;
        check::batch(batch, 1)?;
        let loss = self.terms.evaluate(params, Some(grads));
        if self.l2 != 0.0 {
            let twice = F::of(2.0 * self.l2);
            for (grad, param) in grads.iter_mut().zip(params) {
                grad.iter_mut().zip(*param).for_each(|(g, p)| *g = *g + twice * *p);
            }
        }
        Ok(self.outcome(params, loss))
    }

    fn loss(&mut self, params: &[&[F]], batch: usize) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        check::batch(batch, 1)?;
        let loss = self.terms.evaluate(params, None);
        Ok(self.outcome(params, loss))
    }
}
