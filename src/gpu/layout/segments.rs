//! Records of the second half of a sum: segments, which are rows of partial sums that one thread adds in sequence, and each tensor's segments.

/// The most rows that one thread adds in sequence.
pub(crate) const SEGMENT: u32 = 32;

/// `wo_Segment`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Segment {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) row: u32,
    pub(crate) pad: u32,
}

/// `wo_Tensor`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct TensorRow {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) group: u32,
    pub(crate) elements: f32,
}
