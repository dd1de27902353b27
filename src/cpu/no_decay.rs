//! Groups without weight decay on the host.

use super::{Group, Number, Optimizer, Tensor};
use crate::{Error, NoDecay, Result};

impl<F: Number> Optimizer<F> {
    /// Moves those tensors of a group that `which` picks into a new group like it, schedules included, but without weight decay: the
    /// last one. `shapes` are those of all tensors, in order; a rank is not known otherwise. States are at their first values after it.
    ///
    /// # Errors
    /// The rule has no `weight_decay`; there is no such group; a count of shapes, or a shape, that does not fit; steps were applied.
    pub fn without_decay(mut self, group: usize, which: &NoDecay, shapes: &[&[usize]]) -> Result<Self> {
        self.check_count("shapes", shapes.len())?;
        for (tensor, shape) in self.tensors.iter().zip(shapes) {
            tensor.check_length("shape", shape.iter().product())?;
        }
        if self.applied > 0 {
            return Err(Error::Usage(format!("{} steps were applied: groups are made before the first", self.applied)));
        }
        let info = self.group_mut(group)?;
        let scheduled = info.scheduled.iter().filter(|s| !NoDecay::is_decay(&s.setting)).cloned().collect();
        let (name, rule) = (NoDecay::twin_name(&info.name), NoDecay::twin_rule(info.rule.as_ref())?);
        let twin = Group { name, rule, maximize: info.maximize, scheduled };
        self.groups.push(twin);
        let twin = self.groups.len() - 1;
        for (tensor, shape) in self.tensors.iter_mut().zip(shapes) {
            if tensor.spec.group == group && which.picks(&tensor.spec.name, shape) {
                tensor.spec.group = twin;
            }
        }
        let fresh = |tensor: &Tensor<F>| Tensor {
            stored: tensor.stored.clone(),
            shared: tensor.shared,
            ..Tensor::new(&self.groups, tensor.spec.clone())
        };
        self.tensors = self.tensors.iter().map(fresh).collect();
        self.tensors.iter_mut().for_each(Tensor::round_first_states);
        Ok(self)
    }
}
