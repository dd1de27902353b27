//! The tools around the library, behind the feature `tools`: finding an adapter, verification, benchmarks, replays, training, races, and
//! the texts of the kernels. The command line prints what they return; they print nothing.

pub mod adapter;
pub mod backend;
pub mod bench;
pub mod model;
pub mod objectives;
pub mod race;
pub mod replay;
pub mod report;
pub mod shader;
pub mod tour;
pub mod train;
pub mod verify;
