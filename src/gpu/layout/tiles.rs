//! Tiles: the parts of matrices whose squares one workgroup sums, over rows and over columns.

use crate::gpu::layout::shards::Chunk;
use crate::optim::procedure::factors::Matrices;

/// The most rows and the most columns of a tile, whose squares one workgroup sums.
pub(crate) const TILE: usize = 256;
/// Threads of a workgroup of the tiles: each takes four columns.
pub(crate) const TILE_LANES: u32 = (TILE / 4) as u32;
/// The rows that a workgroup sums between two barriers. Their sums take half of the 16 KiB that every device has.
pub(crate) const TILE_ROWS: u32 = 32;
/// `wo_Tile` of `shaders/harness/tiles.wgsl`: a tile, with the run of the tensor's elements in a shard.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Tile {
    pub(crate) run: Chunk,
    /// The block of rows, counted over all matrices.
    pub(crate) rows: u32,
    /// The block of columns.
    pub(crate) columns: u32,
    /// The first word of its sums.
    pub(crate) slot: u32,
    pub(crate) pad: u32,
}

/// The tiles of a run, in the order in which [`Layout`] numbers their sums.
pub(crate) fn tiles(run: Chunk, matrices: Matrices) -> impl Iterator<Item = Tile> {
    let (first, last) = blocks(&run, matrices);
    let columns = matrices.columns.div_ceil(TILE) as u32;
    (first..=last).flat_map(move |rows| (0..columns).map(move |columns| Tile { run, rows, columns, ..Tile::default() }))
}

/// The first and the last block of rows that a run touches.
pub(crate) fn blocks(run: &Chunk, matrices: Matrices) -> (u32, u32) {
    let in_matrix = matrices.rows.div_ceil(TILE);
    let block = |element: u32| {
        let row = element as usize / matrices.columns;
        (row / matrices.rows * in_matrix + row % matrices.rows / TILE) as u32
    };
    (block(run.position), block(run.position + run.length - 1))
}

/// Words of the sums of a tile of these matrices.
pub(crate) fn tile_words(matrices: Matrices) -> u32 {
    (matrices.rows.min(TILE) + matrices.columns.min(TILE)) as u32
}
