//! Schedules: how the learning rate, or any other numeric setting, changes from step to step. The host computes them in f64.
//!
//! A [`Schedule`] is one of the shapes of this module, or a function of the caller. [`warmup`](Schedule::warmup) and
//! [`then`](Schedule::then) extend it. There are two ways to use it:
//!
//! - **by step count**: [`Builder::schedule`](crate::Builder::schedule) hands it to the optimizer, which then uses `rate(t)` for the
//!   step after step count t. A skipped step does not advance the schedule, and a restored step count restores its position.
//! - **by call**: [`Schedule::apply`] sets the rate for the steps recorded from now on, for a count that the caller keeps.
//!
//! ```
//! use wgpu_optim::schedule::{Cosine, Schedule};
//!
//! let schedule = Schedule::from(Cosine::new(950)).warmup(50).base(3e-4);
//! assert_eq!(schedule.rate(50), 3e-4);
//! assert!(schedule.rate(0) > 0.0 && schedule.rate(0) < schedule.rate(1));
//! assert!(schedule.rate(1000) < 1e-19);
//! assert_eq!("cosine:steps=950,warmup=50,base=3e-4".parse::<Schedule>()?, schedule);
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

mod field;
mod scheduled;
mod sequence;
mod shapes;
mod text;

pub(crate) use scheduled::{Scheduled, refuse_owned, scalars_at, scalars_of};
pub use sequence::Schedule;
pub use shapes::{Anneal, Constant, Cosine, Exponential, InverseSqrt, Linear, MultiStep, OneCycle, Polynomial, Step};
pub use text::{HELP, names};
