//! Where the tensors of a built optimizer lie.

use crate::gpu::build::places::Places;
use crate::gpu::layout::class::Class;
use crate::gpu::layout::launches::Layout;
use crate::gpu::layout::rows::RowState;

/// The places of all tensors, their classes, and the layout of every dispatch.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) places: Vec<Places>,
    /// The distinct buffers of all places.
    pub(crate) buffers: Vec<wgpu::Buffer>,
    pub(crate) classes: Vec<Class>,
    /// Each tensor's class.
    pub(crate) class_of: Vec<usize>,
    pub(crate) layout: Layout,
    pub(crate) rows: RowState,
}
