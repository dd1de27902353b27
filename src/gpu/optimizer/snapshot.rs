//! Snapshots of the whole.

use crate::Result;
use crate::gpu::access::snapshot::Snapshot;
use crate::gpu::optimizer::Optimizer;

impl Optimizer {
    /// Records a copy of parameters, states and counters at this point of the encoder. Training may continue at once. Dropping
    /// the snapshot frees the copy.
    ///
    /// # Errors
    /// A caller's buffer lacks `COPY_SRC` or was destroyed; the GPU has no memory for the copy; the device was lost.
    pub fn snapshot(&self, encoder: &mut wgpu::CommandEncoder) -> Result<Snapshot> {
        let parts = self.parts.iter().map(|part| part.snapshot(encoder)).collect::<Result<_>>()?;
        Ok(Snapshot { parts })
    }
}
