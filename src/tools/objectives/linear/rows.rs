//! The rows of a linear model, with their targets and weights.

use crate::Result;
use crate::tools::objectives::check;

/// The matrix, row by row, with each row's target and weight.
pub(in crate::tools::objectives) struct Rows {
    pub(in crate::tools::objectives) matrix: Vec<f32>,
    pub(in crate::tools::objectives) targets: Vec<f32>,
    pub(in crate::tools::objectives) weights: Vec<f32>,
}

impl Rows {
    pub(in crate::tools::objectives) fn count(&self) -> usize {
        self.targets.len()
    }

    pub(in crate::tools::objectives) fn columns(&self) -> usize {
        self.matrix.len() / self.count()
    }

    /// The root of the mean squared residual.
    pub(in crate::tools::objectives) fn rmse(&self, x: &[f32]) -> f64 {
        let residual = |(row, target): (&[f32], &f32)| {
            let model: f64 = row.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum();
            (model - f64::from(*target)).powi(2)
        };
        let squares: f64 = self.matrix.chunks_exact(self.columns()).zip(&self.targets).map(residual).sum();
        (squares / self.count() as f64).sqrt()
    }

    /// Refuses sizes that make a kernel's thread loop too often.
    pub(super) fn check_loops(&self) -> Result<()> {
        check::loops("rows of the data", self.count())?;
        check::loops("columns of the data for each of 64 lanes", self.columns().div_ceil(64))
    }
}
