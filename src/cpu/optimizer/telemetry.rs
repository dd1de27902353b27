//! Telemetry on the host: the same numbers as on the GPU.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::part::Part;
use crate::gpu::build::division::InPart;
use crate::options::telemetry::{Squares, Stats, TensorStats};

impl<F: Number> Optimizer<F> {
    /// The measurements of the last step; `None` before the first step, or without [`Builder::telemetry`](crate::Builder::telemetry).
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        let first = self.parts.first()?.stats()?;
        if self.parts.len() == 1 {
            return Some(first);
        }
        let of_parts: Vec<&[Squares]> = self.parts.iter().map(|part| part.around.squares.as_slice()).collect();
        let of_tensor = |place: &InPart| of_parts[place.part].get(place.index).copied();
        let squares: Vec<Squares> = self.directory.tensors().iter().map(of_tensor).collect::<Option<_>>()?;
        let tensors = self.spec.tensors.iter().zip(&squares);
        Some(Stats {
            step_count: self.step_count(),
            total: Squares::total(&squares).norms(),
            tensors: tensors.map(|(t, s)| TensorStats { name: t.name.as_str().into(), norms: s.norms() }).collect(),
            ..first
        })
    }

    /// The name of the first tensor with a gradient, or a sum of squared gradients, that was not finite in the last step.
    ///
    /// # Errors
    /// Steps do not count such numbers: the optimizer has no `skip_nonfinite`, loss scale, clip by norm or telemetry.
    pub fn nonfinite(&self) -> Result<Option<&str>> {
        let bad = self.parts.iter().map(Part::bad_tensors).collect::<Result<Vec<_>>>()?;
        let mut tensors = self.spec.tensors.iter().zip(self.directory.tensors());
        Ok(tensors.find(|(_, place)| bad[place.part][place.index]).map(|(info, _)| info.name.as_str()))
    }
}
