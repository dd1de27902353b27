//! The optimizer on the GPU. A step is recorded into the caller's encoder: nothing is submitted, and nothing is waited for.
//!
//! `build` creates everything once; `layout` computes where tensors and tables lie; `kernel` writes the texts of the pipelines; `hyper`
//! carries the scalars of a step; `record` records steps; `access` reads and writes outside of steps. Each of them works on a [`Part`]: the
//! groups of one rule. `optimizer` holds the public calls and hands them to the parts. The mathematics of the rules lives in `optim` and
//! `shaders/rules`.

// rustdoc lists the methods of a type in the order of the modules: the page of `Optimizer` begins with `builder` and `step`.
mod optimizer;

pub(crate) mod access;
pub(crate) mod build;
pub(crate) mod hyper;
pub(crate) mod kernel;
pub(crate) mod layout;
pub(crate) mod part;
pub(crate) mod record;

pub use crate::gpu::build::spec::RowSet;
pub use crate::gpu::build::spec::{Group, Tensor};
pub use access::readback::read_buffer;
#[cfg(feature = "checkpoint")]
pub use access::snapshot::Snapshot;
pub use build::builder::Builder;
pub use build::ranges::Cut;
pub use layout::class::{Class, Stage};
pub use optimizer::Optimizer;
pub(crate) use part::Part;
pub use record::evaluate::PendingStep;
