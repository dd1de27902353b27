//! Where everything lies: classes of tensors, the arrays of their states, and the chunks, spans and windows of each dispatch. Pure
//! arithmetic on the host; nothing here touches the GPU.

pub(crate) mod arena;
pub(crate) mod class;
pub(crate) mod launches;
pub mod memory;
pub(crate) mod placement;
pub(crate) mod rows;
pub(crate) mod runs;
pub(crate) mod units;
