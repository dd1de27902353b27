//! Construction: the builder, the checks of its specification, the plan of every buffer with its bytes, and the creation of buffers,
//! pipelines and bind groups. Nothing is created after construction.

pub(crate) mod blame;
pub(crate) mod buffers;
pub(crate) mod builder;
mod checks;
mod create;
pub(crate) mod division;
mod joint;
pub(crate) mod memory;
pub(crate) mod places;
pub(crate) mod plan;
pub(crate) mod ranges;
mod row_checks;
mod rows;
pub(crate) mod scope;
mod settings;
pub(crate) mod spec;
