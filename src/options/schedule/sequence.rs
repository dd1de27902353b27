//! A schedule: shapes one after the other, each with its warm-up and base.

use std::fmt;
use std::sync::Arc;

use super::shapes::{
    self, Constant, Cosine, Exponential, FACTOR, Form as _, InverseSqrt, Linear, MultiStep, OneCycle, Polynomial, Step,
};
use crate::{Error, Result};

/// A value for every step.
///
/// Steps count from 0: `rate(t)` is for the step that follows t steps, as the rate of a torch scheduler after t calls of its `step`.
///
/// Shapes measure from a *base*, the value that torch calls `base_lr` ([`OneCycle`]: `max_lr`). The base is the value that
/// [`base`](Self::base) set; else, in [`Builder::schedule`](crate::Builder::schedule), the base is the group's own setting.
///
/// ```
/// use wgpu_optim::schedule::{Constant, Exponential, Schedule};
///
/// let schedule = Schedule::from(Constant::new()).then(100, Exponential::new(0.99)).warmup(10).base(0.1);
/// assert_eq!(schedule.rate(0), 0.1 / 11.0);
/// assert_eq!(schedule.rate(10), 0.1);
/// assert_eq!(schedule.rate(110), 0.1);
/// assert_eq!(schedule.rate(111), 0.1 * 0.99);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// At least one part. The first part begins at step 0.
    pub(super) parts: Vec<Part>,
}

/// A shape, and the step from which the shape applies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) shape: Shape,
    pub(super) warmup: Option<Warmup>,
    pub(super) base: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Warmup {
    pub(super) steps: u64,
    pub(super) from: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Constant(Constant),
    Linear(Linear),
    Cosine(Cosine),
    Exponential(Exponential),
    Step(Step),
    MultiStep(MultiStep),
    OneCycle(OneCycle),
    InverseSqrt(InverseSqrt),
    Polynomial(Polynomial),
    Custom(Custom),
}

#[derive(Clone)]
pub(super) struct Custom(Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

macro_rules! from_shapes {
    ($($name:ident),*) => {
        $(impl From<$name> for Schedule {
            fn from(shape: $name) -> Self {
                Self::of(Shape::$name(shape))
            }
        })*
    };
}
from_shapes!(Constant, Linear, Cosine, Exponential, Step, MultiStep, OneCycle, InverseSqrt, Polynomial);

impl Schedule {
    fn of(shape: Shape) -> Self {
        Self { parts: vec![Part { from: 0, shape, warmup: None, base: None }] }
    }

    /// A function of the count of steps, which gives values and not shares of a base. In a sequence, or after a warm-up, the count starts at 0
    /// where the function begins to apply.
    ///
    /// ```
    /// let schedule = wgpu_optim::schedule::Schedule::custom(|t| 1.0 / (1 + t) as f64);
    /// assert_eq!(schedule.rate(3), 0.25);
    /// ```
    pub fn custom(rate: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self::of(Shape::Custom(Custom(Arc::new(rate))))
    }

    /// Puts `steps` steps in front, in which the rate climbs along a line to the first value that follows: the t-th step has the share
    /// (t + 1) / (steps + 1), so that no step has a rate of 0. Replaces an earlier warm-up. `steps` must not exceed the `steps` of the
    /// shape, nor the number of steps until the next schedule begins. The shape's own steps begin after the warm-up;
    /// [`total`](Self::total) counts both.
    #[must_use]
    pub fn warmup(self, steps: u64) -> Self {
        self.warm(Warmup { steps, from: None })
    }

    /// As [`warmup`](Self::warmup), starting at the share `from`: torch's `LinearLR(start_factor=from, total_iters=steps)` in front.
    #[must_use]
    pub fn warmup_from(self, steps: u64, from: f64) -> Self {
        self.warm(Warmup { steps, from: Some(from) })
    }

    fn warm(mut self, warmup: Warmup) -> Self {
        if let Some((first, later)) = self.parts.split_first_mut() {
            let before = first.warmup.map_or(0, |w| w.steps);
            for part in later {
                part.from = (part.from - before.min(part.from)).saturating_add(warmup.steps);
            }
            first.warmup = Some(warmup);
        }
        self
    }

    /// Adds another schedule, which takes over at step `at`, counted from the beginning of this schedule, and starts at its own step 0:
    /// torch's `SequentialLR`. The other schedule has the same base unless it has its own.
    #[must_use]
    pub fn then(mut self, at: u64, next: impl Into<Self>) -> Self {
        let next = next.into();
        let base = next.own_base();
        let later = next.parts.into_iter();
        self.parts.extend(later.map(|p| Part { from: p.from.saturating_add(at), base: p.base.or(base), ..p }));
        self
    }

    /// Sets the `steps` of the last shape so that the shape ends at step `total`, counted from the beginning of the schedule, warm-ups
    /// included: the length of a training. A warm-up or a schedule that is added later moves the end again.
    ///
    /// ```
    /// use wgpu_optim::schedule::{Cosine, Schedule};
    ///
    /// let schedule = Schedule::from(Cosine::new(1)).warmup(20).total(460)?;
    /// assert_eq!(schedule, Schedule::from(Cosine::new(440)).warmup(20));
    /// assert_eq!(schedule, "cosine:total=460,warmup=20".parse()?);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The last shape has no end; no step is left for the shape.
    pub fn total(mut self, total: u64) -> Result<Self> {
        self.parts.last_mut().map_or(Ok(()), |last| last.end_at(total))?;
        Ok(self)
    }

    /// Sets the base of the shapes. Default: the value that the scheduled setting had when the optimizer was built.
    #[must_use]
    pub fn base(mut self, base: f64) -> Self {
        if let Some(first) = self.parts.first_mut() {
            first.base = Some(base);
        }
        self
    }

    pub(super) fn own_base(&self) -> Option<f64> {
        self.parts.first().and_then(|p| p.base)
    }

    /// Whether some part needs a base that is not given.
    pub(crate) fn lacks_base(&self) -> bool {
        let own = self.own_base();
        self.parts.iter().any(|p| p.base.or(own).is_none() && !matches!(p.shape, Shape::Custom(_)))
    }

    /// The value for the step that follows `t` steps. Without a [`base`](Self::base) the base is 1.
    #[must_use]
    pub fn rate(&self, t: u64) -> f64 {
        let Some(part) = self.parts.iter().rev().find(|p| p.from <= t) else { return f64::NAN };
        part.rate(part.base.or(self.own_base()).unwrap_or(1.0), t - part.from)
    }

    /// Checks every number. Each function that takes a schedule calls this.
    ///
    /// # Errors
    /// The first number out of its range, with the accepted range.
    pub fn check(&self) -> Result<()> {
        self.parts.iter().try_for_each(Part::check)?;
        match self.parts.windows(2).find(|pair| pair[1].from <= pair[0].from) {
            None => self.parts.windows(2).try_for_each(|pair| pair[0].check_turn(pair[1].from - pair[0].from)),
            Some(pair) => Err(Error::Usage(format!(
                "schedule {}: it begins at step {}, needs a step past {}, where the part before it begins",
                pair[1].shape.name(),
                pair[1].from,
                pair[0].from
            ))),
        }
    }
}

impl Part {
    fn rate(&self, base: f64, t: u64) -> f64 {
        let Some(Warmup { steps, from }) = self.warmup else { return self.shape.rate(base, t, 0) };
        if t >= steps {
            return self.shape.rate(base, t - steps, steps);
        }
        let from = from.unwrap_or(1.0 / (steps as f64 + 1.0));
        self.shape.rate(base, 0, steps) * (from + (1.0 - from) * t as f64 / steps as f64)
    }

    /// Sets the steps of the shape so that the shape ends at step `total` of the whole schedule.
    pub(super) fn end_at(&mut self, total: u64) -> Result<()> {
        let (name, before) = (self.shape.name(), self.from.saturating_add(self.warmup.map_or(0, |w| w.steps)));
        let Some(steps) = self.shape.length_mut() else {
            return Err(Error::Usage(format!(
                "schedule {name}: total is {total}, needs a shape with steps: linear, cosine, one_cycle or polynomial"
            )));
        };
        if total <= before {
            return Err(Error::Usage(format!(
                "schedule {name}: total is {total}, needs more than the {before} steps before the shape begins"
            )));
        }
        *steps = total - before;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let name = self.shape.name();
        self.shape.check()?;
        self.base.map_or(Ok(()), |base| FACTOR.check(name, "base", &base))?;
        let Some(Warmup { steps, from }) = self.warmup else { return Ok(()) };
        from.map_or(Ok(()), |from| FACTOR.check(name, "warmup_from", &from))?;
        match self.shape.length() {
            Some(length) if steps > length => Err(Error::Usage(format!(
                "schedule {name}: warmup is {steps}, longer than the whole schedule of steps = {length}, which begins after the warm-up: \
                 needs at most {length}, or more steps"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks the warm-up against the steps until the next part begins.
    fn check_turn(&self, steps: u64) -> Result<()> {
        match self.warmup {
            Some(warmup) if warmup.steps > steps => Err(Error::Usage(format!(
                "schedule {}: warmup is {}, longer than the {steps} steps until the next schedule begins: needs at most {steps}",
                self.shape.name(),
                warmup.steps
            ))),
            _ => Ok(()),
        }
    }
}

/// Evaluates `$then` with the shape's own struct, or `$else` for a caller's function.
macro_rules! with_shape {
    ($shape:expr, $form:ident => $then:expr, $custom:pat => $else:expr) => {
        match $shape {
            Shape::Constant($form) => $then,
            Shape::Linear($form) => $then,
            Shape::Cosine($form) => $then,
            Shape::Exponential($form) => $then,
            Shape::Step($form) => $then,
            Shape::MultiStep($form) => $then,
            Shape::OneCycle($form) => $then,
            Shape::InverseSqrt($form) => $then,
            Shape::Polynomial($form) => $then,
            Shape::Custom($custom) => $else,
        }
    };
}
pub(super) use with_shape;

impl Shape {
    fn rate(&self, base: f64, t: u64, warmup: u64) -> f64 {
        with_shape!(self, form => form.rate(base, t, warmup), Custom(rate) => rate(t))
    }

    /// The number of steps until the shape ends; `None` for a shape without an end.
    const fn length(&self) -> Option<u64> {
        match self {
            Self::Linear(Linear { steps, .. })
            | Self::Cosine(Cosine { steps, .. })
            | Self::OneCycle(OneCycle { steps, .. })
            | Self::Polynomial(Polynomial { steps, .. }) => Some(*steps),
            _ => None,
        }
    }

    const fn length_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Linear(Linear { steps, .. })
            | Self::Cosine(Cosine { steps, .. })
            | Self::OneCycle(OneCycle { steps, .. })
            | Self::Polynomial(Polynomial { steps, .. }) => Some(steps),
            _ => None,
        }
    }

    fn check(&self) -> Result<()> {
        with_shape!(self, form => form.check(), _ => Ok(()))
    }

    pub(super) fn name(&self) -> &'static str {
        with_shape!(self, form => shapes::name(form), _ => "custom")
    }
}
