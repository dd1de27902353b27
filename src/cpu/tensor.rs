//! The states of a tensor.

use crate::cpu::extent::Extent;
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
    /// The rate of each element in the current step. Empty: every rate is 1.
    pub(crate) rates: Vec<F>,
    /// The elements of a row, where a row shares one second moment.
    pub(crate) shared: Option<usize>,
    pub(crate) stored: Stored<F>,
    /// The pass of the rule's procedure before the update.
    pub(crate) pass: Option<Box<dyn TensorPass<F>>>,
}

impl<F: Number> TensorState<F> {
    /// A tensor before the first step, with the pass of the rule's procedure. Its states are not yet rounded to their storage.
    pub(crate) fn new(from: &Spec, tensor: usize, pass: Option<Box<dyn TensorPass<F>>>) -> Self {
        let info = &from.tensors[tensor];
        let spec = Extent::new(info);
        let rule = from.groups[spec.group].rule.as_ref();
        let fill =
            |state: StateSpec| (state.used && !info.frozen).then(|| vec![F::from_f64(state.initial); spec.elements]);
        let states = kept_states(&from.groups, spec.group).into_iter().map(fill).collect();
        let kinds = rule.states().iter().map(|state| state.kind).collect();
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
            rates: Vec::new(),
            shared: from.rows.shared.contains(&tensor).then(|| info.width()),
            stored,
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
