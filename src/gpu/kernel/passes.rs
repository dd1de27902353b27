//! The buffer of the records of a procedure's passes.

use crate::Result;
use crate::gpu::build::buffers::{Buffers, Sizes, UNIFORM, Which};
use crate::optim::procedure::record::PassRecord;

/// Bytes of a record.
pub(crate) const PASS_BYTES: u64 = size_of::<PassRecord>() as u64;
/// Dynamic offsets are multiples of this on every device.
const STRIDE: usize = 256;

/// The dynamic offset of a pass's record.
pub(crate) const fn offset(pass: usize) -> u32 {
    (pass * STRIDE) as u32
}

/// The bytes of records, each at its dynamic offset.
pub(crate) fn bytes_of<R: bytemuck::Pod>(records: &[R]) -> Vec<u8> {
    let mut bytes = vec![0; records.len() * STRIDE];
    for (record, place) in records.iter().zip(bytes.chunks_exact_mut(STRIDE)) {
        place[..size_of::<R>()].copy_from_slice(bytemuck::bytes_of(record));
    }
    bytes
}

/// Plans the buffer of these records, if there are any.
pub(crate) fn plan(records: &[u8], sizes: &mut Sizes) {
    if !records.is_empty() {
        sizes.add(Which::Passes, records.len() as u64);
    }
}

/// Creates the buffer.
pub(crate) fn create(records: &[u8], buffers: &Buffers<'_>) -> Result<Option<wgpu::Buffer>> {
    (!records.is_empty()).then(|| buffers.create_with(Which::Passes, UNIFORM, records)).transpose()
}
