//! The caller's device, buffers and recorded commands as wgpu's. wgpu takes none of them from outside: it asks the objects of the page to
//! create them, and `js/device.ts` lets those objects hand out the caller's.

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wgpu_optim::wgpu;
use wgpu_optim::{Error, Result};

use crate::fault::promise;

/// A device with its queue.
#[wasm_bindgen]
pub struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    #[cfg_attr(not(feature = "full"), allow(dead_code, reason = "the tools alone name the adapter"))]
    pub(crate) adapter: Option<wgpu::Adapter>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the device that `navigator.gpu` gives at this moment. Resolves to a [`Device`].
    pub fn open() -> Promise {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        promise(async move {
            let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await;
            let adapter = adapter.map_err(|error| Error::NoAdapter(format!(": {error}")))?;
            let opened = adapter.request_device(&wgpu::DeviceDescriptor::default()).await;
            let (device, queue) = opened.map_err(|error| Error::Wgpu(error.to_string()))?;
            Ok(Self { device, queue, adapter: Some(adapter) })
        })
    }

    /// The buffer that the device creates at this moment.
    pub fn buffer(&self, size: f64, usage: u32) -> Buffer {
        let usage = wgpu::BufferUsages::from_bits_truncate(usage);
        Buffer(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size as u64,
            usage,
            mapped_at_creation: false,
        }))
    }
}

impl Device {
    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim") })
    }

    /// Records into the encoder that the device creates at this moment.
    pub(crate) fn record(&self, record: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<()>) -> Result<Recorded> {
        let mut encoder = self.encoder();
        record(&mut encoder)?;
        Ok(Recorded { queue: self.queue.clone(), commands: Some(encoder.finish()) })
    }
}

/// A buffer of the caller.
#[wasm_bindgen]
pub struct Buffer(wgpu::Buffer);

impl Buffer {
    pub(crate) fn slice(&self, offset: f64, size: f64) -> wgpu::BufferSlice<'_> {
        let offset = offset as u64;
        self.0.slice(offset..offset + size as u64)
    }
}

/// What was recorded into an encoder. wgpu runs its own actions (the count of finished steps, the mapping of what comes back) when it
/// submits; where the caller submits, [`submitted`](Self::submitted) runs them. Freeing it counts its steps as dropped.
#[wasm_bindgen]
pub struct Recorded {
    queue: wgpu::Queue,
    commands: Option<wgpu::CommandBuffer>,
}

#[wasm_bindgen]
impl Recorded {
    /// The commands were submitted, or are submitted by this call.
    pub fn submitted(&mut self) {
        self.queue.submit(self.commands.take());
    }
}
