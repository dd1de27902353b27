//! Pipelines: the text of each stage, its bindings, and their compilation. Which tensors a dispatch serves is decided in `layout`.

pub(crate) mod context;
pub(crate) mod kernels;
pub(crate) mod passes;
pub(crate) mod pipelines;
pub(crate) mod text;
#[cfg(all(test, feature = "tools"))]
mod texts;
