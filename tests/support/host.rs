//! The one place where the tests describe an optimizer for the host.

use wgpu_optim::{Builder, Group, Rule};

/// A builder of groups (name, rule) and tensors (name, index of the group, elements), each in the simplest shape that its rule can step.
pub(crate) fn builder(
    groups: impl IntoIterator<Item = (&'static str, Box<dyn Rule>)>,
    tensors: impl IntoIterator<Item = (impl Into<String>, usize, usize)>,
) -> Builder {
    let mut groups = groups.into_iter();
    let (_, first) = groups.next().expect("a group");
    let mut builder = wgpu_optim::Optimizer::builder(first);
    builder.undamped_steps(true);
    let mut handles = vec![Group::DEFAULT];
    handles.extend(groups.map(|(name, rule)| builder.group(name, rule)));
    for (name, group, elements) in tensors {
        builder.tensor(handles[group], name, &builder.sample_shape(handles[group], elements));
    }
    builder
}
