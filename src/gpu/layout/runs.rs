//! Runs: for steps whose gradients move, where each tensor's records begin in the shards' tables.

use crate::Result;
use crate::gpu::build::buffers::{Buffers, Sizes, UNIFORM, Which};
use crate::gpu::layout::tables::{Layout, Part};
use crate::gpu::layout::windows::Limits;

/// Bytes from one run's record to the next: a dynamic offset is a multiple of this in every device.
const RUN_STRIDE: u64 = 256;

/// Where runs of tensors begin in the shards' tables.
#[derive(Debug)]
pub(crate) struct Runs {
    /// A record a part with the number of its first chunk or span.
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) chunks: Vec<RunPart>,
    pub(crate) spans: Vec<RunPart>,
}

/// The same before there is a buffer.
#[derive(Debug)]
pub(crate) struct RunTable {
    records: Vec<u32>,
    chunks: Vec<RunPart>,
    spans: Vec<RunPart>,
}

/// Some of a tensor's records in a shard, few enough for one row of a grid.
#[derive(Debug)]
pub(crate) struct RunPart {
    pub(crate) shard: usize,
    pub(crate) tensor: usize,
    first: u32,
    pub(crate) count: u32,
    /// Dynamic offset of its record.
    pub(crate) offset: u32,
}

impl RunTable {
    pub(crate) fn new(layout: &Layout, limits: Limits) -> Self {
        let mut records = Vec::new();
        let chunks = run_parts(layout, limits, &mut records, |part| part.chunks.clone());
        let spans = run_parts(layout, limits, &mut records, |part| part.spans.clone());
        Self { records, chunks, spans }
    }

    /// Plans the buffer.
    pub(crate) fn plan(&self, sizes: &mut Sizes) {
        sizes.add(Which::Runs, size_of_val(self.records.as_slice()).max(RUN_STRIDE as usize) as u64);
    }

    pub(crate) fn create(self, buffers: &Buffers<'_>) -> Result<Runs> {
        let buffer = buffers.create_with(Which::Runs, UNIFORM, bytemuck::cast_slice(&self.records))?;
        Ok(Runs { buffer, chunks: self.chunks, spans: self.spans })
    }
}

/// Every tensor's chunks or spans in the order of the shards' tables, each with a record in `records`.
fn run_parts(
    layout: &Layout,
    limits: Limits,
    records: &mut Vec<u32>,
    pick: impl Fn(&Part) -> std::ops::Range<usize>,
) -> Vec<RunPart> {
    let mut parts = Vec::new();
    for (tensor, of_tensor) in layout.parts.iter().enumerate() {
        for part in of_tensor {
            let range = pick(part);
            for first in range.clone().step_by(limits.grid as usize) {
                let count = (range.end - first).min(limits.grid as usize) as u32;
                parts.push(RunPart { shard: part.shard, tensor, first: first as u32, count, offset: 0 });
            }
        }
    }
    parts.sort_by_key(|part| (part.shard, part.first));
    for part in &mut parts {
        part.offset = (records.len() * 4) as u32;
        records.push(part.first);
        records.resize(records.len() - 1 + (RUN_STRIDE / 4) as usize, 0);
    }
    parts
}
