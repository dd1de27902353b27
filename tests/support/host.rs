//! The one place where the tests describe an optimizer for the host.

use wgpu_optim::cpu::{Number, Optimizer};
use wgpu_optim::{Builder, Group, Result, Rule, Tensor};

/// A builder of groups (name, rule) and tensors (name, index of the group, elements), which have one dimension.
pub(crate) fn builder(
    groups: impl IntoIterator<Item = (&'static str, Box<dyn Rule>)>,
    tensors: impl IntoIterator<Item = (impl Into<String>, usize, usize)>,
) -> Builder {
    let mut groups = groups.into_iter();
    let (_, first) = groups.next().expect("a group");
    let mut builder = wgpu_optim::Optimizer::builder(first);
    let mut handles = vec![Group::DEFAULT];
    handles.extend(groups.map(|(name, rule)| builder.group(name, rule)));
    for (name, group, elements) in tensors {
        builder.tensor(handles[group], name, &[elements]);
    }
    builder
}

/// An optimizer of the same.
pub(crate) fn optimizer<F: Number>(
    groups: impl IntoIterator<Item = (&'static str, Box<dyn Rule>)>,
    tensors: impl IntoIterator<Item = (impl Into<String>, usize, usize)>,
) -> Result<Optimizer<F>> {
    builder(groups, tensors).build_cpu()
}

/// The tensor at a place in the order in which tensors were added.
pub(crate) fn tensor<F: Number>(optimizer: &Optimizer<F>, index: usize) -> Tensor {
    optimizer.tensors().nth(index).expect("there are so many tensors").0
}
