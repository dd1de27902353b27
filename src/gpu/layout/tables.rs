//! The layout: the tables of chunks and spans of every shard, and the segments of every tensor.

use std::ops::Range;

use crate::gpu::layout::item::Item;
use crate::gpu::layout::segments::{SEGMENT, Segment, TensorRow};
use crate::gpu::layout::shards::{Chunk, Records, Shard};
use crate::gpu::layout::tiles::{Tile, tile_words, tiles};
use crate::gpu::layout::units::ARENA_HEADER;
use crate::gpu::layout::windows::{Limits, too_far_apart};
use crate::{Error, Result};

/// Where a run of one tensor's states lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateRun {
    pub(crate) shard: usize,
    /// First vec4 of the run in each of the arena's arrays.
    pub(crate) vec4: u64,
    /// Vec4s from one array to the next.
    pub(crate) stride: u64,
    /// The arena's first byte of packed arrays.
    pub(crate) packed: u64,
    /// First element in the tensor, or in the range of it that the optimizer steps.
    pub(crate) position: usize,
    pub(crate) elements: usize,
}

/// A tensor's records in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) shard: usize,
    pub(crate) chunks: Range<usize>,
    pub(crate) spans: Range<usize>,
    pub(crate) tiles: Range<usize>,
}

/// The whole layout of an optimizer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) shards: Vec<Shard>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tensors: Vec<TensorRow>,
    /// Rows of partial sums: one per span, then one per segment.
    pub(crate) rows: u32,
    /// The tiles of each shard: of tensors that keep factors.
    pub(crate) tiles: Vec<Vec<Tile>>,
    /// Words of the sums of all tiles.
    pub(crate) tile_words: u64,
    /// Each tensor's records, in order.
    pub(crate) parts: Vec<Vec<Part>>,
    /// The element with which the range of each tensor begins.
    first: Vec<u64>,
}

/// The grid (x, y) that has at least `n` workgroups and few more.
pub(crate) fn fold(n: usize, limit: u32) -> (u32, u32) {
    let n = n.max(1) as u64;
    let y = n.div_ceil(u64::from(limit));
    (n.div_ceil(y) as u32, y as u32)
}

/// Checks that the records of all chunks fit into the host's address space, with room for the copies that are made of them. Only a page
/// can have too little: there, memory that is not found ends the program.
fn check_room(items: &[Item], address_space: u64) -> Result<()> {
    const COPIES: u64 = 3;
    let chunks: u64 = items.iter().map(|item| item.elements.div_ceil(item.chunk)).sum();
    let needs = chunks.saturating_mul(COPIES * size_of::<Chunk>() as u64);
    if needs <= address_space {
        return Ok(());
    }
    let elements: u64 = items.iter().map(|item| item.elements).sum();
    Err(Error::Usage(format!(
        "the tables of {elements} elements need {needs} bytes on the host, which can address {address_space}: put the tensors into several \
         optimizers"
    )))
}

/// Checks that a grid of this many workgroups fits the device.
pub(crate) fn check_grid(n: usize, limit: u32) -> Result<()> {
    if fold(n, limit).1 <= limit {
        return Ok(());
    }
    Err(Error::Limit {
        limit: "max_compute_workgroups_per_dimension",
        actual: u64::from(limit),
        needs: (n as u64).isqrt() + 1,
    })
}

/// Fills the grid of a table with empty records. A table without records stays empty.
fn fill_grid<R: Default + Clone>(table: &mut Vec<R>, limits: Limits) -> Result<()> {
    check_grid(table.len(), limits.grid)?;
    let (x, y) = fold(table.len(), limits.grid);
    if !table.is_empty() {
        table.resize(x as usize * y as usize, R::default());
    }
    Ok(())
}

impl Layout {
    pub(crate) fn new(items: &[Item], limits: Limits) -> Result<Self> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| {
            let item = &items[i];
            (item.class, item.param.buffer, item.grad.as_ref().map(|g| g.buffer), item.param.offset, i)
        });
        check_room(items, isize::MAX as u64)?;
        let mut layout = Self {
            tensors: vec![TensorRow::default(); items.len()],
            parts: vec![Vec::new(); items.len()],
            first: items.iter().map(|item| item.first).collect(),
            ..Self::default()
        };
        for index in order {
            layout.place(index, &items[index], limits)?;
        }
        layout.cut_shards(items);
        layout.number_segments(items);
        layout.cut_tiles(items);
        layout.fold_grids(limits)?;
        Ok(layout)
    }

    /// Puts a tensor's chunks into the current shard. Where a window grows past the limits, opens another shard.
    fn place(&mut self, index: usize, item: &Item, limits: Limits) -> Result<()> {
        let mut position = 0;
        while position < item.elements {
            let elements = item.chunk.min(item.elements - position);
            let fitting = self.shards.last().and_then(|l| l.with(item, position, elements, limits));
            let (param, grad) = match fitting {
                Some(windows) => windows,
                None => {
                    let shard = Shard::at(item, position, limits);
                    let windows = shard.with(item, position, elements, limits).ok_or_else(|| too_far_apart(limits))?;
                    self.shards.push(shard);
                    windows
                }
            };
            if let Some(shard) = self.shards.last_mut() {
                (shard.param, shard.grad) = (param, grad);
                shard.push(index, position, elements);
            }
            position += elements;
        }
        Ok(())
    }

    /// Cuts every shard into chunks and spans, now that the windows are final.
    fn cut_shards(&mut self, items: &[Item]) {
        for (shard, records) in self.shards.iter_mut().map(|shard| shard.cut(items)).enumerate() {
            for Records { tensor, chunks, spans } in records {
                self.parts[tensor].push(Part { shard, chunks, spans, tiles: 0..0 });
            }
        }
    }

    /// Numbers the rows of partial sums: those of all spans, tensor by tensor, then those of all segments.
    fn number_segments(&mut self, items: &[Item]) {
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

    /// Cuts the tensors that keep factors into tiles, and numbers the words of their sums, tensor by tensor.
    fn cut_tiles(&mut self, items: &[Item]) {
        self.tiles = vec![Vec::new(); self.shards.len()];
        for (item, parts) in items.iter().zip(&mut self.parts) {
            let Some(matrices) = item.matrices else { continue };
            for part in parts {
                let chunks = &self.shards[part.shard].chunks[part.chunks.clone()];
                let (Some(first), of_shard) = (chunks.first(), &mut self.tiles[part.shard]) else { continue };
                let run = Chunk { length: chunks.iter().map(|chunk| chunk.length).sum(), ..*first };
                let begin = of_shard.len();
                for tile in tiles(run, matrices) {
                    of_shard.push(Tile { slot: self.tile_words as u32, ..tile });
                    self.tile_words += u64::from(tile_words(matrices));
                }
                part.tiles = begin..of_shard.len();
            }
        }
    }

    /// Pads the tables with empty records, so that the kernels need no bounds check in a folded grid.
    fn fold_grids(&mut self, limits: Limits) -> Result<()> {
        for shard in &mut self.shards {
            fill_grid(&mut shard.chunks, limits)?;
            fill_grid(&mut shard.spans, limits)?;
        }
        self.tiles.iter_mut().try_for_each(|tiles| fill_grid(tiles, limits))
    }

    /// Where a tensor's states lie.
    pub(crate) fn state_runs(&self, tensor: usize) -> impl Iterator<Item = StateRun> + '_ {
        self.parts[tensor].iter().filter_map(move |part| {
            let shard = &self.shards[part.shard];
            let chunks = &shard.chunks[part.chunks.clone()];
            let (first, last) = (chunks.first()?, chunks.last()?);
            Some(StateRun {
                shard: part.shard,
                vec4: u64::from(first.state) - ARENA_HEADER,
                stride: shard.array(),
                packed: shard.packed(),
                position: first.position as usize - self.first[tensor] as usize,
                elements: (last.position + last.length - first.position) as usize,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::layout::units::{CHUNK, Counts, VEC4};
    use crate::gpu::layout::windows::{Place, Window};
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
                    first: 0,
                    elements,
                    group: 0,
                    class,
                    chunk: [CHUNK, 1020, 256][class],
                    arrays: [
                        Counts { whole: 1, ..Counts::default() },
                        Counts { whole: 1, halves: 1, ..Counts::default() },
                        Counts { whole: 1, halves: 1, bytes: 2 },
                    ][class],
                    matrices: None,
                    param,
                    grad: Some(grad),
                }
            })
            .collect()
    }

    /// The bytes of a window's buffer that a record touches.
    fn bytes_of(window: &Window, first: u32, elements: u32) -> Range<u64> {
        let start = window.range.start + u64::from(first) * VEC4;
        start..start + u64::from(elements.div_ceil(4)) * VEC4
    }

    fn check(items: &[Item], layout: &Layout) {
        let mut seen: Vec<Vec<Range<u64>>> = vec![Vec::new(); items.len()];
        for shard in &layout.shards {
            let grads = shard.grad.as_ref().unwrap_or(&shard.param);
            for window in [&shard.param, grads] {
                assert!(window.range.end - window.range.start <= LIMITS.window, "{window:?}");
                assert_eq!(window.range.start % LIMITS.alignment, 0);
            }
            assert!(shard.arena() <= LIMITS.window);
            let mut state = ARENA_HEADER;
            for chunk in shard.chunks.iter().filter(|c| c.length > 0) {
                let item = &items[chunk.tensor as usize];
                assert!(u64::from(chunk.length) <= CHUNK);
                let offset = u64::from(chunk.position) * 4;
                let params = bytes_of(&shard.param, chunk.param, chunk.length);
                assert_eq!(params.start, item.param.offset + offset);
                assert!(params.end <= shard.param.range.end);
                let grad = bytes_of(grads, chunk.grad, chunk.length);
                assert_eq!(grad.start, item.grad.as_ref().map_or(0, |g| g.offset) + offset);
                assert!(grad.end <= grads.range.end);
                if chunk.position == 0 || state == ARENA_HEADER {
                    state = ARENA_HEADER + (state - ARENA_HEADER).next_multiple_of(shard.arrays.alignment());
                }
                assert_eq!(u64::from(chunk.state), state, "states follow each other without a gap");
                state += u64::from(chunk.length.div_ceil(4));
                let position = u64::from(chunk.position);
                seen[chunk.tensor as usize].push(position..position + u64::from(chunk.length));
            }
            let array = (state - ARENA_HEADER).next_multiple_of(shard.arrays.alignment());
            assert_eq!(shard.array(), array);
            let packed = shard.arrays.words(array) * 4;
            assert_eq!(shard.whole(), (ARENA_HEADER + shard.arrays.whole * array) * VEC4);
            assert_eq!(shard.arena(), if packed == 0 { shard.whole() } else { shard.packed() + packed });
            assert_eq!(shard.packed() % LIMITS.alignment, 0);
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
        for span in layout.shards.iter().flat_map(|l| &l.spans).filter(|s| s.length > 0) {
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
                layout.shards.iter().flat_map(|l| &l.spans).filter(of_spans).map(|s| u64::from(s.length)).sum();
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
        assert!(layout.shards.len() > 5);
        check(&items, &layout);
    }

    #[test]
    fn a_large_tensor_has_at_most_1024_spans() {
        let limits = Limits { window: 1 << 31, alignment: 256, grid: 65535 };
        let items = items(&[(64 << 20, 0)], false);
        let layout = Layout::new(&items, limits).unwrap();
        assert_eq!(layout.shards.len(), 1);
        assert_eq!(layout.shards[0].spans.len(), 1024);
    }

    #[test]
    fn parameters_and_gradients_too_far_apart_are_refused() {
        let mut items = items(&[(1000, 0)], true);
        items[0].grad = Some(Place { buffer: 0, offset: 1 << 20, size: 4000, unit: VEC4 });
        let error = Layout::new(&items, LIMITS).unwrap_err().to_string();
        assert!(error.contains("65536"), "{error}");
    }

    #[test]
    fn tables_that_no_address_space_holds_are_refused() {
        // 400 tensors of 1 GiB in a page, which addresses 2 GiB.
        let items = items(&[(1 << 28, 0); 400], false);
        let error = check_room(&items, i32::MAX as u64).expect_err("10 GB of tables").to_string();
        assert!(error.contains("107374182400 elements") && error.contains("2147483647"), "{error}");
        assert!(check_room(&items, i64::MAX as u64).is_ok());
    }

    #[test]
    fn grids_fold_with_little_to_spare() {
        assert_eq!(fold(0, 7), (1, 1));
        assert_eq!(fold(7, 7), (7, 1));
        assert_eq!(fold(8, 7), (4, 2));
        assert_eq!(fold(65_536, 65_535), (32_768, 2));
    }
}
