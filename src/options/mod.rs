//! The options of a builder beside the rules: clips, loss scale, accumulation, averages, decay masks, schedules, storage and telemetry. The
//! GPU and the host use the same options.

pub(crate) mod around;
pub(crate) mod no_decay;
pub mod random;
pub mod schedule;
pub mod storage;
pub(crate) mod telemetry;
