//! A part of an optimizer on the host: the groups of one rule.

use std::ops::Deref;

use crate::cpu::around::Surroundings;
use crate::cpu::number::Number;
use crate::cpu::probe::Probes;
use crate::cpu::rows::RowSets;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::gpu::build::spec::{Spec, Tensor};
use crate::optim::StateSpec;
use crate::optim::procedure::evaluation::Evaluations;
use crate::options::around::Mode;
use crate::{Error, Result};

/// The groups of one rule, with their tensors. A part numbers its groups, tensors and row sets itself.
#[derive(Debug)]
pub(crate) struct Part<F> {
    pub(crate) spec: Spec,
    pub(crate) tensors: Vec<TensorState<F>>,
    pub(crate) step_count: u64,
    pub(crate) totals: Vec<f64>,
    pub(crate) global_state: Vec<F>,
    pub(crate) around: Surroundings<F>,
    pub(crate) rows: RowSets<F>,
    pub(crate) probes: Probes<F>,
    pub(crate) evaluations: Evaluations,
    pub(crate) draws: Draws,
    pub(crate) mode: Mode,
}

impl<F: Number> Part<F> {
    /// The names of the states of a tensor that the optimizer keeps between steps.
    pub(crate) fn state_names(&self, tensor: Tensor) -> Result<Vec<&'static str>> {
        let kept = &self.tensors[self.spec.tensor(tensor)?];
        let states = self.spec.groups[kept.spec.group].rule.states();
        let is_kept = |(state, values): &(&StateSpec, &Option<Vec<F>>)| values.is_some() && !state.scratch;
        let states = states.iter().zip(&kept.states).filter(is_kept).map(|(state, _)| state.name);
        Ok(states.chain(kept.factors.iter().flat_map(|factors| factors.arrays().map(|(name, _)| name))).collect())
    }

    /// A state of a tensor.
    pub(crate) fn state(&self, tensor: Tensor, name: &str) -> Result<&[F]> {
        let (tensor, at) = self.state_place(tensor, name)?;
        let kept = &self.tensors[tensor];
        let factor = kept.factors.as_ref().and_then(|factors| factors.array(name));
        Ok(factor.or(at.and_then(|at| kept.states[at].as_deref())).unwrap_or_default())
    }

    /// A state of a tensor, for writing.
    pub(crate) fn state_mut(&mut self, tensor: Tensor, name: &str) -> Result<&mut [F]> {
        let (tensor, at) = self.state_place(tensor, name)?;
        let kept = &mut self.tensors[tensor];
        let factor = kept.factors.as_mut().and_then(|factors| factors.array_mut(name));
        Ok(factor.or(at.and_then(|at| kept.states[at].as_deref_mut())).unwrap_or_default())
    }

    /// The index of a tensor, and that of a state among the states of its rule; `None` for a factor.
    fn state_place(&self, tensor: Tensor, name: &str) -> Result<(usize, Option<usize>)> {
        let index = self.spec.tensor(tensor)?;
        let kept = &self.tensors[index];
        let states = self.spec.groups[kept.spec.group].rule.states();
        let at = states.iter().zip(&kept.states).position(|(state, values)| state.name == name && values.is_some());
        let unknown = || {
            let known = self.state_names(tensor).unwrap_or_default();
            Error::unknown(format!("state of tensor `{}`", kept.spec.name), name, known)
        };
        let is_factor = kept.factors.as_ref().is_some_and(|factors| factors.array(name).is_some());
        (at.is_some() || is_factor).then_some((index, at)).ok_or_else(unknown)
    }

    /// The step count.
    pub(crate) fn step_count(&self) -> u64 {
        self.step_count
    }

    /// Sets the step count, for example when states are restored.
    pub(crate) fn set_step_count(&mut self, t: u64) {
        self.step_count = t;
        (0..self.tensors.len()).for_each(|tensor| self.restart_tensor(tensor, t));
    }

    /// The numbers that the rule keeps once per tensor.
    pub(crate) fn progress(&self, tensor: Tensor) -> Result<&[F]> {
        Ok(&self.tensors[self.spec.tensor(tensor)?].progress)
    }

    /// A number of the global state, by name; `None` where the rule keeps no number of this name.
    pub(crate) fn global_state(&self, name: &str) -> Option<F> {
        self.spec.rule().global_state().iter().position(|n| *n == name).map(|i| self.global_state[i])
    }

    /// The global state, in the rule's order; empty for most rules.
    pub(crate) fn global_state_values(&self) -> &[F] {
        &self.global_state
    }

    /// Sets the global state, for example when states are restored.
    pub(crate) fn set_global_state(&mut self, values: &[F]) -> Result<()> {
        if values.len() != self.global_state.len() {
            let problem =
                format!("{} numbers were given, the rule's global state has {}", values.len(), self.global_state.len());
            return Err(Error::Usage(problem));
        }
        self.global_state.copy_from_slice(values);
        Ok(())
    }

    /// The last step's decision for a tensor, by the name of a member: S-Adam's `damp` and `lgi`, FlowAdam's `flow`.
    pub(crate) fn decision(&self, tensor: Tensor, name: &str) -> Result<Option<F>> {
        let decision = &self.tensors[self.spec.tensor(tensor)?].decision;
        let at = self.spec.rule().decision().iter().position(|n| *n == name);
        Ok(at.and_then(|at| decision.get(at).copied()))
    }

    /// The rule's totals over all tensors in the last step; empty for rules without sums.
    pub(crate) fn totals(&self) -> &[f64] {
        &self.totals
    }

    /// The average of a tensor's weights; zeros before the first step.
    pub(crate) fn ema(&self, tensor: Tensor) -> Result<&[F]> {
        let index = self.spec.tensor(tensor)?;
        let info = &self.spec.tensors[index];
        if info.frozen {
            return Err(info.error("it is frozen: no average of it is kept".to_owned()));
        }
        let average = self.around.ema.get(index);
        average
            .map(Vec::as_slice)
            .ok_or_else(|| Error::Usage("the optimizer keeps no average of the weights".to_owned()))
    }

    /// The current loss scale; 1 without a loss scale.
    pub(crate) fn loss_scale(&self) -> f64 {
        self.around.scale.into()
    }

    /// The count of steps that were skipped because a gradient was not finite.
    pub(crate) fn skipped(&self) -> u64 {
        self.around.skipped
    }

    /// Checks the counts and the lengths of the parameters and gradients of a call.
    pub(crate) fn check_lengths(&self, params: &[impl Deref<Target = [F]>], grads: &[&[F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        for (t, (p, g)) in params.iter().zip(grads).enumerate() {
            self.check_length(t, "parameter", p.len())?;
            self.check_length(t, "gradient", g.len())?;
        }
        Ok(())
    }

    /// Checks the parameters of a call without gradients.
    pub(crate) fn check_params(&self, params: &[&mut [F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        params.iter().enumerate().try_for_each(|(t, p)| self.check_length(t, "parameter", p.len()))
    }

    pub(crate) fn check_count(&self, what: &str, given: usize) -> Result<()> {
        if given == self.tensors.len() {
            return Ok(());
        }
        Err(Error::Usage(format!("{given} {what} were given, the optimizer has {} tensors", self.tensors.len())))
    }

    pub(crate) fn check_length(&self, tensor: usize, what: &str, given: usize) -> Result<()> {
        let info = &self.spec.tensors[tensor];
        if given as u64 == info.used() {
            return Ok(());
        }
        Err(info.error(format!("its {what} has {given} elements, needs {}", info.used())))
    }
}
