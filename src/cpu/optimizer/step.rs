//! Steps, micro-batches, and moves of the parameters.

use crate::cpu::around::Measures;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::options::around::Mode;
use crate::{Error, Result};

impl<F: Number> Optimizer<F> {
    /// Adds the gradients of a micro-batch to the accumulator. The step itself adds the last micro-batch.
    ///
    /// # Errors
    /// A count or length that does not fit; the builder did not set [`accumulate`](crate::Builder::accumulate).
    pub fn accumulate(&mut self, grads: &[&[F]]) -> Result<()> {
        if let [part] = self.parts.as_mut_slice() {
            return part.accumulate(grads);
        }
        self.check_count("gradients", grads.len())?;
        let shares = self.shares(grads.iter().copied());
        self.parts.iter().zip(&shares).try_for_each(|(part, share)| part.check_accumulates(share))?;
        self.parts.iter_mut().zip(&shares).try_for_each(|(part, share)| part.accumulate(share))
    }

    /// One step: it changes parameters and states, and [`step_count`](Self::step_count) counts it. `params` and `grads` come in the order of the
    /// tensors. A step that the rule refuses (Adai's, where every gradient so far was zero) changes nothing and is not counted.
    /// An optimizer whose tensors are all frozen or empty counts no step.
    ///
    /// # Errors
    /// A count or length that does not fit, a schedule's value out of range, a rule that evaluates gradients inside the step and needs
    /// [`step_with`](Self::step_with), a rule that probes, before its first probes
    /// ([`Builder::undamped_steps`](crate::Builder::undamped_steps)). Nothing is changed then.
    pub fn step(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if let [part] = self.parts.as_mut_slice() {
            return part.step(params, grads);
        }
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        let (mut params, grads) =
            (self.shares(params.iter_mut().map(|p| &mut **p)), self.shares(grads.iter().copied()));
        for ((part, params), grads) in self.parts.iter().zip(&params).zip(&grads) {
            part.check_step(params, grads)?;
        }
        self.exchange(&grads);
        let shares = params.iter_mut().zip(&grads);
        self.parts.iter_mut().zip(shares).try_for_each(|(part, (params, grads))| part.step(params, grads))
    }

    /// Moves the parameters to the point at which the rule is evaluated: with the schedule-free rules from y to the average x.
    ///
    /// # Errors
    /// The rule is evaluated at the point at which it is trained; a count or length that does not fit; the parameters are already at the
    /// point of evaluation. Steps are errors until [`to_train_params`](Self::to_train_params).
    pub fn to_eval_params(&mut self, params: &mut [&mut [F]]) -> Result<()> {
        self.move_params(params, Mode::Training, Mode::Evaluation)
    }

    /// Moves the parameters back to the point at which the rule is trained. The two moves together may change a parameter by a rounding error.
    ///
    /// # Errors
    /// As [`to_eval_params`](Self::to_eval_params).
    pub fn to_train_params(&mut self, params: &mut [&mut [F]]) -> Result<()> {
        self.move_params(params, Mode::Evaluation, Mode::Training)
    }

    fn move_params(&mut self, params: &mut [&mut [F]], from: Mode, to: Mode) -> Result<()> {
        let moves: Vec<bool> = self.parts.iter().map(|part| part.spec.rule().evaluation().is_some()).collect();
        if !moves.contains(&true) {
            let rules: Vec<&str> = self.parts.iter().map(|part| part.spec.rule().name()).collect();
            let verb = if rules.len() == 1 { "is evaluated where it is" } else { "are evaluated where they are" };
            return Err(Error::Usage(format!("{} {verb} trained", rules.join(" and "))));
        }
        self.check_count("parameters", params.len())?;
        let mut shares = self.shares(params.iter_mut().map(|p| &mut **p));
        self.parts.iter().zip(&shares).try_for_each(|(part, share)| part.check_params(share))?;
        let parts = self.parts.iter_mut().zip(&mut shares).zip(moves).filter(|(_, moves)| *moves);
        parts.map(|(part, _)| part).try_for_each(|(part, share)| part.move_params(share, from, to))
    }

    /// Where the parts share a clip by global norm or a test for finite numbers: gathers the gradients of all parts, and gives each part the
    /// norm and the test of all.
    pub(crate) fn exchange(&mut self, grads: &[Vec<&[F]>]) {
        if self.parts.len() == 1 || !self.spec.around.exchanges() {
            return;
        }
        self.parts.iter_mut().zip(grads).for_each(|(part, grads)| part.gather(grads));
        let joint = self.parts.iter().map(|part| part.around.own_measures()).fold(Measures::default(), Measures::join);
        self.parts.iter_mut().for_each(|part| part.around.joint = Some(joint));
    }
}
