//! The way of numbers between the GPU's buffers and other ranks: runs of bytes, cut into buckets with one piece per rank.
//!
//! A bucket has a piece of every rank's shard, all of about the same length. So every rank sends and receives the same count of bytes in each
//! bucket. Neighbouring tensors make one run: the count of copies grows with the count of buckets, not with the count of tensors.

use std::ops::Range;

use wgpu_optim::storage::Format;
use wgpu_optim::wgpu;

/// Two tensors of the optimizer's own buffers with fewer bytes between them make one run: the alignment of bindings leaves at most this much.
const GAP: u64 = 256;

/// Pieces begin at multiples of this many bytes of a shard.
const GRAIN: u64 = 4096;

/// The place of a whole tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number of the buffer.
    pub(crate) buffer: usize,
    pub(crate) offset: u64,
    pub(crate) format: Format,
    /// The bytes around the tensor belong to the caller.
    pub(crate) bound: bool,
}

/// Neighbouring bytes of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) buffer: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) format: Format,
}

/// The part of a bucket that belongs to the shard of one rank.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) runs: Vec<Run>,
}

impl Piece {
    pub(crate) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes as usize).sum()
    }
}

/// A piece of each rank's shard.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) pieces: Vec<Piece>,
}

impl Bucket {
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Piece::bytes).sum()
    }

    /// The range of each piece in the bytes of the bucket.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        crate::exchange::ranges(self.pieces.iter().map(Piece::bytes))
    }
}

/// The buckets of all parameters, or of all gradients.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) buffers: Vec<wgpu::Buffer>,
    pub(crate) buckets: Vec<Bucket>,
}

impl Route {
    /// `shards` are the ranges of each rank, `places` the places of the tensors.
    pub(crate) fn new(buffers: Vec<wgpu::Buffer>, places: &[Place], shards: &[Vec<Range<u64>>], bucket: u64) -> Self {
        Self { buffers, buckets: buckets(&shards.iter().map(|shard| runs(places, shard)).collect::<Vec<_>>(), bucket) }
    }

    /// Bytes of the largest bucket.
    pub(crate) fn largest(&self) -> usize {
        self.buckets.iter().map(Bucket::bytes).max().unwrap_or(0)
    }

    /// Bytes of the piece of this rank over all buckets.
    pub(crate) fn bytes_of(&self, rank: usize) -> u64 {
        self.buckets.iter().map(|bucket| bucket.pieces[rank].bytes() as u64).sum()
    }
}

/// The bytes of ranges of tensors, in whole words.
fn runs(places: &[Place], shard: &[Range<u64>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut joins = false;
    for (place, range) in places.iter().zip(shard).filter(|(_, range)| !range.is_empty()) {
        let width = place.format.bytes();
        let offset = place.offset + range.start * width;
        let bytes = ((range.end - range.start) * width).next_multiple_of(4);
        let gap = |run: &Run| offset.checked_sub(run.offset + run.bytes);
        let near = |run: &Run| gap(run).is_some_and(|gap| gap == 0 || (gap < GAP && joins && !place.bound));
        let same = |run: &Run| run.buffer == place.buffer && run.format == place.format;
        match runs.last_mut().filter(|run| same(run) && near(run)) {
            Some(run) => run.bytes = offset + bytes - run.offset,
            None => runs.push(Run { buffer: place.buffer, offset, bytes, format: place.format }),
        }
        joins = !place.bound;
    }
    runs
}

/// Cuts the runs of every rank into pieces, so that a bucket has at most about `bytes`.
fn buckets(shards: &[Vec<Run>], bytes: u64) -> Vec<Bucket> {
    let piece = (bytes / shards.len() as u64 / GRAIN * GRAIN).max(GRAIN);
    let pieces: Vec<Vec<Piece>> = shards.iter().map(|runs| pieces(runs, piece)).collect();
    let count = pieces.iter().map(Vec::len).max().unwrap_or(0);
    let piece = |rank: &Vec<Piece>, k: usize| rank.get(k).cloned().unwrap_or_default();
    (0..count).map(|k| Bucket { pieces: pieces.iter().map(|rank| piece(rank, k)).collect() }).collect()
}

fn pieces(runs: &[Run], bytes: u64) -> Vec<Piece> {
    let (mut pieces, mut room) = (Vec::<Piece>::new(), 0);
    for run in runs {
        let mut rest = *run;
        while rest.bytes > 0 {
            if room == 0 {
                pieces.push(Piece::default());
                room = bytes;
            }
            let taken = Run { bytes: rest.bytes.min(room), ..rest };
            rest = Run { offset: rest.offset + taken.bytes, bytes: rest.bytes - taken.bytes, ..rest };
            room -= taken.bytes;
            if let Some(piece) = pieces.last_mut() {
                piece.runs.push(taken);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(buffer: usize, offset: u64, bound: bool) -> Place {
        Place { buffer, offset, format: Format::F32, bound }
    }

    #[test]
    fn neighbours_are_one_run_and_bytes_of_the_caller_are_none() {
        let shard = [0..100, 0..10, 0..64, 8..20];
        let places = |bound| [place(0, 0, bound), place(0, 512, bound), place(0, 552, bound), place(1, 0, bound)];
        let bytes = |bound| -> Vec<_> {
            runs(&places(bound), &shard).iter().map(|run| (run.buffer, run.offset, run.bytes)).collect()
        };
        assert_eq!(bytes(false), [(0, 0, 808), (1, 32, 48)]);
        assert_eq!(bytes(true), [(0, 0, 400), (0, 512, 296), (1, 32, 48)]);
        let far = [place(0, 0, false), place(0, 512, false)];
        assert_eq!(runs(&far, &[0..10, 0..10]).len(), 2);
        let half = [Place { format: Format::Bf16, ..place(0, 0, false) }];
        assert_eq!(runs(&half, std::slice::from_ref(&(0..7)))[0].bytes, 16);
    }

    #[test]
    fn buckets_hold_every_byte_once() {
        let run = |offset, bytes| Run { buffer: 0, offset, bytes, format: Format::F32 };
        let shards = [vec![run(0, 20_000), run(40_000, 8)], vec![run(20_000, 20_000)], vec![]];
        let buckets = buckets(&shards, 3 * 8192);
        assert_eq!(buckets.len(), 3);
        for (rank, runs) in shards.iter().enumerate() {
            let cut: Vec<Run> = buckets.iter().flat_map(|bucket| bucket.pieces[rank].runs.clone()).collect();
            assert_eq!(cut.iter().map(|run| run.bytes).sum::<u64>(), runs.iter().map(|run| run.bytes).sum::<u64>());
            assert!(cut.iter().all(|run| run.bytes <= 8192));
        }
        assert_eq!(buckets[0].ranges(), [0..8192, 8192..16_384, 16_384..16_384]);
        assert_eq!(super::buckets(&[vec![], vec![]], 1 << 20).len(), 0);
    }
}
