//! Runs: where the records of each tensor begin in the shards' tables, for steps that rebind gradients.

use crate::Result;
use crate::gpu::build::buffers::{Buffers, Sizes, UNIFORM, Which};
use crate::gpu::layout::tables::{Layout, Part};
use crate::gpu::layout::windows::Limits;

/// Bytes from the record of one run to the next: a dynamic offset is a multiple of this on every device.
const RUN_STRIDE: u64 = 256;

/// Where runs of tensors begin in the shards' tables.
#[derive(Debug)]
pub(crate) struct Runs {
    /// One record per part: the number of its first chunk, span or tile.
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) chunks: Vec<RunPart>,
    pub(crate) spans: Vec<RunPart>,
    pub(crate) tiles: Vec<RunPart>,
}

/// The runs before the buffer exists.
#[derive(Debug)]
pub(crate) struct RunTable {
    records: Vec<u32>,
    chunks: Vec<RunPart>,
    spans: Vec<RunPart>,
    tiles: Vec<RunPart>,
}

/// Some records of a tensor in a shard, few enough for one row of a grid.
#[derive(Debug)]
pub(crate) struct RunPart {
    pub(crate) shard: usize,
    pub(crate) tensor: usize,
    first: u32,
    pub(crate) count: u32,
    /// The dynamic offset of the record of this part.
    pub(crate) offset: u32,
}

impl RunTable {
    pub(crate) fn new(layout: &Layout, limits: Limits) -> Self {
        let mut records = Vec::new();
        let chunks = run_parts(layout, limits, &mut records, |part| part.chunks.clone());
        let spans = run_parts(layout, limits, &mut records, |part| part.spans.clone());
        let tiles = run_parts(layout, limits, &mut records, |part| part.tiles.clone());
        Self { records, chunks, spans, tiles }
    }

    /// Plans the buffer.
    pub(crate) fn plan(&self, sizes: &mut Sizes) {
        sizes.add(Which::Runs, size_of_val(self.records.as_slice()).max(RUN_STRIDE as usize) as u64);
    }

    pub(crate) fn create(self, buffers: &Buffers<'_>) -> Result<Runs> {
        let buffer = buffers.create_with(Which::Runs, UNIFORM, bytemuck::cast_slice(&self.records))?;
        Ok(Runs { buffer, chunks: self.chunks, spans: self.spans, tiles: self.tiles })
    }
}

/// The chunks, spans or tiles of every tensor in the order of the shards' tables. Each part adds its record to `records`.
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
