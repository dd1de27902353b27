//! The features that a measured step can have beside its rule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Accumulate, Builder, Clip, Ema, Error, LossScale, Result, Tensor};

/// The clip. The bench's gradients exceed this norm.
const CLIP: Clip = Clip::GlobalNorm(1.0);
/// Two micro-batches per step: an accumulated one and the step's own.
const MICRO_BATCHES: Accumulate = Accumulate::Mean(2);

/// A feature of the optimizer beside its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feature {
    /// A clip by the global norm.
    Clip,
    /// A loss scale, with the test for gradients that are not finite.
    Scale,
    /// A moving average of the weights.
    Ema,
    /// Two micro-batches: each measured step is one [`Optimizer::accumulate`](crate::Optimizer::accumulate) and the step.
    Accumulate,
    /// Steps that may leave out tensors; the measured steps take all.
    Partial,
    /// A row set without fresh rows: one row per element.
    Rows,
    /// A row set with fresh rows: one row per element.
    Fresh,
}

impl Feature {
    /// All features.
    pub const ALL: [Self; 7] =
        [Self::Clip, Self::Scale, Self::Ema, Self::Accumulate, Self::Partial, Self::Rows, Self::Fresh];

    /// The feature's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Scale => "scale",
            Self::Ema => "ema",
            Self::Accumulate => "accumulate",
            Self::Partial => "partial",
            Self::Rows => "rows",
            Self::Fresh => "fresh",
        }
    }
}

/// A combination of features; without a feature, the step is that of the bare rule. The text form is `clip,ema`, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct With(Vec<Feature>);

impl FromIterator<Feature> for With {
    fn from_iter<T: IntoIterator<Item = Feature>>(features: T) -> Self {
        let mut features: Vec<Feature> = features.into_iter().collect();
        features.sort_unstable();
        features.dedup();
        Self(features)
    }
}

impl fmt::Display for With {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.0.iter().map(|feature| feature.name()).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for With {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let one = |name: &str| {
            let found = Feature::ALL.into_iter().find(|feature| feature.name() == name.trim());
            let known = Feature::ALL.map(Feature::name).into_iter().chain(["none"]);
            found.ok_or_else(|| Error::unknown("feature", name.trim(), known))
        };
        text.split(',').map(one).collect()
    }
}

impl With {
    /// Whether the combination has this feature.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// The number of arrays that the features keep beside the rule's states.
    pub(super) fn arrays(&self) -> u64 {
        self.0.iter().filter(|f| matches!(f, Feature::Ema | Feature::Accumulate | Feature::Fresh)).count() as u64
    }

    /// Turns the features on in a builder of these tensors.
    pub(super) fn build(&self, builder: &mut Builder, tensors: &[Tensor]) {
        for feature in &self.0 {
            match feature {
                Feature::Clip => builder.clip(CLIP),
                Feature::Scale => builder.loss_scale(LossScale::default()),
                Feature::Ema => builder.ema(Ema::default()),
                Feature::Accumulate => builder.accumulate(MICRO_BATCHES),
                Feature::Partial => builder.partial_steps(true),
                Feature::Rows => {
                    builder.row_set("rows", tensors);
                    &mut *builder
                }
                Feature::Fresh => {
                    let rows = builder.row_set("fresh rows", tensors);
                    builder.fresh_rows(rows)
                }
            };
        }
    }
}
