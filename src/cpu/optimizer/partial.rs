//! Steps and micro-batches over some of the tensors.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::part::Part;

impl<F: Number> Optimizer<F> {
    /// One step that leaves out the tensors without a gradient: their parameters, states, averages, accumulators and step counts stay as they
    /// are, and they have no part in sums. With accumulation, the step also takes the tensors with gradients in their accumulators.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    ///
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() });
    /// let used = builder.tensor(Group::DEFAULT, "expert 1", &[2]);
    /// let unused = builder.tensor(Group::DEFAULT, "expert 2", &[2]);
    /// let mut optimizer = builder.partial_steps(true).build_cpu::<f32>()?;
    /// let (mut a, mut b) = ([1.0, 2.0], [0.85, 1.0]);
    /// optimizer.step_tensors(&mut [&mut a, &mut b], &[Some(&[0.1, -0.1]), None])?;
    /// assert_eq!(b, [0.85, 1.0]);
    /// assert_eq!((optimizer.tensor_step_count(used)?, optimizer.tensor_step_count(unused)?), (1, 0));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps); otherwise as [`step`](Self::step).
    pub fn step_tensors(&mut self, params: &mut [&mut [F]], grads: &[Option<&[F]>]) -> Result<()> {
        self.spec.check_partial()?;
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        let (mut params, grads) =
            (self.shares(params.iter_mut().map(|p| &mut **p)), self.shares(grads.iter().copied()));
        for ((part, params), grads) in self.parts.iter().zip(&params).zip(&grads) {
            part.check_step_tensors(params, grads)?;
        }
        self.parts.iter_mut().zip(&grads).for_each(|(part, grads)| part.take(grads));
        let zeros: Vec<Vec<Vec<F>>> = self.parts.iter().zip(&grads).map(|(part, grads)| part.zeros(grads)).collect();
        let given = self.parts.iter().zip(&grads).zip(&zeros);
        let given: Vec<Vec<&[F]>> = given.map(|((part, grads), zeros)| part.given(grads, zeros)).collect();
        self.exchange(&given);
        let shares = params.iter_mut().zip(&given);
        let stepped =
            self.parts.iter_mut().zip(shares).try_for_each(|(part, (params, given))| part.step_given(params, given));
        self.parts.iter_mut().for_each(Part::take_all);
        stepped
    }

    /// As [`accumulate`](Self::accumulate), for a micro-batch with gradients of some tensors alone; `None`: the micro-batch has no gradient of
    /// this tensor. The step of the window takes every tensor with a gradient in a micro-batch of the window.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate) and [`step_tensors`](Self::step_tensors).
    pub fn accumulate_tensors(&mut self, grads: &[Option<&[F]>]) -> Result<()> {
        self.spec.check_partial()?;
        self.check_count("gradients", grads.len())?;
        let shares = self.shares(grads.iter().copied());
        self.parts.iter().zip(&shares).try_for_each(|(part, share)| part.check_accumulates_tensors(share))?;
        self.parts.iter_mut().zip(&shares).for_each(|(part, share)| part.accumulate_tensors(share));
        Ok(())
    }
}
