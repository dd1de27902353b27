//! Shards: chunks of tensors that share one set of bindings, so that one dispatch walks all of them.

use std::ops::Range;

use crate::gpu::layout::item::Item;
use crate::gpu::layout::units::{ARENA_HEADER, CHUNK, Counts, SUM_LANES, VEC4};
use crate::gpu::layout::windows::{Limits, Window};

/// Threads of a workgroup of the sums' first half on a software GPU. Such a GPU runs eight threads at once and pays for every further eight
/// with a switch at the barrier: the sums of 1000 tensors of 1000 elements took a quarter less time than with 64 threads.
const SOFTWARE_SUM_LANES: u32 = 8;

/// A span has at least this many chunks …
const SPAN_CHUNKS: u64 = 16;
/// … and is longer where the tensor would otherwise have more spans than this.
const TENSOR_SPANS: u64 = 1024;

/// Threads of a workgroup of the sums' first half on this device. Spans grow with tensors of more than 16 M elements. There 64 threads
/// keep the sequence of additions of each thread short, and far below the count of iterations at which lavapipe silently ends a loop.
pub(crate) const fn sum_lanes(software: bool, largest: u64) -> u32 {
    if software && largest <= TENSOR_SPANS * SPAN_CHUNKS * CHUNK { SOFTWARE_SUM_LANES } else { SUM_LANES }
}

/// `wo_Chunk` of `shaders/harness/tables.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Chunk {
    pub(crate) param: u32,
    pub(crate) grad: u32,
    pub(crate) state: u32,
    pub(crate) length: u32,
    pub(crate) tensor: u32,
    pub(crate) group: u32,
    pub(crate) position: u32,
    pub(crate) row: u32,
}

/// A part of a tensor in a shard: whole chunks, contiguous in memory.
#[derive(Clone, Debug)]
struct Piece {
    tensor: usize,
    position: u64,
    elements: u64,
    state: u64,
}

/// The records of a tensor in a shard, by their places in the shard's tables.
pub(crate) struct Records {
    pub(crate) tensor: usize,
    pub(crate) chunks: Range<usize>,
    pub(crate) spans: Range<usize>,
}

/// The windows that a dispatch binds, and the chunks that it walks.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) class: usize,
    pub(crate) param: Window,
    /// `None`: gradients lie in the parameters' window, or each step names them.
    pub(crate) grad: Option<Window>,
    /// Arrays in the shard's arena.
    pub(crate) arrays: Counts,
    /// The packed arrays begin at a multiple of this many bytes.
    alignment: u64,
    /// Vec4s of each array, which holds all tensors one after the other. Measured on a software GPU: whole arrays in one buffer cost
    /// no more than arrays in buffers of their own; arrays interleaved by chunk cost 25 % in the cache and 4 % beyond it.
    array: u64,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) spans: Vec<Chunk>,
    pieces: Vec<Piece>,
}

impl Shard {
    /// An empty shard. Its windows begin where the chunk at `position` lies.
    pub(crate) fn at(item: &Item, position: u64, limits: Limits) -> Self {
        let grad = item.grad.as_ref().filter(|g| g.buffer != item.param.buffer);
        Self {
            class: item.class,
            param: Window::at(&item.param.at(position), limits),
            grad: grad.map(|g| Window::at(&g.at(position), limits)),
            arrays: item.arrays,
            alignment: limits.alignment.max(VEC4),
            array: 0,
            chunks: Vec::new(),
            spans: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// The windows grown by the chunk at `position`. `None`: the chunk is of another class, or a window would grow past the limits.
    pub(crate) fn with(
        &self,
        item: &Item,
        position: u64,
        elements: u64,
        limits: Limits,
    ) -> Option<(Window, Option<Window>)> {
        let vec4s = elements.div_ceil(4);
        let longer = self.array() + vec4s.next_multiple_of(self.arrays.alignment());
        if item.class != self.class || self.arena_with(longer) > limits.window {
            return None;
        }
        let param = self.param.with(&item.param.at(position), vec4s, limits)?;
        match (&self.grad, item.grad.as_ref().map(|g| g.at(position))) {
            (Some(window), Some(g)) => Some((param, Some(window.with(&g, vec4s, limits)?))),
            (None, Some(g)) => Some((param.with(&g, vec4s, limits)?, None)),
            (_, None) => Some((param, None)),
        }
    }

    pub(crate) fn push(&mut self, tensor: usize, position: u64, elements: u64) {
        match self.pieces.last_mut() {
            Some(piece) if piece.tensor == tensor => piece.elements += elements,
            _ => {
                self.array = self.array();
                self.pieces.push(Piece { tensor, position, elements, state: ARENA_HEADER + self.array });
            }
        }
        self.array += elements.div_ceil(4);
    }

    /// Cuts the pieces into chunks and spans, once the windows are final.
    pub(crate) fn cut(&mut self, items: &[Item]) -> Vec<Records> {
        let mut records = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            let item = &items[piece.tensor];
            let (chunk, span) = (self.chunks.len(), self.spans.len());
            let span_length = item.elements.div_ceil(item.chunk).div_ceil(TENSOR_SPANS).max(SPAN_CHUNKS) * item.chunk;
            let chunks = cut(&piece, item, &self.param, self.grad.as_ref(), item.chunk);
            let spans = cut(&piece, item, &self.param, self.grad.as_ref(), span_length);
            self.chunks.extend(chunks);
            self.spans.extend(spans);
            let (chunks, spans) = (chunk..self.chunks.len(), span..self.spans.len());
            records.push(Records { tensor: piece.tensor, chunks, spans });
        }
        records
    }

    /// Vec4s of each of the arena's arrays.
    pub(crate) const fn array(&self) -> u64 {
        self.array.next_multiple_of(self.arrays.alignment())
    }

    /// Bytes of the header and the arrays of f32.
    pub(crate) const fn whole(&self) -> u64 {
        self.whole_with(self.array())
    }

    /// Where the packed arrays begin.
    pub(crate) const fn packed(&self) -> u64 {
        self.whole().next_multiple_of(self.alignment)
    }

    /// Bytes of the arena.
    pub(crate) const fn arena(&self) -> u64 {
        self.arena_with(self.array())
    }

    const fn whole_with(&self, array: u64) -> u64 {
        (ARENA_HEADER + self.arrays.whole * array) * VEC4
    }

    const fn arena_with(&self, array: u64) -> u64 {
        let whole = self.whole_with(array);
        if !self.arrays.packs() {
            return whole;
        }
        whole.next_multiple_of(self.alignment) + 4 * self.arrays.words(array)
    }
}

/// Cuts a piece into records of at most `length` elements, a multiple of its chunks' length.
fn cut(piece: &Piece, item: &Item, param: &Window, grad: Option<&Window>, length: u64) -> Vec<Chunk> {
    (0..piece.elements)
        .step_by(length as usize)
        .map(|start| {
            let at = piece.position + start;
            let position = item.first + at;
            Chunk {
                param: param.vec4_of(&item.param.at(at)),
                grad: item.grad.as_ref().map_or((position / 4) as u32, |g| grad.unwrap_or(param).vec4_of(&g.at(at))),
                state: (piece.state + start / 4) as u32,
                length: length.min(piece.elements - start) as u32,
                tensor: piece.tensor as u32,
                group: item.group,
                position: position as u32,
                row: 0,
            }
        })
        .collect()
}
