//! The measurements of the whole.

use crate::Result;
use crate::gpu::access::telemetry::Measured;
use crate::gpu::optimizer::Optimizer;
use crate::options::telemetry::{Squares, Stats, TensorStats};

impl Optimizer {
    /// The measurements of the newest finished step, once per step. `None` if no step has finished since the last call, if the builder did
    /// not set [`Builder::telemetry`](crate::Builder::telemetry), or if the device was lost. The call never waits.
    pub fn try_stats(&self) -> Option<Stats> {
        let first = self.parts.first()?;
        first.context.poll();
        let arrived = |step: &u64| self.parts.iter().all(|part| part.samples().any(|other| other == *step));
        let newest = first.samples().filter(arrived).max()?;
        let parts: Vec<Measured> = self.parts.iter().map(|part| part.open_sample(newest)).collect::<Option<_>>()?;
        let most = |of: fn(&Measured) -> u64| parts.iter().map(of).max().unwrap_or(0);
        let (step_count, skipped, dropped) = (most(|p| p.step_count), most(|p| p.skipped), most(|p| p.dropped));
        let tensors = self.directory.joined(parts.into_iter().map(|part| part.tensors).collect());
        let squares: Vec<Squares> = tensors.iter().map(|(_, squares)| *squares).collect();
        let of_tensor = |(name, squares): (_, Squares)| TensorStats { name, norms: squares.norms() };
        Some(Stats {
            step_count,
            skipped,
            total: Squares::total(&squares).norms(),
            tensors: tensors.into_iter().map(of_tensor).collect(),
            dropped,
        })
    }

    /// The name of the first tensor with a gradient, or a sum of squared gradients, that was not finite in the last finished step. Steps count
    /// such numbers with a loss scale, `skip_nonfinite`, a clip by norm or telemetry.
    ///
    /// # Errors
    /// Steps do not count such numbers; the device was lost.
    pub async fn read_nonfinite(&self) -> Result<Option<&str>> {
        let mut bad = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            bad.push(part.read_bad_tensors().await?);
        }
        let first = self.directory.joined(bad).into_iter().position(|bad| bad);
        Ok(first.map(|tensor| self.spec.tensors[tensor].name.as_str()))
    }
}
