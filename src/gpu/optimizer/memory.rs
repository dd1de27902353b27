//! The GPU memory of an optimizer.

use crate::gpu::layout::memory::MemoryUsage;
use crate::gpu::optimizer::Optimizer;

impl Optimizer {
    /// The GPU memory that the optimizer takes, by role: every buffer that construction created, and the ranges that the caller bound.
    /// Snapshots, reads and writes take more memory for their copies, which is not counted here.
    #[must_use]
    pub fn memory_usage(&self) -> MemoryUsage {
        self.memory_usage.clone()
    }
}
