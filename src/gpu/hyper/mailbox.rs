//! A mappable buffer that a step copies into and the host opens later. The host never waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Result;
use crate::gpu::build::buffers::{Buffers, Which};

const IDLE: u8 = 0;
const UNDER_WAY: u8 = 1;
const READY: u8 = 2;

/// A buffer with the state of the copy in it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    device: wgpu::Device,
    buffer: wgpu::Buffer,
    state: Arc<AtomicU8>,
}

/// Sets the state back if its encoder is dropped before the copy arrives.
struct Arrival(Arc<AtomicU8>);

impl Drop for Arrival {
    fn drop(&mut self) {
        // The exchange fails if the copy arrived. Then the state must stay.
        let _ = self.0.compare_exchange(UNDER_WAY, IDLE, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Mailbox {
    /// A mailbox with a planned buffer.
    pub(crate) fn new(buffers: &Buffers<'_>, which: Which) -> Result<Self> {
        let buffer = buffers.create(which, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        Ok(Self { device: buffers.device.clone(), buffer, state: Arc::new(AtomicU8::new(IDLE)) })
    }

    /// Records copies into the buffer, unless the buffer is in use. Returns whether it recorded them.
    pub(crate) fn send(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> bool {
        if self.state.compare_exchange(IDLE, UNDER_WAY, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        copy(encoder, &self.buffer);
        let arrival = Arrival(self.state.clone());
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |result| {
            if result.is_ok() {
                arrival.0.store(READY, Ordering::Release);
            }
        });
        true
    }

    /// Whether a copy arrived that the host did not open yet.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    /// Opens a copy that arrived, and frees the buffer for the next copy.
    pub(crate) fn open<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if !self.is_ready() {
            return None;
        }
        let seen = self.buffer.slice(..).get_mapped_range().ok().map(|view| read(&view));
        // The buffers of a lost device are destroyed, and wgpu reports the end of their mapping as an error.
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        self.buffer.unmap();
        drop(scope);
        self.state.store(IDLE, Ordering::Release);
        seen
    }
}
