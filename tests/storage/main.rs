//! Numbers in half precision and in eight bits: the formats themselves, against definitions written anew here and against published
//! implementations, and the host's optimizers that store in them.

mod blockwise;
mod half;
mod optimizer;
