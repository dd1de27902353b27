//! The optimizer on the host: its parts and its accessors.

use crate::cpu::around::Surroundings;
use crate::cpu::number::Number;
use crate::cpu::probe::Probes;
use crate::cpu::rows::RowSets;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::gpu::build::spec::{Group, Spec, Tensor};
use crate::optim::Rule;
use crate::optim::procedure::evaluation::Evaluations;
use crate::options::around::Mode;
use crate::options::schedule::Schedule;
use crate::{Error, Result};

/// An optimizer on the host, from [`Builder::build_cpu`](crate::Builder::build_cpu): `Optimizer<f64>` is the oracle, `Optimizer<f32>` the
/// fast path. Its results are the same bits on every run, with any count of threads.
#[derive(Debug)]
pub struct Optimizer<F> {
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

impl<F: Number> Optimizer<F> {
    /// The groups with their names, in order.
    pub fn groups(&self) -> impl Iterator<Item = (Group, &str)> {
        self.spec.group_handles().map(|(group, info)| (group, info.name.as_str()))
    }

    /// The tensors with their names and shapes, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &str, &[usize])> {
        self.spec.tensor_handles().map(|(tensor, info)| (tensor, info.name.as_str(), info.shape.as_slice()))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// The optimizer has no tensor of this name; the error suggests the nearest name.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.spec.tensor_named(name)
    }

    /// A tensor's group.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn group_of(&self, tensor: Tensor) -> Result<Group> {
        Ok(self.spec.group_handle(self.spec.tensor_info(tensor)?.group))
    }

    /// The current settings of a group. A setting with a schedule has the value from the builder.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn rule(&self, group: Group) -> Result<&dyn Rule> {
        Ok(self.spec.group_info(group)?.rule.as_ref())
    }

    /// The schedule of a group's setting ("lr" …), if the setting has one.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn schedule(&self, group: Group, setting: &str) -> Result<Option<&Schedule>> {
        let scheduled = &self.spec.group_info(group)?.scheduled;
        Ok(scheduled.iter().find(|s| s.setting == setting).map(|s| &s.schedule))
    }

    /// The names of the states of a tensor. A frozen tensor has none.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn state_names(&self, tensor: Tensor) -> Result<Vec<&'static str>> {
        let kept = &self.tensors[self.spec.tensor(tensor)?];
        let states = self.spec.groups[kept.spec.group].rule.states();
        Ok(states
            .iter()
            .zip(&kept.states)
            .filter(|(_, values)| values.is_some())
            .map(|(state, _)| state.name)
            .collect())
    }

    /// A state of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor has no state of this name.
    pub fn state(&self, tensor: Tensor, name: &str) -> Result<&[F]> {
        let (tensor, at) = self.state_place(tensor, name)?;
        Ok(self.tensors[tensor].states[at].as_deref().unwrap_or_default())
    }

    /// A state of a tensor, for writing.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn state_mut(&mut self, tensor: Tensor, name: &str) -> Result<&mut [F]> {
        let (tensor, at) = self.state_place(tensor, name)?;
        Ok(self.tensors[tensor].states[at].as_deref_mut().unwrap_or_default())
    }

    fn state_place(&self, tensor: Tensor, name: &str) -> Result<(usize, usize)> {
        let index = self.spec.tensor(tensor)?;
        let kept = &self.tensors[index];
        let states = self.spec.groups[kept.spec.group].rule.states();
        let at = states.iter().zip(&kept.states).position(|(state, values)| state.name == name && values.is_some());
        let unknown = || {
            let known = self.state_names(tensor).unwrap_or_default();
            Error::unknown(format!("state of tensor `{}`", kept.spec.name), name, known)
        };
        at.map(|at| (index, at)).ok_or_else(unknown)
    }

    /// The step count. Skipped steps do not count.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step_count
    }

    /// Sets the step count, for example when states are restored. The progress of a rule that keeps one
    /// ([`Rule::progress`](crate::Rule::progress)) becomes that of as many steps with the current settings, and with
    /// [`Builder::partial_steps`](crate::Builder::partial_steps) every tensor gets this count.
    pub fn set_step_count(&mut self, t: u64) {
        self.step_count = t;
        (0..self.tensors.len()).for_each(|tensor| self.restart_tensor(tensor, t));
    }

    /// The numbers that the rule keeps once per tensor, in the order of [`Rule::progress`](crate::Rule::progress); empty for most rules.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn progress(&self, tensor: Tensor) -> Result<&[F]> {
        Ok(&self.tensors[self.spec.tensor(tensor)?].progress)
    }

    /// A number of the global state, by name; `None` where the rule keeps no number of this name.
    #[must_use]
    pub fn global_state(&self, name: &str) -> Option<F> {
        self.spec.rule().global_state().iter().position(|n| *n == name).map(|i| self.global_state[i])
    }

    /// The global state, in the rule's order; empty for most rules.
    #[must_use]
    pub fn global_state_values(&self) -> &[F] {
        &self.global_state
    }

    /// Sets the global state, for example when states are restored.
    ///
    /// # Errors
    /// The rule's global state has another count of numbers.
    pub fn set_global_state(&mut self, values: &[F]) -> Result<()> {
        if values.len() != self.global_state.len() {
            let problem =
                format!("{} numbers were given, the rule's global state has {}", values.len(), self.global_state.len());
            return Err(Error::Usage(problem));
        }
        self.global_state.copy_from_slice(values);
        Ok(())
    }

    /// The last step's decision for a tensor, by the name of a member: S-Adam's `damp` and `lgi`, FlowAdam's `flow`. `None` before
    /// the first step, and where the decision has no such member.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn decision(&self, tensor: Tensor, name: &str) -> Result<Option<F>> {
        let decision = &self.tensors[self.spec.tensor(tensor)?].decision;
        let at = self.spec.rule().decision().iter().position(|n| *n == name);
        Ok(at.and_then(|at| decision.get(at).copied()))
    }

    /// The rule's totals over all tensors in the last step; empty for rules without sums.
    #[must_use]
    pub fn totals(&self) -> &[f64] {
        &self.totals
    }

    /// The average of a tensor's weights; zeros before the first step.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the builder did not set [`ema`](crate::Builder::ema); the tensor is frozen.
    pub fn ema(&self, tensor: Tensor) -> Result<&[F]> {
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
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.around.scale.into()
    }

    /// The count of steps that were skipped because a gradient was not finite.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.around.skipped
    }

    pub(crate) fn check_lengths(&self, params: &[&mut [F]], grads: &[&[F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        for (t, (p, g)) in params.iter().zip(grads).enumerate() {
            self.check_length(t, "parameter", p.len())?;
            self.check_length(t, "gradient", g.len())?;
        }
        Ok(())
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
