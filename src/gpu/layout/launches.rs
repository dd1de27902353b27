//! Where everything lies: chunks, spans, windows and launches. Pure arithmetic on the host; nothing here touches the GPU.

use std::ops::Range;

use crate::gpu::layout::units::{ARENA_HEADER, CHUNK, Counts, SUM_LANES, VEC4};
use crate::{Error, Result};

/// The same on a software GPU, which runs eight threads at once and pays for every further eight with a switch at the barrier: the sums of
/// 1000 tensors of 1000 elements took a quarter less time than with 64.
const SOFTWARE_SUM_LANES: u32 = 8;

/// A span has at least this many chunks …
const SPAN_CHUNKS: u64 = 16;
/// … and is lengthened so that a tensor has at most this many.
const TENSOR_SPANS: u64 = 1024;
/// Rows that one thread adds in sequence.
const SEGMENT: u32 = 32;

/// Threads of a workgroup of the sums' first half on this device. Spans grow with tensors of more than 16 M elements; there 64 threads
/// keep each one's sequence of additions short, and far below the count of iterations at which lavapipe silently ends a loop.
pub(crate) const fn sum_lanes(software: bool, largest: u64) -> u32 {
    if software && largest <= TENSOR_SPANS * SPAN_CHUNKS * CHUNK { SOFTWARE_SUM_LANES } else { SUM_LANES }
}

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
    /// Bytes of four numbers, the unit in which the GPU finds them.
    pub(crate) unit: u64,
}

impl Place {
    /// The rest of the range from the tensor's element of this number, a multiple of 4.
    const fn at(&self, element: u64) -> Self {
        let skipped = element / 4 * self.unit;
        Self { buffer: self.buffer, offset: self.offset + skipped, size: self.size - skipped, unit: self.unit }
    }
}

/// A tensor to be laid out.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) elements: u64,
    pub(crate) group: u32,
    /// Tensors of one class may share a launch.
    pub(crate) class: usize,
    /// Elements of a chunk: a multiple of 4, at most [`CHUNK`].
    pub(crate) chunk: u64,
    /// Arrays of the arena.
    pub(crate) arrays: Counts,
    pub(crate) param: Place,
    /// `None`: the gradient moves and is given at each step.
    pub(crate) grad: Option<Place>,
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

/// A window of a buffer, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) buffer: usize,
    pub(crate) range: Range<u64>,
}

impl Window {
    fn with(&self, place: &Place, vec4s: u64, limits: Limits) -> Option<Self> {
        let start = place.offset / limits.alignment * limits.alignment;
        let range = self.range.start.min(start)..self.range.end.max(place.offset + vec4s * place.unit);
        (place.buffer == self.buffer && range.end - range.start <= limits.window)
            .then_some(Self { buffer: self.buffer, range })
    }

    fn at(place: &Place, limits: Limits) -> Self {
        let start = place.offset / limits.alignment * limits.alignment;
        Self { buffer: place.buffer, range: start..start }
    }

    fn vec4_of(&self, place: &Place) -> u32 {
        ((place.offset - self.range.start) / place.unit) as u32
    }
}

/// A part of a tensor in a launch: whole chunks, contiguous in memory.
#[derive(Clone, Debug)]
struct Piece {
    tensor: usize,
    position: u64,
    elements: u64,
    state: u64,
}

/// One launch: what is bound and the chunks that are walked.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) class: usize,
    pub(crate) param: Window,
    /// `None`: gradients lie in the parameters' window, or move.
    pub(crate) grad: Option<Window>,
    /// Arrays in the launch's arena.
    arrays: Counts,
    /// Where the packed arrays may begin: at a multiple of so many bytes.
    alignment: u64,
    /// Vec4s of each array: those of all tensors, one behind the other. Measured on a software GPU: arrays that lie whole, each on its
    /// own, cost nothing beside buffers of their own; arrays interleaved by chunk cost 25 % in the cache and 4 % beyond it.
    array: u64,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) spans: Vec<Chunk>,
    pieces: Vec<Piece>,
}

/// Where a run of one tensor's states lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateRun {
    pub(crate) launch: usize,
    /// First vec4 of the run in each of the arena's arrays.
    pub(crate) vec4: u64,
    /// Vec4s from one array to the next.
    pub(crate) stride: u64,
    /// The arena's first byte of packed arrays.
    pub(crate) packed: u64,
    /// First element in the tensor.
    pub(crate) position: usize,
    pub(crate) elements: usize,
}

/// A tensor's records in a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) launch: usize,
    pub(crate) chunks: Range<usize>,
    pub(crate) spans: Range<usize>,
}

/// The whole layout of an optimizer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) launches: Vec<Launch>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tensors: Vec<TensorRow>,
    /// Rows of partial sums: the spans', then the segments'.
    pub(crate) rows: u32,
    /// Each tensor's records, in order.
    pub(crate) parts: Vec<Vec<Part>>,
}

/// A grid (x, y) of at least `n` workgroups with little to spare.
pub(crate) fn fold(n: usize, limit: u32) -> (u32, u32) {
    let n = n.max(1) as u64;
    let y = n.div_ceil(u64::from(limit));
    (n.div_ceil(y) as u32, y as u32)
}

impl Layout {
    pub(crate) fn new(items: &[Item], limits: Limits) -> Result<Self> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| {
            let item = &items[i];
            (item.class, item.param.buffer, item.grad.as_ref().map(|g| g.buffer), item.param.offset, i)
        });
        let mut layout = Self {
            tensors: vec![TensorRow::default(); items.len()],
            parts: vec![Vec::new(); items.len()],
            ..Self::default()
        };
        for index in order {
            layout.place(index, &items[index], limits)?;
        }
        layout.cut_launches(items);
        layout.number_segments(items);
        layout.fold_grids(limits)?;
        Ok(layout)
    }

    /// Puts a tensor's chunks into the current launch, or into as many launches as the windows ask for.
    fn place(&mut self, index: usize, item: &Item, limits: Limits) -> Result<()> {
        let mut position = 0;
        while position < item.elements {
            let elements = item.chunk.min(item.elements - position);
            let fitting = self.launches.last().and_then(|l| l.with(item, position, elements, limits));
            let (param, grad) = match fitting {
                Some(windows) => windows,
                None => {
                    let launch = Launch::at(item, position, limits);
                    let windows = launch.with(item, position, elements, limits).ok_or_else(|| too_far_apart(limits))?;
                    self.launches.push(launch);
                    windows
                }
            };
            if let Some(launch) = self.launches.last_mut() {
                (launch.param, launch.grad) = (param, grad);
                launch.push(index, position, elements);
            }
            position += elements;
        }
        Ok(())
    }

    /// Cuts pieces into chunks and spans, now that the windows are final.
    fn cut_launches(&mut self, items: &[Item]) {
        for (l, launch) in self.launches.iter_mut().enumerate() {
            for piece in std::mem::take(&mut launch.pieces) {
                let item = &items[piece.tensor];
                let (chunk, span) = (launch.chunks.len(), launch.spans.len());
                let span_length =
                    item.elements.div_ceil(item.chunk).div_ceil(TENSOR_SPANS).max(SPAN_CHUNKS) * item.chunk;
                let chunks = cut(&piece, item, &launch.param, launch.grad.as_ref(), item.chunk);
                let spans = cut(&piece, item, &launch.param, launch.grad.as_ref(), span_length);
                launch.chunks.extend(chunks);
                launch.spans.extend(spans);
                self.parts[piece.tensor].push(Part {
                    launch: l,
                    chunks: chunk..launch.chunks.len(),
                    spans: span..launch.spans.len(),
                });
            }
        }
    }

    /// Numbers the rows of partial sums: every span's, tensor by tensor, then every segment's.
    fn number_segments(&mut self, items: &[Item]) {
        let mut spans = Vec::with_capacity(items.len());
        for parts in &self.parts {
            let first = self.rows;
            for part in parts {
                for span in &mut self.launches[part.launch].spans[part.spans.clone()] {
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

    /// Pads the tables with empty records so that a folded grid needs no bounds check.
    fn fold_grids(&mut self, limits: Limits) -> Result<()> {
        for launch in &mut self.launches {
            for table in [&mut launch.chunks, &mut launch.spans] {
                let (x, y) = fold(table.len(), limits.grid);
                if y > limits.grid {
                    return Err(Error::Limit {
                        limit: "max_compute_workgroups_per_dimension",
                        actual: u64::from(limits.grid),
                        needs: (table.len() as u64).isqrt() + 1,
                    });
                }
                table.resize(x as usize * y as usize, Chunk::default());
            }
        }
        Ok(())
    }

    /// Where a tensor's states lie.
    pub(crate) fn state_runs(&self, tensor: usize) -> impl Iterator<Item = StateRun> + '_ {
        self.parts[tensor].iter().filter_map(|part| {
            let launch = &self.launches[part.launch];
            let chunks = &launch.chunks[part.chunks.clone()];
            let (first, last) = (chunks.first()?, chunks.last()?);
            Some(StateRun {
                launch: part.launch,
                vec4: u64::from(first.state) - ARENA_HEADER,
                stride: launch.array(),
                packed: launch.packed(),
                position: first.position as usize,
                elements: (last.position + last.length - first.position) as usize,
            })
        })
    }
}

impl Launch {
    /// An empty launch whose windows begin where the chunk at `position` lies.
    fn at(item: &Item, position: u64, limits: Limits) -> Self {
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

    /// The windows grown by the chunk at `position`, if it belongs here and they stay within the limits.
    fn with(&self, item: &Item, position: u64, elements: u64, limits: Limits) -> Option<(Window, Option<Window>)> {
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

    fn push(&mut self, tensor: usize, position: u64, elements: u64) {
        match self.pieces.last_mut() {
            Some(piece) if piece.tensor == tensor => piece.elements += elements,
            _ => {
                self.array = self.array();
                self.pieces.push(Piece { tensor, position, elements, state: ARENA_HEADER + self.array });
            }
        }
        self.array += elements.div_ceil(4);
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

fn too_far_apart(limits: Limits) -> Error {
    Error::Usage(format!(
        "a tensor's parameters and gradients lie in one buffer further apart than the device can bind at once: \
         max_storage_buffer_binding_size is {} bytes; use two buffers",
        limits.window
    ))
}

/// A piece in records of at most `length` elements, a multiple of its chunks'.
fn cut(piece: &Piece, item: &Item, param: &Window, grad: Option<&Window>, length: u64) -> Vec<Chunk> {
    (0..piece.elements)
        .step_by(length as usize)
        .map(|start| {
            let position = piece.position + start;
            Chunk {
                param: param.vec4_of(&item.param.at(position)),
                grad: item
                    .grad
                    .as_ref()
                    .map_or((position / 4) as u32, |g| grad.unwrap_or(param).vec4_of(&g.at(position))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { window: 64 << 10, alignment: 256, grid: 7 };

    fn items(lengths: &[(u64, usize)], shared: bool) -> Vec<Item> {
        let mut at = [0, 0];
        lengths
            .iter()
            .map(|&(elements, class)| {
                let bytes = elements.div_ceil(4) * VEC4;
                let param = Place { buffer: 0, offset: at[0], size: elements * 4, unit: VEC4 };
                at[0] += bytes;
                let other = usize::from(!shared);
                let grad = Place { buffer: other, offset: at[other], size: elements * 4, unit: VEC4 };
                at[other] += bytes;
                Item {
                    elements,
                    group: 0,
                    class,
                    chunk: [CHUNK, 1020, 256][class],
                    arrays: [
                        Counts { whole: 1, ..Counts::default() },
                        Counts { whole: 1, halves: 1, ..Counts::default() },
                        Counts { whole: 1, halves: 1, bytes: 2 },
                    ][class],
                    param,
                    grad: Some(grad),
                }
            })
            .collect()
    }

    /// Every vec4 that a launch's records touch, as (window's buffer, byte).
    fn bytes_of(window: &Window, first: u32, elements: u32) -> Range<u64> {
        let start = window.range.start + u64::from(first) * VEC4;
        start..start + u64::from(elements.div_ceil(4)) * VEC4
    }

    fn check(items: &[Item], layout: &Layout) {
        let mut seen: Vec<Vec<Range<u64>>> = vec![Vec::new(); items.len()];
        for launch in &layout.launches {
            let grads = launch.grad.as_ref().unwrap_or(&launch.param);
            for window in [&launch.param, grads] {
                assert!(window.range.end - window.range.start <= LIMITS.window, "{window:?}");
                assert_eq!(window.range.start % LIMITS.alignment, 0);
            }
            assert!(launch.arena() <= LIMITS.window);
            let mut state = ARENA_HEADER;
            for chunk in launch.chunks.iter().filter(|c| c.length > 0) {
                let item = &items[chunk.tensor as usize];
                assert!(u64::from(chunk.length) <= CHUNK);
                let offset = u64::from(chunk.position) * 4;
                let params = bytes_of(&launch.param, chunk.param, chunk.length);
                assert_eq!(params.start, item.param.offset + offset);
                assert!(params.end <= launch.param.range.end);
                let grad = bytes_of(grads, chunk.grad, chunk.length);
                assert_eq!(grad.start, item.grad.as_ref().map_or(0, |g| g.offset) + offset);
                assert!(grad.end <= grads.range.end);
                if chunk.position == 0 || state == ARENA_HEADER {
                    state = ARENA_HEADER + (state - ARENA_HEADER).next_multiple_of(launch.arrays.alignment());
                }
                assert_eq!(u64::from(chunk.state), state, "states follow each other without a gap");
                state += u64::from(chunk.length.div_ceil(4));
                let position = u64::from(chunk.position);
                seen[chunk.tensor as usize].push(position..position + u64::from(chunk.length));
            }
            let array = (state - ARENA_HEADER).next_multiple_of(launch.arrays.alignment());
            assert_eq!(launch.array(), array);
            let packed = launch.arrays.words(array) * 4;
            assert_eq!(launch.whole(), (ARENA_HEADER + launch.arrays.whole * array) * VEC4);
            assert_eq!(launch.arena(), if packed == 0 { launch.whole() } else { launch.packed() + packed });
            assert_eq!(launch.packed() % LIMITS.alignment, 0);
        }
        for (item, mut ranges) in items.iter().zip(seen) {
            ranges.sort_by_key(|r| r.start);
            let end = ranges.iter().fold(0, |end, range| {
                assert_eq!(range.start, end, "every element is in one chunk");
                range.end
            });
            assert_eq!(end, item.elements);
        }
        check_rows(items, layout);
    }

    fn check_rows(items: &[Item], layout: &Layout) {
        let mut rows = vec![0; layout.rows as usize];
        for span in layout.launches.iter().flat_map(|l| &l.spans).filter(|s| s.length > 0) {
            rows[span.row as usize] += 1;
        }
        for segment in &layout.segments {
            assert!(segment.count <= SEGMENT);
            rows[segment.row as usize] += 1;
        }
        assert!(rows.iter().all(|&n| n == 1), "every row is written once");
        for (item, row) in items.iter().zip(&layout.tensors) {
            let segments = layout.segments.iter().filter(|s| (row.first..row.first + row.count).contains(&s.row));
            let spans: Vec<u32> = segments.flat_map(|s| s.first..s.first + s.count).collect();
            let of_spans = |s: &&Chunk| s.length > 0 && spans.contains(&s.row);
            let summed: u64 =
                layout.launches.iter().flat_map(|l| &l.spans).filter(of_spans).map(|s| u64::from(s.length)).sum();
            assert_eq!(summed, item.elements, "a tensor's segments cover its elements");
        }
    }

    proptest! {
        #[test]
        fn every_element_is_laid_out_once(
            lengths in prop::collection::vec((0_u64..9000, 0_usize..3), 0..40),
            shared in any::<bool>(),
        ) {
            let items = items(&lengths, shared);
            check(&items, &Layout::new(&items, LIMITS).unwrap());
        }
    }

    #[test]
    fn a_tensor_larger_than_a_window_is_split_and_stays_one_tensor() {
        let items = items(&[(100_000, 0)], false);
        let layout = Layout::new(&items, LIMITS).unwrap();
        assert!(layout.launches.len() > 5);
        check(&items, &layout);
    }

    #[test]
    fn a_large_tensor_has_at_most_1024_spans() {
        let limits = Limits { window: 1 << 31, alignment: 256, grid: 65535 };
        let items = items(&[(64 << 20, 0)], false);
        let layout = Layout::new(&items, limits).unwrap();
        assert_eq!(layout.launches.len(), 1);
        assert_eq!(layout.launches[0].spans.len(), 1024);
    }

    #[test]
    fn parameters_and_gradients_too_far_apart_are_refused() {
        let mut items = items(&[(1000, 0)], true);
        items[0].grad = Some(Place { buffer: 0, offset: 1 << 20, size: 4000, unit: VEC4 });
        let error = Layout::new(&items, LIMITS).unwrap_err().to_string();
        assert!(error.contains("65536"), "{error}");
    }

    #[test]
    fn grids_fold_with_little_to_spare() {
        assert_eq!(fold(0, 7), (1, 1));
        assert_eq!(fold(7, 7), (7, 1));
        assert_eq!(fold(8, 7), (4, 2));
        assert_eq!(fold(65_536, 65_535), (32_768, 2));
    }
}
