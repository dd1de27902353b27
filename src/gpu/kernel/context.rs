//! The caller's device and queue, and the only ways in which an optimizer writes to them and submits: each reports what wgpu refuses.

use crate::gpu::build::blame::{lost, works};
use crate::gpu::build::scope::{Patience, Scope};
use crate::{Error, Result};

/// The caller's device with the label of everything that is made on it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) label: String,
    /// A buffer of the optimizer with `COPY_DST`.
    pub(crate) own: wgpu::Buffer,
}

impl Context {
    /// # Errors
    /// The device was lost.
    pub(crate) fn check(&self) -> Result<()> {
        if works(&self.device, &self.queue, &self.own) { Ok(()) } else { Err(lost()) }
    }

    /// Runs the callbacks of work that is finished. On a lost device, wgpu may panic instead.
    pub(crate) fn poll(&self) {
        if self.check().is_ok() {
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
    }

    /// Writes bytes before the next submitted work.
    ///
    /// # Errors
    /// The device was lost; the buffer was destroyed.
    pub(crate) fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check()?;
        self.scoped(|| self.queue.write_buffer(buffer, offset, bytes))
    }

    /// Submits the commands of an encoder.
    ///
    /// # Errors
    /// The device was lost; wgpu refused the commands.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<()> {
        self.check()?;
        self.scoped(|| _ = self.queue.submit([encoder.finish()]))
    }

    /// Keeps wgpu's errors from the error handler of the program. In a browser they arrive later, and go there.
    fn scoped(&self, call: impl FnOnce()) -> Result<()> {
        let scope = Scope::open(&self.device, wgpu::ErrorFilter::Validation, Patience::Now);
        call();
        scope.close().now().map_or(Ok(()), |refusal| Err(Error::Wgpu(refusal.to_string())))
    }
}
