//! Pipelines: the text of each stage, its bindings, and their compilation. The folder `layout` decides which tensors a dispatch serves.

pub(crate) mod arena;
pub(crate) mod context;
pub(crate) mod exchange;
pub(crate) mod factors;
pub(crate) mod kernels;
pub(crate) mod matrices;
pub(crate) mod passes;
pub(crate) mod pipelines;
pub(crate) mod text;
#[cfg(all(test, feature = "tools"))]
mod texts;
