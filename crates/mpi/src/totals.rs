//! The sums of a step over all ranks: of each rule record 0 of its totals, and the records of tensors that lie on several ranks.

use wgpu_optim::{Cut, Group, Optimizer, wgpu};

use crate::world::World;
use crate::{Error, Result};

/// Bytes of a total: the coefficients of 1, c and c² in the clip factor c, and one number that is not used.
const TOTAL: u64 = 16;

/// The totals of one rule.
#[derive(Debug)]
struct RuleTotals {
    /// A group with the rule.
    group: Group,
    tensors: u64,
    /// The records that ranks exchange.
    records: Vec<u64>,
}

/// The records that ranks exchange, and the buffer in which they come to the host.
#[derive(Debug)]
pub(crate) struct Totals {
    rules: Vec<RuleTotals>,
    /// The tensors whose records ranks exchange.
    shared: Vec<usize>,
    buffer: wgpu::Buffer,
}

impl Totals {
    /// `split` are the tensors that lie on several ranks. The first tensor of a rule is always exchanged, because its decision makes the global
    /// state.
    pub(crate) fn new(device: &wgpu::Device, optimizer: &Optimizer, cuts: &[Cut], split: &[usize]) -> Result<Self> {
        let (mut rules, mut shared) = (Vec::new(), Vec::new());
        for (index, cut) in cuts.iter().enumerate() {
            while rules.len() <= cut.rule {
                rules.push(RuleTotals { group: Group::DEFAULT, tensors: 0, records: vec![0] });
            }
            let rule = &mut rules[cut.rule];
            rule.group = optimizer.group_of(cut.tensor)?;
            rule.tensors += 1;
            if rule.tensors == 1 || split.contains(&index) {
                rule.records.push(rule.tensors);
                shared.push(index);
            }
        }
        let records: usize = rules.iter().map(|rule| rule.records.len()).sum();
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim-mpi totals"),
            // No rule and no option has more totals than this.
            size: records.max(1) as u64 * TOTAL * 64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Self { rules, shared, buffer })
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
        let records = self.records(optimizer)?;
        let bytes: u64 = records.iter().map(wgpu::BufferSlice::size).sum();
        if bytes == 0 {
            queue.submit([encoder.finish()]);
            return Ok(());
        }
        let mut at = 0;
        for record in &records {
            encoder.copy_buffer_to_buffer(record.buffer(), record.offset(), &self.buffer, at, record.size());
            at += record.size();
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
        let mut rest = sums;
        for record in &records {
            let (own, others) = rest.split_at(record.size() as usize);
            queue.write_buffer(record.buffer(), record.offset(), own);
            rest = others;
        }
        Ok(())
    }

    /// The places of the records that ranks exchange, in the totals of the last round of sums. A rule without sums in this round has none.
    fn records<'o>(&self, optimizer: &'o Optimizer) -> Result<Vec<wgpu::BufferSlice<'o>>> {
        let mut records = Vec::new();
        for rule in &self.rules {
            let Some(totals) = optimizer.totals_of(rule.group)? else { continue };
            let size = totals.size() / (rule.tensors + 1);
            let record = |number: &u64| totals.slice(number * size..(number + 1) * size);
            records.extend(rule.records.iter().map(record));
        }
        Ok(records)
    }

    /// Whether all ranks hold the record of the whole tensor.
    pub(crate) fn shares(&self, tensor: usize) -> bool {
        self.shared.contains(&tensor)
    }
}
