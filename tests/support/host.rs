//! The one place where the tests construct an optimizer for the host.

use wgpu_optim::cpu::{Number, Optimizer, TensorSpec};
use wgpu_optim::{Result, Rule};

/// An optimizer of groups (name, rule) and tensors (name, index of the group, elements).
pub(crate) fn optimizer<F: Number>(
    groups: impl IntoIterator<Item = (&'static str, Box<dyn Rule>)>,
    tensors: impl IntoIterator<Item = (impl Into<String>, usize, usize)>,
) -> Result<Optimizer<F>> {
    let groups = groups.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect();
    let tensors = tensors.into_iter().map(|(name, group, elements)| TensorSpec { name: name.into(), group, elements });
    Optimizer::new(groups, tensors.collect())
}
