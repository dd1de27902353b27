//! Burn's tensors as buffers: the allocation in which the parameters of an optimizer lie, taking tensors out of Burn and giving them back,
//! and the ranges of wgpu's buffers behind them. Nothing here knows modules or optimizers.

pub(crate) mod arena;
pub(crate) mod exchange;
#[cfg(feature = "fusion")]
mod fused;
pub(crate) mod place;
#[cfg(not(feature = "fusion"))]
mod plain;
pub(crate) mod primitive;

#[cfg(feature = "fusion")]
pub(crate) use fused::{exchange, resolve, resolve_int};
#[cfg(not(feature = "fusion"))]
pub(crate) use plain::{exchange, resolve, resolve_int};
