//! The scalars of a step on their way to the GPU, and the host's knowledge of which recorded steps are still in flight. Which scalars a
//! rule has is the rule's to say.

pub(crate) mod mailbox;
pub(crate) mod scalars;
