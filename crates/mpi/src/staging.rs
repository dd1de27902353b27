//! Mapped buffers between host and GPU, made once and used in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu_optim::wgpu;

use crate::pieces::Run;
use crate::{Error, Result};

/// Buckets that the GPU copies to the host: one that ranks exchange, one that waits, one that is being copied.
pub(crate) const READS: usize = 3;
/// Buckets that come back to the GPU.
const WRITES: usize = 2;

/// The buffers of both directions.
#[derive(Debug)]
pub(crate) struct Staging {
    device: wgpu::Device,
    queue: wgpu::Queue,
    reads: Vec<Slot>,
    writes: Vec<Slot>,
    turn: usize,
}

#[derive(Debug)]
struct Slot {
    buffer: wgpu::Buffer,
    mapped: Arc<AtomicBool>,
    /// A map ended with an error, after which the buffer is never mapped.
    failed: Arc<AtomicBool>,
    submission: Option<wgpu::SubmissionIndex>,
}

impl Slot {
    fn new(device: &wgpu::Device, label: &str, size: u64, usage: wgpu::BufferUsages, mapped: bool) -> Self {
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: mapped };
        let flag = |set| Arc::new(AtomicBool::new(set));
        Self { buffer: device.create_buffer(&descriptor), mapped: flag(mapped), failed: flag(false), submission: None }
    }

    /// The callback of a map.
    fn arrival(&self) -> impl FnOnce(Result<(), wgpu::BufferAsyncError>) + Send + 'static {
        let (mapped, failed) = (self.mapped.clone(), self.failed.clone());
        move |result| if result.is_ok() { &mapped } else { &failed }.store(true, Ordering::Release)
    }

    /// Waits until the buffer is mapped.
    fn wait(&mut self, device: &wgpu::Device) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: self.submission.take(), timeout: None };
        device.poll(poll).map_err(lost)?;
        // The poll of another thread may have taken the callback and not run it yet.
        while !self.mapped.load(Ordering::Acquire) {
            if self.failed.load(Ordering::Acquire) {
                return Err(lost("a buffer could not be mapped"));
            }
            device.poll(wgpu::PollType::wait_indefinitely()).map_err(lost)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    fn unmap(&self) {
        self.mapped.store(false, Ordering::Release);
        self.buffer.unmap();
    }
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::Optimizer(wgpu_optim::Error::DeviceLost(format!("while numbers moved between ranks: {error}")))
}

impl Staging {
    /// Buffers for `bytes` each.
    pub(crate) fn new(device: &wgpu::Device, queue: &wgpu::Queue, bytes: usize) -> Self {
        let (size, both) =
            (bytes.next_multiple_of(16).max(16) as u64, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        let read = |_| Slot::new(device, "wgpu-optim-mpi from the GPU", size, both, false);
        let back = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE;
        let write = |_| Slot::new(device, "wgpu-optim-mpi to the GPU", size, back, true);
        Self {
            device: device.clone(),
            queue: queue.clone(),
            reads: (0..READS).map(read).collect(),
            writes: (0..WRITES).map(write).collect(),
            turn: 0,
        }
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&self) -> u64 {
        self.reads.iter().chain(&self.writes).map(|slot| slot.buffer.size()).sum()
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim-mpi") })
    }

    /// Submits the copy of runs, one after the other, into read buffer `turn`. After the submissions so far, before all later ones.
    pub(crate) fn read<'a>(&mut self, turn: usize, buffers: &[wgpu::Buffer], runs: impl Iterator<Item = &'a Run>) {
        let mut encoder = self.encoder();
        let slot = &mut self.reads[turn % READS];
        let mut at = 0;
        for run in runs {
            encoder.copy_buffer_to_buffer(&buffers[run.buffer], run.offset, &slot.buffer, at, run.bytes);
            at += run.bytes;
        }
        if at == 0 {
            return;
        }
        encoder.map_buffer_on_submit(&slot.buffer, wgpu::MapMode::Read, ..at, slot.arrival());
        slot.submission = Some(self.queue.submit([encoder.finish()]));
    }

    /// Waits for read buffer `turn`, which holds `bytes`.
    pub(crate) fn wait(&mut self, turn: usize, bytes: usize) -> Result<wgpu::BufferView> {
        let slot = &mut self.reads[turn % READS];
        slot.wait(&self.device)?;
        slot.buffer.slice(..bytes as u64).get_mapped_range().map_err(lost)
    }

    /// Frees read buffer `turn`. Its view must be gone.
    pub(crate) fn release(&self, turn: usize) {
        self.reads[turn % READS].unmap();
    }

    /// Submits the copy of `bytes` to runs.
    pub(crate) fn write<'a>(
        &mut self,
        bytes: &[u8],
        buffers: &[wgpu::Buffer],
        runs: impl Iterator<Item = &'a Run>,
    ) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let turn = self.turn % WRITES;
        self.turn += 1;
        self.writes[turn].wait(&self.device)?;
        let mut encoder = self.encoder();
        let slot = &mut self.writes[turn];
        let mut view = slot.buffer.slice(..bytes.len() as u64).get_mapped_range_mut().map_err(lost)?;
        view.slice(..).copy_from_slice(bytes);
        drop(view);
        slot.unmap();
        let mut at = 0;
        for run in runs {
            encoder.copy_buffer_to_buffer(&slot.buffer, at, &buffers[run.buffer], run.offset, run.bytes);
            at += run.bytes;
        }
        encoder.map_buffer_on_submit(&slot.buffer, wgpu::MapMode::Write, .., slot.arrival());
        slot.submission = Some(self.queue.submit([encoder.finish()]));
        Ok(())
    }

    /// Waits for everything that was submitted.
    pub(crate) fn finish(&self) -> Result<()> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(lost)?;
        Ok(())
    }
}
