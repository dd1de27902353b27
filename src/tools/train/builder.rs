//! The builder of a training's optimizer, for the GPU and the host.

use super::plan::Plan;
use crate::tools::objectives::TensorSpec;
use crate::tools::tensors;
use crate::{Builder, Group, Result};

/// A builder with the plan's options and these tensors.
pub(super) fn builder(plan: &Plan, tensors: &[TensorSpec]) -> Result<Builder> {
    let (mut builder, groups) = tensors::builder(plan.rule.clone(), tensors);
    builder.seed(plan.seed).storage(plan.storage.clone());
    if let Some(clip) = plan.clip {
        builder.clip(clip);
    }
    if let Some(ema) = plan.ema {
        builder.ema(ema);
    }
    if let Some(scale) = plan.loss_scale {
        builder.loss_scale(scale);
    }
    if let Some(schedule) = &plan.schedule {
        distinct(&groups).into_iter().for_each(|group| _ = builder.schedule(group, schedule.clone()));
    }
    if let Some(which) = &plan.no_decay {
        let picked = tensors.iter().zip(&groups).filter(|(tensor, _)| which.picks(&tensor.name, &tensor.shape));
        let mut picked = distinct(&picked.map(|(_, group)| *group).collect::<Vec<_>>());
        // A pattern that fits no tensor is an error of the builder.
        if picked.is_empty() {
            picked.push(Group::DEFAULT);
        }
        for group in picked {
            builder.exclude_from_decay(group, which.clone())?;
        }
    }
    Ok(builder)
}

/// Each group once.
fn distinct(groups: &[Group]) -> Vec<Group> {
    let mut distinct: Vec<Group> = Vec::new();
    for group in groups {
        if !distinct.contains(group) {
            distinct.push(*group);
        }
    }
    distinct
}
