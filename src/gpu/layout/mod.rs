//! The layout: classes of tensors, the arrays of their states, and the chunks, spans and windows of each shard. All of it is arithmetic on
//! the host; nothing here touches the GPU.

pub(crate) mod arena;
pub(crate) mod class;
pub(crate) mod factors;
pub(crate) mod item;
pub(crate) mod matrices;
pub mod memory;
pub(crate) mod placement;
pub(crate) mod rows;
pub(crate) mod runs;
pub(crate) mod segments;
pub(crate) mod shards;
pub(crate) mod tables;
pub(crate) mod tiles;
pub(crate) mod units;
pub(crate) mod windows;
