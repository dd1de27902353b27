//! Rules with different points for training and evaluation, on the host.

use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::options::around::Mode;
use crate::{Error, Result};

impl<F: Number> Part<F> {
    /// Moves the parameters between the points of training and of evaluation, for a rule that has both.
    pub(crate) fn move_params(&mut self, params: &mut [&mut [F]], from: Mode, to: Mode) -> Result<()> {
        let (way, call) = if to == Mode::Evaluation { (1.0, "to_eval_params") } else { (-1.0, "to_train_params") };
        if self.mode != from {
            return Err(Error::Usage(self.mode.refusal(call)));
        }
        self.check_params(params)?;
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
