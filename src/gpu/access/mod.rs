//! Reading and writing outside of steps: parameters, states, counters, snapshots and telemetry. Nothing here records a step.

mod factors;
mod global_state;
pub(crate) mod readback;
mod rebind;
mod rows;
mod schedule;
mod settings;
#[cfg(feature = "checkpoint")]
pub(crate) mod snapshot;
pub(crate) mod telemetry;
