//! The buffer of a shard's arrays.

/// The arena of a shard. Two bindings show it: one the f32, the other the packed numbers.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    pub(crate) buffer: wgpu::Buffer,
    /// Bytes of the f32.
    pub(crate) whole: u64,
    /// Where the packed numbers begin.
    pub(crate) packed: u64,
}

impl Arena {
    pub(crate) fn binding(&self, range: std::ops::Range<u64>) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: range.start,
            size: wgpu::BufferSize::new(range.end - range.start),
        })
    }
}
