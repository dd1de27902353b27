//! The states of a tensor.

use crate::cpu::extent::Extent;
use crate::cpu::factors::Factors;
use crate::cpu::number::Number;
use crate::cpu::pass::TensorPass;
use crate::cpu::stored::Stored;
use crate::gpu::build::spec::{GroupInfo, Spec};
use crate::optim::StateSpec;
use crate::optim::rule::MAX_SUMS;

/// The states of a tensor, and its sums, totals and decision of the last step.
#[derive(Debug)]
pub(crate) struct TensorState<F> {
    pub(crate) spec: Extent,
    pub(crate) states: Vec<Option<Vec<F>>>,
    pub(crate) sums: [f64; MAX_SUMS],
    pub(crate) own: Vec<F>,
    pub(crate) decision: Vec<F>,
    /// The numbers that the rule keeps once per tensor.
    pub(crate) progress: Vec<F>,
    /// The step count of the tensor, where it may differ from that of the optimizer.
    pub(crate) steps: u64,
    /// The step counts of its elements, where they have counts of their own.
    pub(crate) row_steps: Option<Vec<F>>,
    /// The place of the scalars of each element. Empty: that of the tensor.
    pub(crate) places: Vec<usize>,
    /// Whether the current step takes the tensor.
    pub(crate) takes: bool,
    /// Whether the accumulator holds gradients that no step has taken yet.
    pub(crate) waiting: bool,
    /// The place of its scalars among those of the current step.
    pub(crate) scaled: usize,
    /// The rate of each element in the current step. Empty: every rate is 1.
    pub(crate) rates: Vec<F>,
    /// The elements of a row, where a row shares one second moment.
    pub(crate) shared: Option<usize>,
    pub(crate) stored: Stored<F>,
    /// The factors that stand for a state of a matrix.
    pub(crate) factors: Option<Factors<F>>,
    /// The pass of the rule's procedure before the update.
    pub(crate) pass: Option<Box<dyn TensorPass<F>>>,
}

impl<F: Number> TensorState<F> {
    /// A tensor before the first step, with the pass of the rule's procedure. Its states are not yet rounded to their storage.
    pub(crate) fn new(from: &Spec, tensor: usize, pass: Option<Box<dyn TensorPass<F>>>) -> Self {
        let info = &from.tensors[tensor];
        let spec = Extent::new(info);
        let rule = from.groups[spec.group].rule.as_ref();
        let factors = Factors::new(rule, info);
        let is_kept = |state: &StateSpec| {
            state.used && !info.frozen && factors.as_ref().is_none_or(|factors| factors.spec.state != state.name)
        };
        let fill = |state: StateSpec| is_kept(&state).then(|| vec![F::from_f64(state.initial); spec.elements]);
        let states = kept_states(&from.groups, spec.group).into_iter().map(fill).collect();
        let fresh = from.rows.sets.iter().any(|set| set.fresh && set.tensors.contains(&tensor));
        let counts = fresh && rule.own_count().is_some();
        let kinds = rule.states().iter().map(|state| state.kind).collect();
        let row_steps = (counts && !info.frozen).then(|| vec![F::zero(); spec.elements]);
        let mut stored = Stored::new(info.formats.clone(), kinds, spec.elements);
        if info.frozen {
            stored.full = None;
        }
        Self {
            spec,
            states,
            sums: [0.0; MAX_SUMS],
            own: Vec::new(),
            decision: Vec::new(),
            progress: vec![F::zero(); rule.progress().len()],
            steps: 0,
            row_steps,
            places: Vec::new(),
            takes: true,
            waiting: false,
            scaled: info.group,
            rates: Vec::new(),
            shared: from.rows.shared.contains(&tensor).then(|| info.width()),
            stored,
            factors,
            pass,
        }
    }

    /// The parameters of the tensor that a step sees: all, or none of a frozen tensor.
    pub(crate) fn live_mut<'a>(&self, values: &'a mut [F]) -> &'a mut [F] {
        &mut values[..self.spec.elements]
    }

    /// As [`live_mut`](Self::live_mut), for the gradients of the tensor.
    pub(crate) fn live<'a>(&self, values: &'a [F]) -> &'a [F] {
        &values[..self.spec.elements]
    }
}

/// The states of a group's tensors. A rule with sums keeps a state in all groups if one group needs it, because on the GPU all groups of
/// such a rule share one pass.
fn kept_states(groups: &[GroupInfo], group: usize) -> Vec<StateSpec> {
    let mut states = groups[group].rule.states();
    if groups[group].rule.sums().sums > 0 {
        for other in groups {
            for (state, of_other) in states.iter_mut().zip(other.rule.states()) {
                state.used |= of_other.used;
            }
        }
    }
    states
}
