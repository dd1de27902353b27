//! The scalars of a step, from the host to the GPU, and the recorded steps that are still in flight. Each rule lists its own scalars.

pub(crate) mod mailbox;
pub(crate) mod scalars;
pub(crate) mod watch;
