//! Rules with different points for training and evaluation, on the host.

use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::options::around::Mode;
use crate::{Error, Result};

impl<F: Number> Optimizer<F> {
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
        let rule = self.spec.rule();
        if rule.evaluation().is_none() {
            return Err(Error::Usage(format!("{} is evaluated where it is trained", rule.name())));
        }
        let (way, call) = if to == Mode::Evaluation { (1.0, "to_eval_params") } else { (-1.0, "to_train_params") };
        if self.mode != from {
            return Err(Error::Usage(self.mode.refusal(call)));
        }
        self.check_count("parameters", params.len())?;
        params.iter().enumerate().try_for_each(|(t, p)| self.check_length(t, "parameter", p.len()))?;
        let mut params: Vec<&mut [F]> = params.iter_mut().zip(&self.tensors).map(|(p, t)| t.live_mut(p)).collect();
        self.in_full(&mut params, |optimizer, params| {
            optimizer.move_in_full(params, way);
            Ok(())
        })?;
        self.mode = to;
        Ok(())
    }

    fn move_in_full(&self, params: &mut [&mut [F]], way: f64) {
        for (tensor, p) in self.tensors.iter().zip(params.iter_mut()) {
            let rule = self.spec.groups[tensor.spec.group].rule.as_ref();
            let Some((state, factor)) = rule.evaluation() else { continue };
            let factor = F::from_f64(way * factor);
            let at = rule.states().iter().position(|s| s.name == state);
            let gap = at.and_then(|at| tensor.states[at].as_deref()).unwrap_or_default();
            p.iter_mut().zip(gap).for_each(|(p, gap)| *p = *p + factor * *gap);
        }
    }
}
