//! Training of a real model on real data, all on one backend: a perceptron on the digits of
//! [`objectives::digits`](crate::tools::objectives::digits).
//!
//! The module is also an example of how to call the crate: `gpu.rs` and `cpu.rs` beside this file are complete training loops.
//! [`race`](crate::tools::race) compares optimizers over several seeds and problems.

mod builder;
mod cpu;
mod gpu;
mod journal;
mod log;
mod plan;
mod resume;

pub use journal::Journal;
pub use log::Epoch;
pub use plan::Plan;

use std::ops::ControlFlow;

use crate::tools::backend::Backend;
use crate::tools::files;
use crate::tools::objectives::digits;
use crate::{Error, Result};
use log::Log;

/// Trains, calls `on_epoch` at the end of each epoch, and returns all epochs. `on_epoch` may end the training early. The same plan on the
/// same backend gives the same bits. A checkpoint of an epoch is saved after `on_epoch` has returned.
///
/// Blocks at the end of each epoch until the device is done; a page calls [`run_async`].
///
/// # Errors
/// The plan does not fit the data, or its file cannot be written; the backend reports an error.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(plan: &Plan, backend: &Backend, on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>) -> Result<Vec<Epoch>> {
    pollster::block_on(run_async(plan, backend, on_epoch))
}

/// As `run`, but in a page the future yields to the event loop while it waits for the GPU.
///
/// # Errors
/// As `run`.
pub async fn run_async(
    plan: &Plan,
    backend: &Backend,
    on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Vec<Epoch>> {
    plan.check()?;
    if let (Backend::Reference, Some(_)) = (backend, plan.save.as_ref().or(plan.resume.as_ref())) {
        let problem = "a checkpoint holds f32: saving and resuming need the backend gpu or cpu, not the reference";
        return Err(Error::Usage(problem.to_owned()));
    }
    if let Some(path) = &plan.save {
        files::check_writable(path)?;
    }
    let split = plan.split(&digits::load()?)?;
    match backend {
        Backend::Gpu(gpu) => gpu::run(plan, &split, gpu, Log::new(on_epoch)).await,
        Backend::Cpu => cpu::run::<f32>(plan, &split, Log::new(on_epoch)),
        Backend::Reference => cpu::run::<f64>(plan, &split, Log::new(on_epoch)),
    }
}
