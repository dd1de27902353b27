//! Every rule and the engine on a GPU, compared with the oracle. Without an adapter every test fails, because a GPU test that does not run
//! must not pass. `VK_DRIVER_FILES` or `WGPU_ADAPTER_NAME` choose the adapter.
#![cfg(feature = "tools")]
// Tests stop where something is missing, and say in their names what they show.
#![allow(clippy::unwrap_used, missing_docs)]

mod adam_kin_mutants;
mod adversarial;
mod common;
mod counts;
mod devices;
mod engine;
mod errors;
mod evaluate;
mod evaluating_mutants;
mod factors;
mod golden;
mod muon;
mod mutants;
mod parity;
mod rebind;
mod recording;
mod schedule_free_mutants;
mod sensitivity;
mod stages;
mod storage;
mod sums;
mod torch_mutants;

#[path = "../support"]
mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod snapshot;
    pub(crate) mod stand_ins;
    pub(crate) mod trajectories;
}
