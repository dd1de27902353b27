//! The optimizer on the host: what it holds, what it tells, and its settings.

use crate::cpu::around::Surroundings;
use crate::cpu::number::Number;
use crate::cpu::probe::Probes;
use crate::cpu::rows::RowSets;
use crate::cpu::spec::TensorSpec;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::gpu::build::spec::GroupInfo;
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::{check_common, goes_on};
use crate::optim::{Procedure, Rule, Value};
use crate::options::schedule::refuse_owned;
use crate::{Error, Result};

/// An optimizer on the host: `Optimizer<f64>` is the oracle, `Optimizer<f32>` the fast path. Its results are the same bits on every run,
/// however many threads there are.
///
/// ```
/// use wgpu_optim::cpu::{Optimizer, TensorSpec};
/// use wgpu_optim::optim::AdamW;
///
/// # fn main() -> wgpu_optim::Result<()> {
/// let groups = vec![("all".to_owned(), Box::new(AdamW::default()) as _)];
/// let tensors = vec![TensorSpec { name: "w".to_owned(), group: 0, elements: 3 }];
/// let mut optimizer = Optimizer::<f32>::new(groups, tensors)?;
/// let mut w = [1.0, 2.0, 3.0];
/// optimizer.step(&mut [&mut w], &[&[0.1, 0.0, -0.1]])?;
/// assert!(w[0] < 1.0 && w[2] > 2.999);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Optimizer<F> {
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorState<F>>,
    pub(crate) applied: u64,
    pub(crate) totals: Vec<f64>,
    pub(crate) memory: Vec<F>,
    pub(crate) around: Surroundings<F>,
    pub(crate) rows: RowSets<F>,
    pub(crate) probes: Probes<F>,
    pub(crate) evaluations: Evaluations,
    pub(crate) seed: u64,
    pub(crate) draws: Draws,
}

impl<F: Number> Optimizer<F> {
    /// The tensors, in order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorSpec> {
        self.tensors.iter().map(|t| &t.spec)
    }

    /// A tensor's state, where the settings keep it.
    #[must_use]
    pub fn state(&self, tensor: usize, name: &str) -> Option<&[F]> {
        let at = self.state_index(tensor, name)?;
        self.tensors[tensor].states[at].as_deref()
    }

    /// A tensor's state, to be overwritten.
    #[must_use]
    pub fn state_mut(&mut self, tensor: usize, name: &str) -> Option<&mut [F]> {
        let at = self.state_index(tensor, name)?;
        self.tensors[tensor].states[at].as_deref_mut()
    }

    /// A group's settings.
    ///
    /// # Panics
    /// There is no such group.
    #[must_use]
    pub fn rule(&self, group: usize) -> &dyn Rule {
        self.groups[group].rule.as_ref()
    }

    /// Changes a group's setting from the next step on.
    ///
    /// # Errors
    /// An unknown group or setting, a value out of range, one that asks for other states than the optimizer was built with, or that
    /// belongs to a schedule.
    pub fn set(&mut self, group: usize, name: &str, value: &Value) -> Result<()> {
        let at = group;
        let group = self.group_mut(at)?;
        refuse_owned(&group.scheduled, &group.name, name)?;
        let mut rule = group.rule.clone();
        rule.set(name, value)?;
        rule.check()?;
        if !goes_on(rule.as_ref(), group.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "group `{}`: {name} = {value} changes which states are kept; build the optimizer with it",
                group.name
            )));
        }
        let before = std::mem::replace(&mut group.rule, rule);
        let common = check_common(self.groups.iter().map(|g| (g.name.as_str(), g.rule.as_ref())));
        if common.is_err() {
            self.groups[at].rule = before;
        }
        common
    }

    /// How many steps were applied.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.applied
    }

    /// Sets the count of applied steps, as when states are restored.
    pub fn set_step_count(&mut self, t: u64) {
        self.applied = t;
    }

    /// What decisions remember of earlier steps, by name.
    #[must_use]
    pub fn global_state(&self, name: &str) -> Option<F> {
        self.groups[0].rule.global_state().iter().position(|n| *n == name).map(|i| self.memory[i])
    }

    /// What decisions remember, in the rule's order; empty for most rules.
    #[must_use]
    pub fn global_state_values(&self) -> &[F] {
        &self.memory
    }

    /// Sets what decisions remember, as when states are restored.
    ///
    /// # Errors
    /// Another count than the rule's.
    pub fn set_global_state(&mut self, values: &[F]) -> Result<()> {
        if values.len() != self.memory.len() {
            let problem = format!("{} numbers were given, the rule remembers {}", values.len(), self.memory.len());
            return Err(Error::Usage(problem));
        }
        self.memory.copy_from_slice(values);
        Ok(())
    }

    /// What the last step decided for a tensor, by the decision's member: S-Adam's `damp` and `lgi`, FlowAdam's `flow`. `None` before
    /// the first step.
    #[must_use]
    pub fn decision(&self, tensor: usize, name: &str) -> Option<F> {
        let at = self.groups[0].rule.decision().iter().position(|n| *n == name)?;
        self.tensors.get(tensor)?.decision.get(at).copied()
    }

    /// The rule's totals over all tensors in the last step; empty for rules without sums.
    #[must_use]
    pub fn totals(&self) -> &[f64] {
        &self.totals
    }

    /// A tensor's average of the weights, where it is kept; zeros before the first step.
    #[must_use]
    pub fn ema(&self, tensor: usize) -> Option<&[F]> {
        self.around.ema.get(tensor).map(Vec::as_slice)
    }

    /// The loss scale as it is now; 1 where there is none.
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.around.scale
    }

    /// How many steps were left out because a gradient was not finite.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.around.skipped
    }

    pub(crate) fn procedure(&self) -> Procedure {
        self.groups[0].rule.procedure()
    }

    pub(crate) fn group_mut(&mut self, group: usize) -> Result<&mut GroupInfo> {
        let count = self.groups.len();
        self.groups
            .get_mut(group)
            .ok_or_else(|| Error::Usage(format!("group {group} does not exist, there are {count}")))
    }

    fn state_index(&self, tensor: usize, name: &str) -> Option<usize> {
        let group = self.tensors.get(tensor)?.spec.group;
        self.groups[group].rule.states().iter().position(|s| s.name == name)
    }

    pub(crate) fn check_lengths(&self, params: &[&mut [F]], grads: &[&[F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        for ((tensor, p), g) in self.tensors.iter().zip(params).zip(grads) {
            tensor.check_length("parameter", p.len())?;
            tensor.check_length("gradient", g.len())?;
        }
        Ok(())
    }

    pub(crate) fn check_count(&self, what: &str, given: usize) -> Result<()> {
        if given == self.tensors.len() {
            return Ok(());
        }
        Err(Error::Usage(format!("{given} {what} were given, the optimizer has {} tensors", self.tensors.len())))
    }
}
