//! The facts about a tensor from which the layout is computed.

use crate::gpu::layout::units::Counts;
use crate::gpu::layout::windows::Place;
use crate::optim::procedure::factors::Matrices;

/// A tensor that the layout places, or the range of a tensor that the optimizer steps.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The element of the tensor with which the item begins.
    pub(crate) first: u64,
    pub(crate) elements: u64,
    pub(crate) group: u32,
    /// Tensors of one class may share a shard.
    pub(crate) class: usize,
    /// Elements of a chunk: a multiple of 4, at most [`CHUNK`](crate::gpu::layout::units::CHUNK).
    pub(crate) chunk: u64,
    /// Arrays of the arena.
    pub(crate) arrays: Counts,
    /// The matrices of a tensor that keeps factors.
    pub(crate) matrices: Option<Matrices>,
    pub(crate) param: Place,
    /// `None`: each step names the gradient.
    pub(crate) grad: Option<Place>,
}
