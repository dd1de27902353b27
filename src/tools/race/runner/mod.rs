//! One run: an entrant on a problem with a seed, on one backend. `host` and `device` take the steps; the other files hold the measurements
//! of a run, and the damping of a control.

mod damping;
mod device;
mod host;
mod meter;
mod run;
mod sharpness;

pub(super) use run::Run;

use super::outcome::{Outcome, Point, finite};
use crate::Result;
use crate::tools::backend::Backend;
use crate::tools::objectives::Problem;
use device::Device;
use host::Host;
use meter::Meter;
use run::Course;

/// Makes a run, and hands each measurement to `note` when it is taken.
pub(super) async fn run(run: &Run<'_>, backend: &Backend, note: &mut dyn FnMut(&Point)) -> Result<Outcome> {
    let problem = run.problem(run.seed)?;
    let problem = problem.as_ref();
    let outcome = match backend {
        Backend::Cpu => drive(run, problem, &mut Host::<f32>::new(run, problem)?, note).await,
        Backend::Reference => drive(run, problem, &mut Host::<f64>::new(run, problem)?, note).await,
        Backend::Gpu(gpu) => {
            let mut device = Device::new(run, problem, gpu).await?;
            let outcome = drive(run, problem, &mut device, note).await;
            device.destroy();
            outcome
        }
    }?;
    Ok(Outcome { key: run.key(backend), state_bytes: run.state_bytes(problem)?, ..outcome })
}

async fn drive(
    run: &Run<'_>,
    problem: &dyn Problem,
    course: &mut impl Course,
    note: &mut dyn FnMut(&Point),
) -> Result<Outcome> {
    let mut meter = Meter::new(run, problem);
    note(meter.measure(course).await?);
    while !meter.is_over() {
        let advance = meter.time(async |most| course.advance(most).await).await?;
        if !advance.loss.is_finite() {
            return Ok(meter.diverged());
        }
        if meter.wants_point() || meter.is_over() {
            note(meter.measure(course).await?);
        }
    }
    let mut outcome = meter.ended(course).await?;
    if run.heat.sharpness && !outcome.diverged {
        outcome.sharpness = finite(sharpness::of(problem, &course.params().await?)?);
    }
    Ok(outcome)
}
