//! The scalars of a step on their way to the GPU, and the host's knowledge of which recorded steps are still in flight.

pub(crate) mod mailbox;
pub(crate) mod scalars;
