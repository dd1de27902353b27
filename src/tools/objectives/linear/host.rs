//! The linear core on the host, in any float type.

use super::rows::Rows;
use crate::optim::rule::Real;
use crate::tools::objectives::vector;
use rayon::prelude::*;

/// The number of matrix elements from which another thread is worth its cost.
const PIECE: usize = 1 << 17;

/// The data in one float type, and the slope of each row by its residual.
pub(in crate::tools::objectives) struct Host<F> {
    matrix: Vec<F>,
    columns: usize,
    targets: Vec<F>,
    weights: Vec<F>,
    slopes: Vec<F>,
}

impl<F: Real> Host<F> {
    pub(in crate::tools::objectives) fn new(rows: &Rows) -> Self {
        let exact = |values: &[f32]| values.iter().map(|x| F::from_f64(f64::from(*x))).collect::<Vec<_>>();
        Self {
            matrix: exact(&rows.matrix),
            columns: rows.columns(),
            targets: exact(&rows.targets),
            weights: exact(&rows.weights),
            slopes: vec![F::zero(); rows.count()],
        }
    }

    pub(in crate::tools::objectives) fn rows(&self) -> usize {
        self.targets.len()
    }

    /// The sum; with `grad`, also its gradient, written into `grad`.
    pub(in crate::tools::objectives) fn evaluate(&mut self, x: &[F], grad: Option<&mut [F]>) -> f64 {
        let loss = self.residuals(x);
        if let Some(grad) = grad {
            // One thread computes a whole piece of the columns, so that the bits do not depend on the threads.
            let piece = (PIECE / self.rows()).max(vector::LANES).next_multiple_of(vector::LANES);
            let work = |(at, grad): (usize, &mut [F])| vector::widest(|| self.gradient_piece(at * piece, grad));
            if self.columns >= 2 * piece {
                grad.par_chunks_mut(piece).enumerate().for_each(work);
            } else {
                grad.chunks_mut(piece).enumerate().for_each(work);
            }
        }
        loss
    }

    fn residuals(&mut self, x: &[F]) -> f64 {
        let piece = (PIECE / self.columns).max(1);
        let matrix = self.matrix.chunks(piece * self.columns);
        let columns = self.columns;
        let work = |(slopes, matrix): (&mut [F], &[F])| {
            vector::widest(|| {
                for (slope, row) in slopes.iter_mut().zip(matrix.chunks_exact(columns)) {
                    *slope = vector::dot(row, x);
                }
            });
        };
        if self.targets.len() >= 2 * piece {
            let matrix = self.matrix.par_chunks(piece * columns);
            self.slopes.par_chunks_mut(piece).zip(matrix).for_each(work);
        } else {
            self.slopes.chunks_mut(piece).zip(matrix).for_each(work);
        }
        let mut loss = 0.0;
        for ((slope, target), weight) in self.slopes.iter_mut().zip(&self.targets).zip(&self.weights) {
            let r = *slope - *target;
            loss += (*weight * r * r).to_f64();
            *slope = *weight * (r + r);
        }
        loss
    }

    /// The gradient of the columns from `first` on.
    #[inline(always)]
    fn gradient_piece(&self, first: usize, grad: &mut [F]) {
        grad.fill(F::zero());
        for (row, slope) in self.matrix.chunks_exact(self.columns).zip(&self.slopes) {
            vector::add(grad, *slope, &row[first..first + grad.len()]);
        }
    }
}
