//! Probes, the global state and the decisions, read and written between steps.

use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::part::Part;
use crate::gpu::build::spec::Tensor;
use crate::optim::procedure::evaluates;
use crate::{Error, Result};

impl<F: Number> Optimizer<F> {
    /// A number of the global state, by name; `None` where the rule keeps no number of this name.
    #[must_use]
    pub fn global_state(&self, name: &str) -> Option<F> {
        self.parts.iter().find_map(|part| part.global_state(name))
    }

    /// The global state, in the rule's order, for one rule after the other; empty for most rules.
    #[must_use]
    pub fn global_state_values(&self) -> Vec<F> {
        self.parts.iter().flat_map(|part| part.global_state_values().iter().copied()).collect()
    }

    /// Sets the global state, for example when states are restored.
    ///
    /// # Errors
    /// The rule's global state has another count of numbers.
    pub fn set_global_state(&mut self, values: &[F]) -> Result<()> {
        let count: usize = self.parts.iter().map(|part| part.global_state_values().len()).sum();
        if values.len() != count {
            let problem = format!("{} numbers were given, the rule's global state has {count}", values.len());
            return Err(Error::Usage(problem));
        }
        let mut rest = values;
        for part in &mut self.parts {
            let (own, others) = rest.split_at(part.global_state_values().len());
            part.set_global_state(own)?;
            rest = others;
        }
        Ok(())
    }

    /// The last step's decision for a tensor, by the name of a member: S-Adam's `damp` and `lgi`, FlowAdam's `flow`. `None` before
    /// the first step, and where the decision has no such member.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn decision(&self, tensor: Tensor, name: &str) -> Result<Option<F>> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.decision(tensor, name)
    }

    /// The totals of each rule over all its tensors in the last step, for one rule after the other; empty for rules without sums.
    #[must_use]
    pub fn totals(&self) -> Vec<f64> {
        self.parts.iter().flat_map(|part| part.totals().iter().copied()).collect()
    }

    /// Sets the directions of the next steps' probes: for each probe, one number per element of each tensor. The optimizer normalizes them, as it
    /// does random directions. `None`: random directions again.
    ///
    /// # Errors
    /// The rule does not probe; a count or length that does not fit.
    pub fn set_directions(&mut self, directions: Option<Vec<Vec<Vec<F>>>>) -> Result<()> {
        let Some(directions) = directions else { return self.evaluating_mut().set_directions(None) };
        let at = self.evaluating();
        let own = |direction: Vec<Vec<F>>| {
            self.check_count("tensors of a direction", direction.len())?;
            Ok(self.shares(direction).swap_remove(at))
        };
        let directions = directions.into_iter().map(own).collect::<Result<_>>()?;
        self.evaluating_mut().set_directions(Some(directions))
    }

    /// Sets the losses of probes, for callers that evaluate them on their own: first the loss at the parameters. Steps use these losses until
    /// new ones are set.
    ///
    /// # Errors
    /// The count of losses is not one more than the count of probes.
    pub fn set_losses(&mut self, losses: &[f64]) -> Result<()> {
        self.evaluating_mut().set_losses(losses)
    }

    /// The losses of the last probes, first the loss at the parameters. Zeros before the first probes; empty for rules that do not probe.
    #[must_use]
    pub fn losses(&self) -> &[f64] {
        self.parts[self.evaluating()].losses()
    }

    /// The number of the part with the rule that evaluates the objective inside the step, or else 0.
    pub(crate) fn evaluating(&self) -> usize {
        let evaluates = |part: &Part<F>| evaluates(&part.spec.rule().procedure());
        self.parts.iter().position(evaluates).unwrap_or(0)
    }

    fn evaluating_mut(&mut self) -> &mut Part<F> {
        let at = self.evaluating();
        &mut self.parts[at]
    }
}
