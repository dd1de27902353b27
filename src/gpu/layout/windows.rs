//! The limits of a device, planned ranges of buffers, and the windows of buffers that a dispatch binds.

use std::ops::Range;

use crate::Error;
use crate::gpu::layout::units::VEC4;

/// The device's limits that shape a layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest window of a buffer that a binding can show, in bytes.
    pub(crate) window: u64,
    /// Bindings begin at multiples of this many bytes.
    pub(crate) alignment: u64,
    /// Workgroups in one dimension of a grid.
    pub(crate) grid: u32,
}

impl Limits {
    pub(crate) fn of(l: &wgpu::Limits) -> Self {
        Self {
            window: l.max_storage_buffer_binding_size.min(l.max_buffer_size) / VEC4 * VEC4,
            alignment: u64::from(l.min_storage_buffer_offset_alignment),
            grid: l.max_compute_workgroups_per_dimension,
        }
    }
}

/// A planned range of bytes of one of the caller's or the crate's buffers. The buffer may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the buffer.
    pub(crate) buffer: usize,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// Bytes of four numbers: kernels count in these units.
    pub(crate) unit: u64,
}

impl Place {
    /// The rest of the range from the tensor's element of this number, a multiple of 4.
    pub(crate) const fn at(&self, element: u64) -> Self {
        let skipped = element / 4 * self.unit;
        Self { buffer: self.buffer, offset: self.offset + skipped, size: self.size - skipped, unit: self.unit }
    }
}

/// A window of a buffer, in bytes: the range that a bind group shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) buffer: usize,
    pub(crate) range: Range<u64>,
}

impl Window {
    pub(crate) fn with(&self, place: &Place, vec4s: u64, limits: Limits) -> Option<Self> {
        let start = place.offset / limits.alignment * limits.alignment;
        let range = self.range.start.min(start)..self.range.end.max(place.offset + vec4s * place.unit);
        (place.buffer == self.buffer && range.end - range.start <= limits.window)
            .then_some(Self { buffer: self.buffer, range })
    }

    pub(crate) fn at(place: &Place, limits: Limits) -> Self {
        let start = place.offset / limits.alignment * limits.alignment;
        Self { buffer: place.buffer, range: start..start }
    }

    pub(crate) fn vec4_of(&self, place: &Place) -> u32 {
        ((place.offset - self.range.start) / place.unit) as u32
    }
}

pub(crate) fn too_far_apart(limits: Limits) -> Error {
    Error::Usage(format!(
        "a tensor's parameters and gradients lie in one buffer further apart than the device can bind at once: \
         max_storage_buffer_binding_size is {} bytes; use two buffers",
        limits.window
    ))
}
