//! The GPU's own clock: timestamps at the boundaries of compute passes, which contain neither the submission nor the wait for its end.

use crate::tools::adapter::Gpu;
use crate::{Result, read_buffer};

/// Bytes of a timestamp.
const BYTES: u64 = size_of::<u64>() as u64;

/// The timestamps of the passes of one submission.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: u32,
}

/// The seconds that passes took.
pub(super) struct Elapsed {
    /// From the begin of the first pass to the end of the last.
    pub(super) whole: f64,
    pub(super) passes: Vec<f64>,
}

impl Clock {
    /// A clock for as many passes; `None` if the device writes no timestamps.
    pub(super) fn new(gpu: &Gpu, passes: usize) -> Option<Self> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let passes = u32::try_from(passes).ok().filter(|passes| *passes <= wgpu::QUERY_SET_MAX_QUERIES / 2)?;
        let label = Some("bench clock");
        let ty = wgpu::QueryType::Timestamp;
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty, count: 2 * passes });
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: 2 * u64::from(passes) * BYTES,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Some(Self { queries, resolved, passes })
    }

    /// The timestamps of the pass of this number.
    pub(super) const fn writes(&self, pass: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * pass),
            end_of_pass_write_index: Some(2 * pass + 1),
        }
    }

    /// The timestamps of all passes, in their order.
    pub(super) fn all_writes(&self) -> impl Iterator<Item = Option<wgpu::ComputePassTimestampWrites<'_>>> {
        (0..self.passes).map(|pass| Some(self.writes(pass)))
    }

    /// The times of the first passes, as many as `passes`, after their submission.
    pub(super) async fn read(&self, gpu: &Gpu, passes: u32) -> Result<Elapsed> {
        gpu.run_async(|encoder| {
            encoder.resolve_query_set(&self.queries, 0..2 * passes, &self.resolved, 0);
            Ok(())
        })
        .await?;
        let range = 0..2 * u64::from(passes) * BYTES;
        let bytes = read_buffer(&gpu.device, &gpu.queue, self.resolved.slice(range)).await?;
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let period = f64::from(gpu.queue.get_timestamp_period()) / 1e9;
        // A clock that wraps around or steps back between two stamps measured nothing.
        let seconds = |begin: u64, end: u64| end.saturating_sub(begin) as f64 * period;
        let (first, last) = (stamps.first().copied().unwrap_or(0), stamps.last().copied().unwrap_or(0));
        Ok(Elapsed {
            whole: seconds(first, last),
            passes: stamps.chunks_exact(2).map(|pair| seconds(pair[0], pair[1])).collect(),
        })
    }
}
