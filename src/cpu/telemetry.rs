//! Telemetry on the host: the same numbers as on the GPU.

use crate::Result;
use crate::cpu::around::square;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::options::telemetry::{self, Squares, Stats, TensorStats};

impl<F: Number> Optimizer<F> {
    /// The measurements of the last step; `None` before the first step, or without [`Builder::telemetry`](crate::Builder::telemetry).
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        if !self.around.around.telemetry || self.around.squares.is_empty() {
            return None;
        }
        let tensors = self.spec.tensors.iter().zip(&self.around.squares);
        Some(Stats {
            step_count: self.step_count,
            skipped: self.around.skipped,
            total: Squares::total(&self.around.squares).norms(),
            tensors: tensors.map(|(t, s)| TensorStats { name: t.name.as_str().into(), norms: s.norms() }).collect(),
            dropped: 0,
        })
    }

    /// The name of the first tensor with a gradient, or a sum of squared gradients, that was not finite in the last step.
    ///
    /// # Errors
    /// Steps do not count such numbers: the optimizer has no `skip_nonfinite`, loss scale, clip by norm or telemetry.
    pub fn nonfinite(&self) -> Result<Option<&str>> {
        if !self.around.around.sums() {
            return Err(telemetry::nothing_counts());
        }
        let mut tensors = self.spec.tensors.iter().zip(&self.around.squares);
        Ok(tensors.find(|(_, squares)| squares.is_bad()).map(|(info, _)| info.name.as_str()))
    }

    /// A copy of the parameters before the step, with telemetry.
    pub(crate) fn before(&self, params: &[&mut [F]]) -> Option<Vec<Vec<F>>> {
        self.around.around.telemetry.then(|| params.iter().map(|p| p.to_vec()).collect())
    }

    /// Measures the change of the parameters.
    pub(crate) fn measure(&mut self, before: Option<Vec<Vec<F>>>, params: &[&mut [F]]) {
        for ((squares, before), after) in self.around.squares.iter_mut().zip(before.into_iter().flatten()).zip(params) {
            squares.parameter = square(&before);
            squares.update = before.iter().zip(after.iter()).map(|(b, a)| (a.to_f64() - b.to_f64()).powi(2)).sum();
        }
    }
}
