//! Training a real model on real data, all on one backend: a perceptron on the digits of [`objectives::digits`](crate::tools::objectives::digits).
//!
//! It is also the example of how to call the crate: `gpu.rs` and `cpu.rs` beside this file are whole training loops. Comparisons of optimizers
//! over several seeds and problems are [`race`](crate::tools::race)'s.

mod builder;
mod cpu;
mod gpu;
mod log;
mod plan;
mod resume;

pub use log::Epoch;
pub use plan::Plan;

use std::ops::ControlFlow;

use crate::tools::backend::Backend;
use crate::tools::objectives::digits;
use crate::{Error, Result};
use log::Log;

/// Trains, hands each epoch out when it ends, and returns them all; `on_epoch` may end it early. The same plan on the same backend
/// gives the same bits.
///
/// Blocks at the end of each epoch until the device is done.
///
/// # Errors
/// A plan that does not fit the data; what the backend reports.
pub fn run(plan: &Plan, backend: &Backend, on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>) -> Result<Vec<Epoch>> {
    plan.check()?;
    if let (Backend::Reference, Some(_)) = (backend, plan.save.as_ref().or(plan.resume.as_ref())) {
        let problem = "a checkpoint holds f32: saving and resuming need backend gpu or cpu, it is reference";
        return Err(Error::Usage(problem.to_owned()));
    }
    let split = plan.split(&digits::load()?)?;
    match backend {
        Backend::Gpu(gpu) => gpu::run(plan, &split, gpu, Log::new(on_epoch)),
        Backend::Cpu => cpu::run::<f32>(plan, &split, Log::new(on_epoch)),
        Backend::Reference => cpu::run::<f64>(plan, &split, Log::new(on_epoch)),
    }
}
