//! Walks over a module: the parameters that an optimizer holds, taking their tensors out, and putting tensors back. Nothing here knows buffers
//! or the engine.

pub(crate) mod give;
pub(crate) mod index;
mod path;
pub(crate) mod scan;
pub(crate) mod take;
