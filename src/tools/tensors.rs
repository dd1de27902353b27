//! The tensors of a tool's problem in the groups of a builder.

use crate::optim::{Rule, Value};
use crate::tools::objectives::TensorSpec;
use crate::{AdamW, Builder, Group};

/// A builder with this rule and these tensors, and the group of each tensor. Tensors of a shape that the rule cannot step, as vectors for
/// Muon, are in a group `others` with AdamW at the same learning rate; if the rule can step none, all are in its own group, and the builder
/// refuses them.
pub(crate) fn builder(rule: Box<dyn Rule>, tensors: &[TensorSpec]) -> (Builder, Vec<Group>) {
    let refuses = |tensor: &TensorSpec| {
        rule.procedure().is_some_and(|procedure| procedure.refuses_shape(rule.name(), &tensor.shape).is_some())
    };
    let refused: Vec<bool> = tensors.iter().map(refuses).collect();
    let lr = rate(rule.as_ref());
    let mut builder = crate::Optimizer::builder(rule);
    let is_mixed = refused.contains(&true) && refused.contains(&false);
    let others = is_mixed.then(|| builder.group("others", AdamW { lr, ..AdamW::default() }));
    let group = |refused: bool| others.filter(|_| refused).unwrap_or(Group::DEFAULT);
    let groups: Vec<Group> = refused.into_iter().map(group).collect();
    for (tensor, group) in tensors.iter().zip(&groups) {
        builder.tensor(*group, &tensor.name, &tensor.shape);
    }
    (builder, groups)
}

fn rate(rule: &dyn Rule) -> f64 {
    match rule.settings().into_iter().find(|(name, _)| *name == "lr") {
        Some((_, Value::Number(lr))) => lr,
        _ => AdamW::default().lr,
    }
}
