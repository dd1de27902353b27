//! Schedules: how the learning rate, or any other numeric setting, changes from step to step. Computed in f64 on the host.
//!
//! A [`Schedule`] is one of the shapes of this module, or a function of the caller's, made longer with
//! [`warmup`](Schedule::warmup) and [`then`](Schedule::then). It is used in one of two ways:
//!
//! - **by applied step**: [`Builder::schedule`](crate::Builder::schedule) hands it to the optimizer, which then uses
//!   `rate(t)` when t steps were applied before. A step that the GPU leaves out does not move it, and a restored count of steps
//!   restores its position.
//! - **by call**: [`Schedule::apply`] sets the rate for the steps recorded from now on, for a count that the caller keeps.
//!
//! ```
//! use wgpu_optim::schedule::{Cosine, Schedule};
//!
//! let schedule = Schedule::from(Cosine::new(950)).warmup(50).base(3e-4);
//! assert_eq!(schedule.rate(50), 3e-4);
//! assert!(schedule.rate(0) > 0.0 && schedule.rate(0) < schedule.rate(1));
//! assert!(schedule.rate(1000) < 1e-19);
//! assert_eq!(Schedule::parse("cosine:steps=950,warmup=50,base=3e-4")?, schedule);
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

mod scheduled;
mod shapes;
mod text;

use std::fmt;
use std::sync::Arc;

pub(crate) use scheduled::{Scheduled, refuse_owned, scalars_at};
pub use shapes::{Anneal, Constant, Cosine, Exponential, InverseSqrt, Linear, MultiStep, OneCycle, Polynomial, Step};
pub use text::{HELP, names};

use crate::optim::Value;
use crate::{Error, Group, Optimizer, Result};
use shapes::{FACTOR, Form as _};

/// A value for every step.
///
/// Steps are counted from 0: `rate(t)` is for the step before which t steps were made, as the rate that a scheduler of
/// torch's gives after t calls of its `step`.
///
/// Shapes measure from a *base*, the value that torch calls `base_lr` ([`OneCycle`]: `max_lr`): the one that
/// [`base`](Self::base) set, else, in [`Builder::schedule`](crate::Builder::schedule), the group's own setting.
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
    /// At least one; the first begins at step 0.
    parts: Vec<Part>,
}

/// A shape from one step on.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    from: u64,
    shape: Shape,
    warmup: Option<Warmup>,
    base: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Warmup {
    steps: u64,
    from: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
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
struct Custom(Arc<dyn Fn(u64) -> f64 + Send + Sync>);

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

    /// A function of the count of steps, which gives values and not shares of a base. In a sequence, or behind a warm-up, it
    /// counts from where its turn begins.
    ///
    /// ```
    /// let schedule = wgpu_optim::schedule::Schedule::custom(|t| 1.0 / (1 + t) as f64);
    /// assert_eq!(schedule.rate(3), 0.25);
    /// ```
    pub fn custom(rate: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self::of(Shape::Custom(Custom(Arc::new(rate))))
    }

    /// Puts `steps` steps in front, in which the rate climbs along a line to the first that follows: the t-th is its share
    /// (t + 1) / (steps + 1), so that no step is wasted on a rate of 0. Takes the place of an earlier warm-up.
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

    /// From step `at` on, counted from the beginning of this one, another schedule that starts at its own step 0: torch's
    /// `SequentialLR`. It has the same base unless it brings its own.
    #[must_use]
    pub fn then(mut self, at: u64, next: impl Into<Self>) -> Self {
        let next = next.into();
        let base = next.own_base();
        let later = next.parts.into_iter();
        self.parts.extend(later.map(|p| Part { from: p.from.saturating_add(at), base: p.base.or(base), ..p }));
        self
    }

    /// Sets what the shapes measure from. Default: the setting that is scheduled, as the optimizer was built with it.
    #[must_use]
    pub fn base(mut self, base: f64) -> Self {
        if let Some(first) = self.parts.first_mut() {
            first.base = Some(base);
        }
        self
    }

    fn own_base(&self) -> Option<f64> {
        self.parts.first().and_then(|p| p.base)
    }

    /// Whether some part measures from a base that is not given.
    fn lacks_base(&self) -> bool {
        let own = self.own_base();
        self.parts.iter().any(|p| p.base.or(own).is_none() && !matches!(p.shape, Shape::Custom(_)))
    }

    /// The value for the step before which `t` steps were made. Without a [`base`](Self::base) the base is 1.
    #[must_use]
    pub fn rate(&self, t: u64) -> f64 {
        let Some(part) = self.parts.iter().rev().find(|p| p.from <= t) else { return f64::NAN };
        part.rate(part.base.or(self.own_base()).unwrap_or(1.0), t - part.from)
    }

    /// Checks every number; whatever takes a schedule does.
    ///
    /// # Errors
    /// Names the first number that makes no sense, and what it needs to be.
    pub fn check(&self) -> Result<()> {
        for part in &self.parts {
            part.check()?;
        }
        match self.parts.windows(2).find(|pair| pair[1].from <= pair[0].from) {
            None => Ok(()),
            Some(pair) => Err(Error::Usage(format!(
                "schedule {}: it begins at step {}, needs a step past {}, where the one before it begins",
                pair[1].shape.name(),
                pair[1].from,
                pair[0].from
            ))),
        }
    }

    /// Sets a group's learning rate to `rate(call)` for the steps recorded from now on. `call` is the caller's own count: with it
    /// the schedule also moves on where the GPU leaves a step out.
    ///
    /// ```
    /// use wgpu_optim::schedule::{Linear, Schedule};
    /// use wgpu_optim::{Group, Lion, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let schedule = Schedule::from(Linear { start: 1.0, end: 0.0, steps: 100 }).base(1e-4);
    /// let mut optimizer = Optimizer::builder(Lion::default()).build(&device, &queue)?;
    /// for call in 0..3 {
    ///     let mut encoder = device.create_command_encoder(&Default::default());
    ///     schedule.apply(&mut optimizer, Group::DEFAULT, call)?;
    ///     optimizer.step(&mut encoder)?;
    ///     queue.submit([encoder.finish()]);
    /// }
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// A number of the schedule that makes no sense; no [`base`](Self::base); as [`Optimizer::set`].
    pub fn apply(&self, optimizer: &mut Optimizer, group: Group, call: u64) -> Result<()> {
        self.apply_to(optimizer, group, "lr", call)
    }

    /// As [`apply`](Self::apply), for any numeric setting.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_to(&self, optimizer: &mut Optimizer, group: Group, setting: &str, call: u64) -> Result<()> {
        self.check()?;
        if self.lacks_base() {
            return Err(Error::Usage(format!(
                "the schedule `{self}` of {setting} has no base: give it one with base()"
            )));
        }
        optimizer.set(group, setting, &Value::Number(self.rate(call)))
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

    fn check(&self) -> Result<()> {
        let name = self.shape.name();
        self.shape.check()?;
        self.base.map_or(Ok(()), |base| FACTOR.check(name, "base", &base))?;
        self.warmup.and_then(|w| w.from).map_or(Ok(()), |from| FACTOR.check(name, "warmup_from", &from))
    }
}

/// The same for the shape that it is; a function of the caller's stands for itself.
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
use with_shape;

impl Shape {
    fn rate(&self, base: f64, t: u64, warmup: u64) -> f64 {
        with_shape!(self, form => form.rate(base, t, warmup), Custom(rate) => rate(t))
    }

    fn check(&self) -> Result<()> {
        with_shape!(self, form => form.check(), _ => Ok(()))
    }

    fn name(&self) -> &'static str {
        with_shape!(self, form => shapes::name(form), _ => "custom")
    }
}
