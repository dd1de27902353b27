//! The low-rank core on the host, in any float type. One thread computes the whole model of an entry, and the whole gradient of a factor
//! row, so that the bits do not depend on the threads.

use super::entries::Entries;
use crate::optim::rule::Real;
use crate::tools::objectives::vector;
use crate::tools::objectives::vector::LANES;
use rayon::prelude::*;
use std::sync::Arc;

/// The number of multiplications from which another thread is worth its cost.
const PIECE: usize = 1 << 18;

/// The factors at a point. Rows are padded to whole vectors with zeros, which do not change a sum.
pub(in crate::tools::objectives) struct Factors<F, const D: usize> {
    entries: Arc<Entries<D>>,
    width: usize,
    values: [Vec<F>; D],
    slopes: [Vec<F>; D],
}

impl<F: Real, const D: usize> Factors<F, D> {
    /// `D` is two or three.
    pub(in crate::tools::objectives) fn new(entries: Arc<Entries<D>>) -> Self {
        const { assert!(D == 2 || D == 3) };
        let width = entries.rank.next_multiple_of(LANES);
        let zeros = || entries.rows.map(|rows| vec![F::zero(); rows * width]);
        Self { width, values: zeros(), slopes: zeros(), entries }
    }

    /// Copies the factors of a point.
    pub(in crate::tools::objectives) fn load(&mut self, params: &[&[F]]) {
        for (values, param) in self.values.iter_mut().zip(params) {
            for (to, from) in values.chunks_exact_mut(self.width).zip(param.chunks_exact(self.entries.rank)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
    }

    /// Writes the model's value of each entry.
    pub(in crate::tools::objectives) fn predict(&self, into: &mut [F]) {
        let piece = (PIECE / self.width).max(1);
        let pieces = into.chunks_mut(piece).zip(self.entries.at.chunks(piece));
        let work = |(into, at): (&mut [F], &[[u32; D]])| vector::widest(|| self.predict_piece(into, at));
        if into_parallel(self.entries.len(), piece) {
            into.par_chunks_mut(piece).zip(self.entries.at.par_chunks(piece)).for_each(work);
        } else {
            pieces.for_each(work);
        }
    }

    #[inline(always)]
    fn predict_piece(&self, into: &mut [F], at: &[[u32; D]]) {
        for (to, at) in into.iter_mut().zip(at) {
            *to = if D == 2 {
                vector::dot(self.row(at, 0), self.row(at, 1))
            } else {
                vector::dot3(self.row(at, 0), self.row(at, 1), self.row(at, 2))
            };
        }
    }

    /// The gradients from each entry's slope, the loss's derivative by the entry's model.
    pub(in crate::tools::objectives) fn gradient(&mut self, slopes: &[F], grads: &mut [&mut [F]]) {
        let mut into = std::mem::replace(&mut self.slopes, std::array::from_fn(|_| Vec::new()));
        for (d, (into, grad)) in into.iter_mut().zip(grads).enumerate() {
            let rows = self.entries.rows[d];
            let piece = (PIECE / self.width * rows / self.entries.len().max(1)).max(1);
            let work = |(at, into): (usize, &mut [F])| {
                vector::widest(|| self.gradient_piece(d, at * piece, into, slopes));
            };
            if into_parallel(rows, piece) {
                into.par_chunks_mut(piece * self.width).enumerate().for_each(work);
            } else {
                into.chunks_mut(piece * self.width).enumerate().for_each(work);
            }
            for (to, from) in grad.chunks_exact_mut(self.entries.rank).zip(into.chunks_exact(self.width)) {
                to.copy_from_slice(&from[..to.len()]);
            }
        }
        self.slopes = into;
    }

    /// The gradient of factor `d`'s rows from `first` on.
    #[inline(always)]
    fn gradient_piece(&self, d: usize, first: usize, into: &mut [F], slopes: &[F]) {
        for (row, into) in (first..).zip(into.chunks_exact_mut(self.width)) {
            into.fill(F::zero());
            for entry in self.entries.lists[d].row(row) {
                let (at, slope) = (&self.entries.at[*entry as usize], slopes[*entry as usize]);
                let other = self.row(at, (d + 1) % D);
                if D == 2 {
                    vector::add(into, slope, other);
                } else {
                    vector::add_product(into, slope, other, self.row(at, (d + 2) % D));
                }
            }
        }
    }

    #[inline(always)]
    fn row(&self, at: &[u32; D], d: usize) -> &[F] {
        &self.values[d][at[d] as usize * self.width..][..self.width]
    }
}

fn into_parallel(count: usize, piece: usize) -> bool {
    count >= 2 * piece
}
