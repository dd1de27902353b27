//! The placement of the tensors of a built optimizer.

use crate::gpu::build::places::Places;
use crate::gpu::layout::class::Class;
use crate::gpu::layout::factors::FactorPlan;
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::tables::Layout;
use crate::gpu::layout::windows::Place;

/// The places of all tensors, their classes, and the layout of every shard.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) places: Vec<Places>,
    /// The distinct buffers of all places.
    pub(crate) buffers: Vec<wgpu::Buffer>,
    /// Those of them that the caller created.
    pub(crate) callers: Vec<wgpu::Buffer>,
    pub(crate) classes: Vec<Class>,
    /// The class of each tensor.
    pub(crate) class_of: Vec<usize>,
    pub(crate) layout: Layout,
    /// `None`: no tensor keeps factors.
    pub(crate) factors: Option<FactorPlan>,
    pub(crate) rows: RowState,
}

impl Placement {
    /// The range of a buffer that lies at this place.
    pub(crate) fn slice(&self, place: &Place) -> wgpu::BufferSlice<'_> {
        self.buffers[place.buffer].slice(place.offset..place.offset + place.size)
    }

    /// Where a tensor's parameters lie.
    pub(crate) fn param(&self, tensor: usize) -> wgpu::BufferSlice<'_> {
        self.slice(&self.places[tensor].param)
    }

    /// Where a tensor's gradients lie, unless the tensor was bound without them.
    pub(crate) fn grad(&self, tensor: usize) -> Option<wgpu::BufferSlice<'_>> {
        self.places[tensor].grad.as_ref().map(|grad| self.slice(grad))
    }
}
