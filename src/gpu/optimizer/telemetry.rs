//! The measurements of the whole.

use crate::Result;
use crate::gpu::optimizer::Optimizer;
use crate::options::telemetry::Stats;

impl Optimizer {
    /// The measurements of the newest finished step, once per step. `None` if no step has finished since the last call, or if the builder did
    /// not set [`Builder::telemetry`](crate::Builder::telemetry). The call never waits.
    pub fn try_stats(&self) -> Option<Stats> {
        self.parts.first()?.try_stats()
    }

    /// The name of the first tensor with a gradient, or a sum of squared gradients, that was not finite in the last finished step. Steps count
    /// such numbers with a loss scale, `skip_nonfinite`, a clip by norm or telemetry.
    ///
    /// # Errors
    /// Steps do not count such numbers; the device was lost.
    pub async fn read_nonfinite(&self) -> Result<Option<&str>> {
        for part in &self.parts {
            if let Some(name) = part.read_nonfinite().await? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}
