//! The builder of a training's optimizer, for the GPU and the host.

use super::plan::Plan;
use crate::tools::objectives::TensorSpec;
use crate::{Builder, Group, Optimizer, Result};

/// A builder with the plan's options and these tensors.
pub(super) fn builder(plan: &Plan, tensors: &[TensorSpec]) -> Result<Builder> {
    let mut builder = Optimizer::builder(plan.rule.clone());
    builder.seed(plan.seed).storage(plan.storage.clone());
    builder.tensors(Group::DEFAULT, tensors.iter().map(|tensor| (&tensor.name, &tensor.shape)));
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
        builder.schedule(Group::DEFAULT, schedule.clone());
    }
    if let Some(which) = &plan.no_decay {
        builder.exclude_from_decay(Group::DEFAULT, which.clone())?;
    }
    Ok(builder)
}
