//! What is exchanged with Burn in a step: parameters and gradients go out, tensors of the arena come back.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::wgpu::CubeTensor;

use crate::tensor::arena::{Arena, Home};
use crate::tensor::primitive::Primitive;

/// A tensor with the number of its parameter.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    pub(crate) number: usize,
    pub(crate) tensor: T,
}

/// What the step got from Burn.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// The tensors to put back into the module, in the order of the parameters that were taken.
    pub(crate) params: Vec<Primitive>,
    /// Parameters that did not lie at their place.
    pub(crate) moved: Vec<Numbered<CubeTensor>>,
    pub(crate) grads: Vec<Numbered<CubeTensor>>,
    /// The arena before this step, where somebody else holds a tensor in it.
    pub(crate) left: Option<Arena>,
}

/// The parameters of a step that did not lie at their place, and the arena that the step leaves.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) moved: Vec<Numbered<CubeTensor>>,
    pub(crate) left: Option<Arena>,
}

/// The content of a mutex. A panic of the thread that had it leaves nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the parameters of a module and decides where the step writes. Drops each that lies at its place. Replaces `arena` where somebody
/// else can see it.
pub(crate) fn settle(
    arena: &mut Arena,
    homes: &[Home],
    params: impl IntoIterator<Item = Numbered<CubeTensor>>,
) -> Result<Settled, String> {
    let moved = params.into_iter().filter(|param| !arena.holds(&param.tensor, &homes[param.number])).collect();
    // Launches of this thread hold what they read until the device's thread has them.
    arena.client.flush().map_err(|error| format!("Burn cannot submit its work: {error}"))?;
    let left = (!arena.is_exclusive()).then(|| {
        let another = arena.another();
        mem::replace(arena, another)
    });
    Ok(Settled { moved, left })
}
