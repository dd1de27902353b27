//! The sums of a step over all ranks: record 0 of the totals, and the records of tensors that lie on several ranks.

use wgpu_optim::{Optimizer, wgpu};

use crate::world::World;
use crate::{Error, Result};

/// Bytes of a total: the coefficients of 1, c and c² in the clip factor c, and one number that is not used.
const TOTAL: u64 = 16;

/// The records that ranks exchange, and the buffer in which they come to the host.
#[derive(Debug)]
pub(crate) struct Totals {
    records: Vec<u64>,
    tensors: u64,
    buffer: wgpu::Buffer,
}

impl Totals {
    /// `split` are the tensors that lie on several ranks. The first tensor is always exchanged, because its decision makes the global state.
    pub(crate) fn new(device: &wgpu::Device, tensors: usize, split: &[usize]) -> Self {
        let first = if tensors > 0 && !split.contains(&0) { Some(1) } else { None };
        let records: Vec<u64> =
            [0].into_iter().chain(first).chain(split.iter().map(|tensor| *tensor as u64 + 1)).collect();
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim-mpi totals"),
            // No rule and no option has more totals than this.
            size: records.len() as u64 * TOTAL * 64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { records, tensors: tensors as u64, buffer }
    }

    /// Submits the sums that `encoder` records, adds their records over the ranks in order, in f64, and writes the sums back. Every rank then has
    /// the same bits. A step without sums exchanges nothing.
    pub(crate) fn exchange(
        &self,
        world: &World,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        optimizer: &Optimizer,
        mut encoder: wgpu::CommandEncoder,
    ) -> Result<()> {
        let Some(totals) = optimizer.totals() else {
            queue.submit([encoder.finish()]);
            return Ok(());
        };
        let record = totals.size() / (self.tensors + 1);
        let bytes = record * self.records.len() as u64;
        for (to, from) in self.records.iter().enumerate() {
            encoder.copy_buffer_to_buffer(totals, from * record, &self.buffer, to as u64 * record, record);
        }
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, ..bytes, |_| ());
        let submission = queue.submit([encoder.finish()]);
        let lost = |error: &dyn std::fmt::Display| {
            Error::Optimizer(wgpu_optim::Error::DeviceLost(format!("while sums were read: {error}")))
        };
        device
            .poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
            .map_err(|e| lost(&e))?;
        let own = self.buffer.slice(..bytes).get_mapped_range().map_err(|e| lost(&e))?.to_vec();
        self.buffer.unmap();
        let mut sums = vec![0.0_f64; own.len() / 4];
        for part in world.all_gather_equal("add the sums of a step", &own)? {
            let part: Vec<f32> = bytemuck::pod_collect_to_vec(&part);
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += f64::from(x));
        }
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        let sums: &[u8] = bytemuck::cast_slice(&sums);
        for (from, to) in self.records.iter().enumerate() {
            queue.write_buffer(totals, to * record, &sums[from * record as usize..][..record as usize]);
        }
        Ok(())
    }

    /// Whether all ranks hold the record of the whole tensor.
    pub(crate) fn shares(&self, tensor: usize) -> bool {
        self.records.contains(&(tensor as u64 + 1))
    }
}
