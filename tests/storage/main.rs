//! Numbers in half precision and in eight bits: the formats, against definitions that are written out here and against published
//! implementations; and the host's optimizers that store in these formats.
#![cfg(feature = "checkpoint")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blockwise;
mod half;
mod optimizer;

#[path = "../support"]
mod support {
    pub(crate) mod bits;
    pub(crate) mod handle;
    pub(crate) mod host;
    pub(crate) mod step;
}
