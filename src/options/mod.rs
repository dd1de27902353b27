//! What a builder takes beside rules: clips, loss scale, accumulation, averages, decay masks, schedules, storage and telemetry. The same
//! options serve the GPU and the host.

pub(crate) mod around;
pub(crate) mod no_decay;
pub mod random;
pub mod schedule;
pub mod storage;
pub(crate) mod telemetry;
