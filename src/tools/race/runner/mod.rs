//! One run: an entrant on a problem with a seed, on one backend. `host` and `device` take the steps; the other files hold the measurements
//! of a run, and the damping of a control.

mod damping;
mod device;
mod host;
mod meter;
mod run;
mod sharpness;

pub(super) use run::Run;

use super::outcome::{Outcome, finite};
use crate::Result;
use crate::tools::backend::Backend;
use crate::tools::objectives::Problem;
use device::Device;
use host::Host;
use meter::Meter;
use run::Course;

/// Makes a run.
pub(super) fn run(run: &Run<'_>, backend: &Backend) -> Result<Outcome> {
    let problem = run.problem(run.seed)?;
    let outcome = match backend {
        Backend::Cpu => drive(run, problem.as_ref(), &mut Host::<f32>::new(run, problem.as_ref())?),
        Backend::Reference => drive(run, problem.as_ref(), &mut Host::<f64>::new(run, problem.as_ref())?),
        Backend::Gpu(gpu) => drive(run, problem.as_ref(), &mut Device::new(run, problem.as_ref(), gpu)?),
    }?;
    Ok(Outcome { key: run.key(backend), state_bytes: run.state_bytes(problem.as_ref())?, ..outcome })
}

fn drive(run: &Run<'_>, problem: &dyn Problem, course: &mut dyn Course) -> Result<Outcome> {
    let mut meter = Meter::new(run, problem);
    meter.measure(course)?;
    while !meter.is_over() {
        let advance = meter.time(|most| course.advance(most))?;
        if !advance.loss.is_finite() {
            return Ok(meter.diverged());
        }
        if meter.wants_point() || meter.is_over() {
            meter.measure(course)?;
        }
    }
    let mut outcome = meter.ended(course)?;
    if run.heat.sharpness && !outcome.diverged {
        outcome.sharpness = finite(sharpness::of(problem, &course.params()?)?);
    }
    Ok(outcome)
}
