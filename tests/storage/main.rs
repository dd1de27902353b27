//! Numbers in half precision and in eight bits: the formats themselves, against definitions written anew here and against published
//! implementations, and the host's optimizers that store in them.
#![cfg(feature = "checkpoint")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod blockwise;
mod half;
mod optimizer;

#[path = "../support"]
mod support {
    pub(crate) mod bits;
    pub(crate) mod host;
    pub(crate) mod step;
}
