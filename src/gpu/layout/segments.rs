//! Segments: the rows of partial sums that one thread adds in sequence, and the record of each tensor's segments.

use crate::gpu::layout::tables::{Item, Layout};

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

impl Layout {
    /// Numbers the rows of partial sums: those of all spans, tensor by tensor, then those of all segments.
    pub(crate) fn number_segments(&mut self, items: &[Item]) {
        let mut spans = Vec::with_capacity(items.len());
        for parts in &self.parts {
            let first = self.rows;
            for part in parts {
                for span in &mut self.shards[part.shard].spans[part.spans.clone()] {
                    span.row = self.rows;
                    self.rows += 1;
                }
            }
            spans.push(first..self.rows);
        }
        for (tensor, spans) in spans.into_iter().enumerate() {
            let first = self.rows;
            for start in spans.clone().step_by(SEGMENT as usize) {
                let count = SEGMENT.min(spans.end - start);
                self.segments.push(Segment { first: start, count, row: self.rows, pad: 0 });
                self.rows += 1;
            }
            self.tensors[tensor] = TensorRow {
                first,
                count: self.rows - first,
                group: items[tensor].group,
                elements: items[tensor].elements as f32,
            };
        }
    }
}
