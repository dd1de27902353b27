//! Weighted squares of linear residuals, Σ_i w_i (A_i·x - y_i)²: the one core of the rotated quadratic, of regression and
//! of sensing.

mod gpu;
mod host;

pub(super) use gpu::{record, shaders};
pub(super) use host::Host;

use super::check;
use crate::Result;

/// The matrix, row by row, with each row's target and weight.
pub(super) struct Rows {
    pub(super) matrix: Vec<f32>,
    pub(super) targets: Vec<f32>,
    pub(super) weights: Vec<f32>,
}

impl Rows {
    pub(super) fn count(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn columns(&self) -> usize {
        self.matrix.len() / self.count()
    }

    /// The root of the mean squared residual.
    pub(super) fn rmse(&self, x: &[f32]) -> f64 {
        let residual = |(row, target): (&[f32], &f32)| {
            let model: f64 = row.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum();
            (model - f64::from(*target)).powi(2)
        };
        let squares: f64 = self.matrix.chunks_exact(self.columns()).zip(&self.targets).map(residual).sum();
        (squares / self.count() as f64).sqrt()
    }

    /// Refuses what would make a kernel's thread walk too far.
    fn check_loops(&self) -> Result<()> {
        check::loops("rows of the data", self.count())?;
        check::loops("columns of the data for each of 64 lanes", self.columns().div_ceil(64))
    }
}
