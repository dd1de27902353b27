//! The move of the factors of all matrices to the gradient of a step.

use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::tensor::TensorState;

/// Moves the factors of every tensor that the step takes to its gradient. The rule then sees the next state: it is 0 that weighs the square of the
/// gradient in its scalars.
pub(crate) fn fold<F: Number>(groups: &mut Vec<Scaled<'_, F>>, tensors: &mut [TensorState<F>], grads: &[&[F]]) {
    let count = groups.len();
    for (tensor, g) in tensors.iter_mut().zip(grads) {
        let Some(factors) = &mut tensor.factors else { continue };
        if groups.len() == count {
            groups.extend_from_within(..);
            for group in &mut groups[count..] {
                group.member_mut(factors.spec.share).into_iter().for_each(|share| *share = F::zero());
            }
        }
        if tensor.takes {
            let group = &groups[tensor.scaled];
            factors.fold(g, group.member(factors.spec.share), group.member(factors.spec.least));
        }
        tensor.scaled += count;
    }
}
