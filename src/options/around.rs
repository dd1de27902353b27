//! The options that work in the same way with every rule: clips, the loss scale, accumulation, averages of the weights.

use std::fmt;
use std::str::FromStr;

use crate::optim::rule::settings::within_f32;
use crate::optim::{Rule, Scalar, Value};
use crate::{Error, Result};

/// How a step clips gradients. A norm is the norm of the gradient that the rule would see: unscaled, averaged over micro-batches. Where a
/// gradient is NaN, every gradient under the same norm becomes NaN. A norm that is infinite or above 1.8e19 makes its finite gradients 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The norm over every tensor of every group: torch's `clip_grad_norm_`, the factor is `min(1, most / (norm + 1e-6))`.
    GlobalNorm(f64),
    /// The norm over each group's tensors.
    GroupNorm(f64),
    /// Each tensor's norm.
    TensorNorm(f64),
    /// Each element to `[-most, most]`.
    Value(f64),
}

impl Clip {
    pub(crate) const fn most(self) -> f64 {
        match self {
            Self::GlobalNorm(most) | Self::GroupNorm(most) | Self::TensorNorm(most) | Self::Value(most) => most,
        }
    }

    pub(crate) fn check(self) -> Result<()> {
        let most = self.most();
        if most > 0.0 && most <= f64::from(f32::MAX) {
            return Ok(());
        }
        Err(refused("clip", most, &within_f32(most, "a finite number above 0".into())))
    }
}

/// `1` for the global norm, `group:1`, `tensor:1`, `value:1`; read back by [`from_str`](std::str::FromStr::from_str).
impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::GlobalNorm(_) => "",
            Self::GroupNorm(_) => "group:",
            Self::TensorNorm(_) => "tensor:",
            Self::Value(_) => "value:",
        };
        write!(f, "{kind}{}", Value::Number(self.most()))
    }
}

impl FromStr for Clip {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, number) = text.split_once(':').unwrap_or(("global", text));
        let Ok(most) = number.trim().parse() else {
            return Err(Error::Usage(format!("clip `{text}` needs a number, as 1 or value:0.5")));
        };
        let clip = match kind.trim() {
            "global" => Self::GlobalNorm(most),
            "group" => Self::GroupNorm(most),
            "tensor" => Self::TensorNorm(most),
            "value" => Self::Value(most),
            other => return Err(Error::unknown("clip", other, ["global", "group", "tensor", "value"])),
        };
        clip.check().map(|()| clip)
    }
}

/// A loss scale that lives on the GPU: the caller's loss kernel multiplies by [`Optimizer::loss_scale`](crate::Optimizer::loss_scale),
/// the step divides the gradients by the scale, and a step is skipped if a gradient is then not finite. Defaults: torch's
/// `GradScaler`. Unlike torch's, the scale backs off no further than 2⁻¹⁴ (or `initial`, where that is smaller), and it grows no further
/// than 2⁹⁶: the scale and its reciprocal stay numbers that every device computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// The first scale, from 2⁻⁹⁶ to 2⁹⁶. Default 65536.
    pub initial: f64,
    /// The factor after `interval` finite steps in a row. Default 2; 1 keeps the scale.
    pub growth: f64,
    /// The factor after a skipped step. Default 0.5; 1 keeps the scale.
    pub backoff: f64,
    /// The number of finite steps before the scale grows. Default 2000.
    pub interval: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { initial: 65536.0, growth: 2.0, backoff: 0.5, interval: 2000 }
    }
}

/// The smallest and the largest loss scale. Between them the scale, its reciprocal, and the reciprocal's share for a micro-batch are
/// normal numbers of f32: a device may flush smaller numbers to zero.
const SCALES: [f32; 2] = [f32::from_bits((127 - 96) << 23), f32::from_bits((127 + 96) << 23)];
/// The smallest scale that backoff reaches: f16's smallest normal number. A scale that is too large for f16 gradients is larger. If f32 gradients
/// overflow with a scale below 1, they overflow without a scale too.
const LEAST_BACKOFF: f32 = f32::from_bits((127 - 14) << 23);

impl LossScale {
    /// A scale that never changes; steps with gradients that are not finite are still skipped.
    #[must_use]
    pub const fn fixed(scale: f64) -> Self {
        Self { initial: scale, growth: 1.0, backoff: 1.0, interval: u32::MAX }
    }

    /// The smallest scale that backoff reaches.
    pub(crate) fn least(self) -> f32 {
        LEAST_BACKOFF.min(self.initial as f32)
    }

    /// The largest scale that still grows.
    pub(crate) fn last(self) -> f32 {
        SCALES[1] / self.growth as f32
    }

    /// The scale after a step, and the count of finite steps in a row. The GPU computes the same numbers in f32.
    pub(crate) fn next(self, scale: f32, streak: u32, skip: bool) -> (f32, u32) {
        if skip {
            return ((scale * self.backoff as f32).max(self.least()), 0);
        }
        // Not `==`: a checkpoint may hold a longer streak than this interval.
        let streak = streak.wrapping_add(1);
        if streak < self.interval {
            return (scale, streak);
        }
        (if scale <= self.last() { scale * self.growth as f32 } else { scale }, 0)
    }

    /// Checks a scale with which steps continue.
    pub(crate) fn check_scale(scale: f64) -> Result<()> {
        let [least, most] = SCALES;
        if (least..=most).contains(&(scale as f32)) {
            return Ok(());
        }
        Err(refused("loss scale", scale, "a finite number above 0, from 1.3e-29 to 7.9e28 (2^-96 to 2^96)"))
    }

    pub(crate) fn check(self) -> Result<()> {
        Self::check_scale(self.initial)?;
        let finite = |x: f64| x.is_finite() && x <= f64::from(f32::MAX);
        if !(self.growth >= 1.0 && finite(self.growth)) {
            return Err(refused(
                "growth of the loss scale",
                self.growth,
                &within_f32(self.growth, "a finite number of at least 1".into()),
            ));
        }
        if !(self.backoff > 0.0 && self.backoff <= 1.0) {
            return Err(refused("backoff of the loss scale", self.backoff, "a number in (0, 1]"));
        }
        if self.interval == 0 {
            return Err(refused("interval of the loss scale", 0.0, "at least 1"));
        }
        Ok(())
    }
}

/// How [`Optimizer::accumulate`](crate::Optimizer::accumulate) combines the gradients of micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Their sum.
    Sum,
    /// Their mean. A whole window has this many micro-batches, including the micro-batch that the step itself reads. The divisor is the
    /// real count of micro-batches: a window that ends early or late gets the mean of its own micro-batches.
    Mean(u32),
}

/// An exponential moving average of the weights, updated in the dispatch of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ema {
    /// The decay, in [0, 1). Default 0.999.
    pub decay: f64,
    /// Whether the t-th step uses `min(decay, (1 + t) / (10 + t))`, so that the average soon forgets the first weights. Default true.
    pub warmup: bool,
}

impl Default for Ema {
    fn default() -> Self {
        Self { decay: 0.999, warmup: true }
    }
}

impl Ema {
    /// 1 - the decay of the `t`-th step.
    pub(crate) fn rate(self, t: u64) -> f64 {
        let t = t as f64;
        let decay = if self.warmup { self.decay.min((1.0 + t) / (10.0 + t)) } else { self.decay };
        1.0 - decay
    }

    pub(crate) fn check(self) -> Result<()> {
        if (0.0..1.0).contains(&self.decay) {
            return Ok(());
        }
        Err(refused("decay of the weights' average", self.decay, "a number in [0, 1)"))
    }
}

/// The options of an optimizer that work in the same way with every rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Around {
    pub(crate) clip: Option<Clip>,
    pub(crate) loss_scale: Option<LossScale>,
    pub(crate) skip_nonfinite: bool,
    pub(crate) accumulate: Option<Accumulate>,
    pub(crate) ema: Option<Ema>,
    pub(crate) zero_grad: bool,
    /// Some group maximizes its objective.
    pub(crate) signed: bool,
    /// Some group has a schedule.
    pub(crate) scheduled: bool,
    /// Telemetry measures every step.
    pub(crate) telemetry: bool,
    /// A step may leave out tensors, and each tensor has a step count of its own.
    pub(crate) partial: bool,
    /// Some tensors or elements have step counts of their own, so that scalars may be computed on the GPU.
    pub(crate) own_counts: bool,
}

impl Around {
    pub(crate) fn check(self) -> Result<()> {
        self.clip.map_or(Ok(()), Clip::check)?;
        self.loss_scale.map_or(Ok(()), LossScale::check)?;
        self.ema.map_or(Ok(()), Ema::check)?;
        if self.accumulate == Some(Accumulate::Mean(0)) {
            return Err(refused("count of micro-batches", 0.0, "at least 1"));
        }
        Ok(())
    }

    /// Whether a step with a gradient that is not finite is skipped.
    pub(crate) const fn guards(self) -> bool {
        self.skip_nonfinite || self.loss_scale.is_some()
    }

    /// Whether groups of several rules share a norm or a test for finite numbers.
    pub(crate) const fn exchanges(self) -> bool {
        self.guards() || matches!(self.clip, Some(Clip::GlobalNorm(_)))
    }

    /// Whether the clip needs the gradient's norm.
    pub(crate) const fn clips_norm(self) -> bool {
        matches!(self.clip, Some(Clip::GlobalNorm(_) | Clip::GroupNorm(_) | Clip::TensorNorm(_)))
    }

    /// Whether the harness needs sums for itself.
    pub(crate) const fn sums(self) -> bool {
        self.guards() || self.clips_norm() || self.telemetry
    }

    /// The micro-batches that a whole window divides by.
    pub(crate) const fn micro_batches(self) -> u32 {
        if let Some(Accumulate::Mean(n)) = self.accumulate { n } else { 1 }
    }

    /// Whether the gradient has a factor per group.
    pub(crate) const fn scales_groups(self) -> bool {
        self.signed || matches!(self.accumulate, Some(Accumulate::Mean(_)))
    }

    /// The rule's scalars at the `t`-th step, with those from which the GPU computes the scalars of another count.
    pub(crate) fn rule_scalars(self, rule: &dyn Rule, t: u64) -> Vec<Scalar> {
        let own = if self.own_counts { rule.own_count() } else { None };
        rule.scalars(t).into_iter().chain(own.into_iter().flatten()).collect()
    }

    /// A group's scalars at the `t`-th step: the rule's scalars, followed by the members of `wo_Extra` that are in use.
    pub(crate) fn scalars(self, mut scalars: Vec<Scalar>, maximize: bool, t: u64) -> Vec<Scalar> {
        if self.scheduled {
            // All members of all groups depend on the count, so that one text serves all groups.
            scalars.iter_mut().for_each(|s| *s = Scalar::count(s.name, s.value()));
        }
        if let Some(clip) = self.clip {
            scalars.push(Scalar::call("wo_clip", clip.most()));
        }
        if self.scales_groups() {
            let share = 1.0 / f64::from(self.micro_batches());
            scalars.push(Scalar::call("wo_factor", if maximize { -share } else { share }));
        }
        if let Some(ema) = self.ema {
            scalars.push(Scalar::count("wo_ema", ema.rate(t)));
        }
        scalars
    }
}

/// The scalar of `wo_Extra` that moves a rule's parameters to the point at which the model is evaluated.
pub(crate) fn evaluation_scalar(rule: &dyn Rule) -> Option<Scalar> {
    rule.evaluation().map(|(_, factor)| Scalar::call("wo_evaluation", factor))
}

/// The values that the parameters hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The point at which the rule trains.
    #[default]
    Training,
    /// The average of the weights, which `swap_ema` exchanged with the parameters.
    Average,
    /// The point of evaluation, to which `to_eval_params` moved the parameters.
    Evaluation,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Training, Self::Average, Self::Evaluation];

    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::Training => 0,
            Self::Average => 1,
            Self::Evaluation => 2,
        }
    }

    pub(crate) fn of_bits(bits: u8) -> Self {
        Self::ALL.into_iter().find(|mode| mode.bits() == bits).unwrap_or_default()
    }

    /// The name in a checkpoint.
    #[cfg(feature = "checkpoint")]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Average => "average",
            Self::Evaluation => "evaluation",
        }
    }

    /// The mode of this name.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Why `call` is refused, and the call that mends it.
    pub(crate) fn refusal(self, call: &str) -> String {
        let (what, mend) = match self {
            Self::Training => ("the parameters are at the point of training", "call to_eval_params first"),
            Self::Average => ("the average of the weights is swapped in", "call swap_ema first"),
            Self::Evaluation => ("the parameters are at the point of evaluation", "call to_train_params first"),
        };
        format!("{call} is refused because {what}: {mend}")
    }

    pub(crate) fn check_trains(self) -> Result<()> {
        if self == Self::Training { Ok(()) } else { Err(Error::Usage(self.refusal("a step"))) }
    }
}

fn refused(what: &str, value: f64, needs: &str) -> Error {
    Error::Usage(format!("{what} is {}, needs {needs}", Value::Number(value)))
}
