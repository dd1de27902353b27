//! The mean of gradients over the ranks, on the host.
//!
//! The sum runs over the ranks in order, in f64, and is rounded once. So every rank count and every network gives the same bits for the same
//! gradients, and a sum never overflows where its mean does not.

use wgpu_optim::storage::{Format, half};

use crate::pieces::{Piece, Run};

/// Numbers that are added at a time, so that their sums stay in the cache.
const BLOCK: usize = 1024;

/// The form of gradients between ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As the optimizer stores gradients. Default.
    #[default]
    Stored,
    /// f32 gradients are rounded to nearest in bf16, which halves the bytes of the reduction. The mean is the mean of the rounded gradients. A
    /// number above 3.39e38 becomes infinite.
    Bf16,
}

impl Wire {
    /// The format of gradients that are stored in `format`.
    pub(crate) const fn format(self, format: Format) -> Format {
        match (self, format) {
            (Self::Bf16, Format::F32) => Format::Bf16,
            (_, format) => format,
        }
    }

    /// Bytes of a run between ranks, in whole words.
    fn bytes(self, run: &Run) -> usize {
        let numbers = run.bytes / run.format.bytes();
        (numbers * self.format(run.format).bytes()).next_multiple_of(4) as usize
    }

    /// Bytes of a piece between ranks.
    pub(crate) fn bytes_of(self, piece: &Piece) -> usize {
        piece.runs.iter().map(|run| self.bytes(run)).sum()
    }

    /// Converts a piece to the form between ranks.
    pub(crate) fn encode(self, piece: &Piece, stored: &[u8], wire: &mut Vec<u8>) {
        let mut at = 0;
        for run in &piece.runs {
            let numbers = &stored[at..at + run.bytes as usize];
            at += numbers.len();
            if self.format(run.format) == run.format {
                wire.extend_from_slice(numbers);
                continue;
            }
            let end = wire.len() + self.bytes(run);
            let rounded = floats(numbers).flat_map(|x| half::nearest(Format::Bf16, x).to_le_bytes());
            wire.extend(rounded);
            wire.resize(end, 0);
        }
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]))
}

fn halves(format: Format, bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(2).map(move |x| half::widen(format, u16::from_le_bytes([x[0], x[1]])))
}

/// Adds numbers to sums.
fn add(format: Format, bytes: &[u8], sums: &mut [f64]) {
    match format {
        Format::F32 => add_all(sums, floats(bytes)),
        Format::F16 | Format::Bf16 => add_all(sums, halves(format, bytes)),
    }
}

fn add_all(sums: &mut [f64], numbers: impl Iterator<Item = f32>) {
    sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += f64::from(x));
}

/// Stores numbers in a format, rounded to nearest.
fn store(format: Format, numbers: impl Iterator<Item = f32>, bytes: &mut Vec<u8>) {
    match format {
        Format::F32 => bytes.extend(numbers.flat_map(f32::to_le_bytes)),
        Format::F16 | Format::Bf16 => bytes.extend(numbers.flat_map(|x| half::nearest(format, x).to_le_bytes())),
    }
}

/// The mean of a piece over all ranks, as the optimizer stores it. `parts` are the pieces of the ranks, in order, in the form between ranks.
pub(crate) fn mean(wire: Wire, piece: &Piece, parts: &[&[u8]]) -> Vec<u8> {
    let mut mean = Vec::with_capacity(piece.bytes());
    let mut at = 0;
    for run in &piece.runs {
        let (format, numbers) = (wire.format(run.format), (run.bytes / run.format.bytes()) as usize);
        let width = format.bytes() as usize;
        for first in (0..numbers).step_by(BLOCK) {
            let count = BLOCK.min(numbers - first);
            let mut sums = [0.0; BLOCK];
            for part in parts {
                let start = at + first * width;
                add(format, &part[start..start + count * width], &mut sums[..count]);
            }
            let scale = parts.len() as f64;
            store(run.format, sums[..count].iter().map(|sum| (sum / scale) as f32), &mut mean);
        }
        at += wire.bytes(run);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(format: Format, numbers: u64) -> Piece {
        let run = |offset, numbers: u64| Run {
            buffer: 0,
            offset,
            bytes: (numbers * format.bytes()).next_multiple_of(4),
            format,
        };
        Piece { runs: vec![run(0, numbers), run(64_000, 3)] }
    }

    fn mean_of(wire: Wire, piece: &Piece, ranks: &[Vec<f32>]) -> Vec<f32> {
        let format = piece.runs[0].format;
        let parts: Vec<Vec<u8>> = ranks
            .iter()
            .map(|numbers| {
                let (mut stored, mut sent) = (Vec::new(), Vec::new());
                store(format, numbers.iter().copied(), &mut stored);
                wire.encode(piece, &stored, &mut sent);
                assert_eq!(sent.len(), wire.bytes_of(piece));
                sent
            })
            .collect();
        let bytes = mean(wire, piece, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(bytes.len(), piece.bytes());
        if format == Format::F32 { floats(&bytes).collect() } else { halves(format, &bytes).collect() }
    }

    #[test]
    fn means_are_rounded_once() {
        let piece = piece(Format::F32, 2049);
        let rank = |seed: u32| -> Vec<f32> { (0..2052).map(|i: u32| ((i * 7 + seed) % 101) as f32 / 3.0).collect() };
        let ranks = [rank(0), rank(50), rank(77)];
        let means = mean_of(Wire::Stored, &piece, &ranks);
        for (at, mean) in means.iter().enumerate() {
            let exact = ranks.iter().map(|rank| f64::from(rank[at])).sum::<f64>() / 3.0;
            assert_eq!(*mean, exact as f32, "{at}");
        }
        let largest = vec![f32::MAX; 2052];
        assert_eq!(mean_of(Wire::Stored, &piece, &[largest.clone(), largest])[7], f32::MAX);
        let mut bad = rank(0);
        bad[2050] = f32::NAN;
        assert!(mean_of(Wire::Stored, &piece, &[rank(0), bad])[2050].is_nan());
    }

    #[test]
    fn bf16_between_ranks_rounds_each_gradient() {
        let piece = piece(Format::F32, 5);
        // Both are rounded up.
        let ranks = [vec![1.007_f32; 8], vec![2.015; 8]];
        let rounded = |x: f32| f64::from(half::widen(Format::Bf16, half::nearest(Format::Bf16, x)));
        assert!(rounded(1.007) > 1.007 && rounded(2.015) > 2.015);
        let expected = ((rounded(1.007) + rounded(2.015)) / 2.0) as f32;
        assert_eq!(Wire::Bf16.bytes_of(&piece), 12 + 8);
        assert!(mean_of(Wire::Bf16, &piece, &ranks).iter().all(|x| *x == expected));
    }

    #[test]
    fn half_precision_stays_as_it_is_stored() {
        for format in [Format::F16, Format::Bf16] {
            let piece = piece(format, 6);
            let ranks = [vec![1.0_f32; 10], vec![2.0; 10]];
            assert_eq!(Wire::Bf16.format(format), format);
            assert!(mean_of(Wire::Bf16, &piece, &ranks).iter().all(|x| *x == 1.5));
        }
    }
}
