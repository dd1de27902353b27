//! Telemetry on the host: the same numbers as on the GPU.

use crate::Result;
use crate::cpu::around::square;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::options::telemetry::{self, Squares, Stats, TensorStats};

impl<F: Number> Part<F> {
    /// The measurements of the last step; `None` before the first step, or without [`Builder::telemetry`](crate::Builder::telemetry).
    pub(crate) fn stats(&self) -> Option<Stats> {
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

    /// Whether a gradient of each tensor, or its sum of squares, was not finite in the last step.
    pub(crate) fn bad_tensors(&self) -> Result<Vec<bool>> {
        if !self.around.around.sums() {
            return Err(telemetry::nothing_counts());
        }
        let mut bad: Vec<bool> = self.around.squares.iter().map(Squares::is_bad).collect();
        bad.resize(self.tensors.len(), false);
        Ok(bad)
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
