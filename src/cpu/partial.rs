//! Steps and micro-batches over some of the tensors, on the host.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::cpu::tensor::TensorState;

impl<F: Number> Part<F> {
    /// Adds the gradients of a micro-batch to the accumulators of the tensors with a gradient.
    pub(crate) fn accumulate_tensors(&mut self, grads: &[Option<&[F]>]) {
        let given: Vec<&[F]> = grads.iter().map(|g| g.unwrap_or_default()).collect();
        self.accumulate_given(&given);
        for (tensor, g) in self.tensors.iter_mut().zip(grads) {
            tensor.waiting |= g.is_some();
        }
    }

    /// Checks everything that [`accumulate_tensors`](Self::accumulate_tensors) may refuse.
    pub(crate) fn check_accumulates_tensors(&self, grads: &[Option<&[F]>]) -> Result<()> {
        self.check_accumulation()?;
        self.check_some(grads)
    }

    /// Checks everything that a step over the tensors with a gradient may refuse.
    pub(crate) fn check_step_tensors(&self, params: &[&mut [F]], grads: &[Option<&[F]>]) -> Result<()> {
        self.check_whole()?;
        self.check_params(params)?;
        self.check_some(grads)?;
        self.check_schedules()
    }

    /// Marks the tensors that the next step takes: those with a gradient, and those with gradients in their accumulators.
    pub(crate) fn take(&mut self, grads: &[Option<&[F]>]) {
        for (tensor, g) in self.tensors.iter_mut().zip(grads) {
            tensor.takes = g.is_some() || tensor.waiting;
        }
    }

    /// Ends the effect of [`take`](Self::take): the next step takes every tensor.
    pub(crate) fn take_all(&mut self) {
        self.tensors.iter_mut().for_each(|tensor| tensor.takes = true);
    }

    /// The gradients of the tensors that the step takes and whose gradients lie in the accumulator alone.
    pub(crate) fn zeros(&self, grads: &[Option<&[F]>]) -> Vec<Vec<F>> {
        let zeros = |(tensor, g): (&TensorState<F>, &Option<&[F]>)| {
            vec![F::zero(); if g.is_none() && tensor.takes { tensor.spec.elements } else { 0 }]
        };
        self.tensors.iter().zip(grads).map(zeros).collect()
    }

    /// The gradients that the step sees, from those of the call and from [`zeros`](Self::zeros).
    pub(crate) fn given<'a>(&self, grads: &[Option<&'a [F]>], zeros: &'a [Vec<F>]) -> Vec<&'a [F]> {
        let given = grads.iter().zip(&self.tensors).zip(zeros);
        given.map(|((g, tensor), zeros)| g.map_or(zeros.as_slice(), |g| tensor.live(g))).collect()
    }

    /// The step over the taken tensors.
    pub(crate) fn step_given(&mut self, params: &mut [&mut [F]], given: &[&[F]]) -> Result<()> {
        let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
        self.step_live(&mut params, given)
    }

    /// Checks the count and the lengths of the gradients of some tensors.
    fn check_some(&self, grads: &[Option<&[F]>]) -> Result<()> {
        self.check_count("gradients", grads.len())?;
        let given = grads.iter().enumerate().filter_map(|(t, g)| Some((t, (*g)?)));
        given.into_iter().try_for_each(|(t, g)| self.check_length(t, "gradient", g.len()))
    }
}
