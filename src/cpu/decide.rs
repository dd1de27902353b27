//! The decision of a step, from sums or slopes, before the update.

use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::tensor::TensorState;
use crate::cpu::walk;
use crate::optim::rule::Real;

/// The inputs and outputs of decisions, beside the tensors.
pub(crate) struct Decider<'a, F> {
    pub(crate) totals: &'a mut Vec<f64>,
    pub(crate) global_state: &'a mut [F],
    pub(crate) slopes: &'a [F],
}

impl<F: Number> Decider<'_, F> {
    /// Decides for every tensor. Returns false where the step is skipped.
    pub(crate) fn decide(
        &mut self,
        groups: &[Scaled<'_, F>],
        tensors: &mut [TensorState<F>],
        params: &[&mut [F]],
        grads: &[&[F]],
    ) -> bool {
        let counts = groups[0].sums;
        if !groups[0].rule.progress().is_empty() {
            for tensor in tensors {
                let group = &groups[tensor.scaled];
                let mut progress = tensor.progress.clone();
                tensor.decision = group.cpu.proceed(&group.hyper, &mut progress);
                if tensor.takes {
                    tensor.progress = progress;
                }
            }
            return true;
        }
        let totals: Vec<F> = if counts.sums > 0 {
            self.sum(groups, tensors, params, grads)
        } else if self.slopes.is_empty() {
            return true;
        } else if self.slopes.iter().any(|slope| !slope.is_finite()) {
            return false;
        } else {
            self.slopes.to_vec()
        };
        if counts.may_refuse && groups[0].cpu.refuse(&totals) {
            return false;
        }
        let before = self.global_state.to_vec();
        for tensor in tensors {
            let group = &groups[tensor.scaled];
            self.global_state.copy_from_slice(&before);
            tensor.decision = group.cpu.decide(&group.hyper, &totals, &tensor.own, self.global_state);
        }
        true
    }

    /// Completes the decisions after an integrator followed the flow.
    pub(crate) fn settle(
        &mut self,
        groups: &[Scaled<'_, F>],
        tensors: &mut [TensorState<F>],
        params: &[&mut [F]],
        grads: &[&[F]],
    ) {
        let totals = self.sum(groups, tensors, params, grads);
        for tensor in tensors {
            let group = &groups[tensor.scaled];
            tensor.decision = group.cpu.settle(&group.hyper, &totals, &tensor.own, &tensor.decision);
        }
    }

    fn sum(
        &mut self,
        groups: &[Scaled<'_, F>],
        tensors: &mut [TensorState<F>],
        params: &[&mut [F]],
        grads: &[&[F]],
    ) -> Vec<F> {
        walk::contribute(groups, tensors, params, grads);
        *self.totals = total(groups, tensors, groups[0].sums.totals);
        self.totals.iter().map(|x| F::from_f64(*x)).collect()
    }
}

/// Whether a step counts: at least one tensor can be stepped, and the rule does not hold the step count.
pub(crate) fn counts<F: Number>(groups: &[Scaled<'_, F>], tensors: &[TensorState<F>]) -> bool {
    tensors.iter().any(|t| t.spec.steps) && !held(groups, tensors)
}

/// Whether the rule leaves the step count as it is.
pub(crate) fn held<F: Number>(groups: &[Scaled<'_, F>], tensors: &[TensorState<F>]) -> bool {
    groups[0].sums.may_hold && tensors.first().is_some_and(|t| groups[0].cpu.hold(&t.decision))
}

/// Computes the totals of every tensor from its sums, and returns the totals over all tensors. The gradients are already clipped, so the
/// clip factor c is 1.
fn total<F: Number>(groups: &[Scaled<'_, F>], tensors: &mut [TensorState<F>], count: usize) -> Vec<f64> {
    let c = 1.0;
    let mut all = vec![[0.0; 3]; count];
    let at_c = |p: &[f64; 3]| p[0] + p[1] * c + p[2] * c * c;
    for tensor in tensors {
        let group = &groups[tensor.scaled];
        let sums = tensor.sums.map(F::from_f64);
        let own = group.cpu.total(&group.hyper, &sums, F::from_f64(tensor.spec.elements as f64));
        let own: Vec<[f64; 3]> = own[..count].iter().map(|p| p.map(Real::to_f64)).collect();
        for (sum, p) in all.iter_mut().flatten().zip(own.iter().flatten()) {
            *sum += p;
        }
        tensor.own.clear();
        tensor.own.extend(own.iter().map(|p| F::from_f64(at_c(p))));
    }
    all.iter().map(at_c).collect()
}
