//! The exchange with Burn without fusion: its tensors are handles of allocations.

use std::sync::{Arc, Mutex};

use burn::backend::wgpu::CubeTensor;

use crate::tensor::arena::{Arena, Home};
use crate::tensor::exchange::{Exchanged, Numbered, Settled, lock, settle};
use crate::tensor::primitive::{IntPrimitive, Primitive};

/// Exchanges the tensors of a step.
///
/// # Errors
/// Burn cannot submit its work.
pub(crate) fn exchange(
    arena: &Arc<Mutex<Arena>>,
    homes: &Arc<[Home]>,
    params: Vec<Numbered<Primitive>>,
    grads: Vec<Numbered<Primitive>>,
) -> Result<Exchanged, String> {
    let numbers: Vec<usize> = params.iter().map(|param| param.number).collect();
    let mut arena = lock(arena);
    let Settled { moved, left } = settle(&mut arena, homes, params)?;
    let params = numbers.into_iter().map(|number| arena.view(&homes[number])).collect();
    Ok(Exchanged { params, moved, grads, left })
}

/// The allocation of one tensor.
#[expect(clippy::unnecessary_wraps, reason = "with fusion, Burn may fail to compute it")]
pub(crate) fn resolve(tensor: Primitive) -> Result<CubeTensor, String> {
    Ok(tensor)
}

/// The allocation of a tensor of integers.
pub(crate) fn resolve_int(tensor: IntPrimitive) -> CubeTensor {
    tensor
}
