//! The parts that all GPU objectives share: kernels with explicit layouts, buffers, and the readback of outcomes.

use super::{Outcome, TensorSpec};
use crate::{Error, Result};
use futures::channel::oneshot;
use std::future::Future;
use std::num::NonZeroU64;

/// The kind of a kernel's binding.
#[derive(Clone, Copy)]
pub(super) enum Binding {
    /// A uniform of this many bytes at the dispatch's dynamic offset.
    Moving(u64),
    /// A uniform.
    Uniform,
    /// Read-only storage.
    Read,
    /// Storage that is written.
    Write,
}

/// A compute pipeline and the layout of its one bind group.
pub(super) struct Kernel {
    label: String,
    layout: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::ComputePipeline,
}

impl Kernel {
    pub(super) fn new(device: &wgpu::Device, name: &str, text: &str, bindings: &[Binding]) -> Self {
        let label = format!("wgpu-optim objective {name}");
        let entries: Vec<_> = bindings.iter().zip(0..).map(|(b, at)| entry(*b, at)).collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Self { label, layout, pipeline }
    }

    /// A bind group with the resources in the order of the kernel's bindings.
    pub(super) fn group(&self, device: &wgpu::Device, resources: &[wgpu::BufferBinding<'_>]) -> wgpu::BindGroup {
        let entries: Vec<_> = resources
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(buffer.clone()),
            })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&self.label),
            layout: &self.layout,
            entries: &entries,
        })
    }
}

fn entry(binding: Binding, at: u32) -> wgpu::BindGroupLayoutEntry {
    let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
    let (ty, moving) = match binding {
        Binding::Moving(bytes) => (wgpu::BufferBindingType::Uniform, Some(bytes)),
        Binding::Uniform => (wgpu::BufferBindingType::Uniform, None),
        Binding::Read => (storage(true), None),
        Binding::Write => (storage(false), None),
    };
    wgpu::BindGroupLayoutEntry {
        binding: at,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: moving.is_some(),
            min_binding_size: moving.and_then(NonZeroU64::new),
        },
        count: None,
    }
}

/// Makes labelled buffers, and refuses sizes that the device cannot bind.
#[derive(Clone, Copy)]
pub(super) struct Buffers<'a> {
    pub(super) device: &'a wgpu::Device,
}

impl Buffers<'_> {
    /// Storage of this many 4-byte words, all zero.
    pub(super) fn words(&self, role: &str, words: usize) -> Result<wgpu::Buffer> {
        let size = self.fitting(4 * words as u64)?;
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(&format!("wgpu-optim objective {role}")),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        }))
    }

    /// A buffer that holds these bytes.
    pub(super) fn filled(&self, role: &str, contents: &[u8], usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        use wgpu::util::DeviceExt as _;
        self.fitting(contents.len() as u64)?;
        Ok(self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some(&format!("wgpu-optim objective {role}")),
            contents,
            usage,
        }))
    }

    fn fitting(&self, bytes: u64) -> Result<u64> {
        let limits = self.device.limits();
        let (limit, actual) = if limits.max_buffer_size < limits.max_storage_buffer_binding_size {
            ("max_buffer_size", limits.max_buffer_size)
        } else {
            ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size)
        };
        if bytes > actual { Err(Error::Limit { limit, actual, needs: bytes }) } else { Ok(bytes) }
    }
}

/// The part of each slice that holds its tensor's elements.
pub(super) fn bindings<'a>(
    device: &wgpu::Device,
    tensors: &[TensorSpec],
    slices: &[wgpu::BufferSlice<'a>],
    role: &str,
) -> Result<Vec<wgpu::BufferBinding<'a>>> {
    if slices.len() != tensors.len() {
        return Err(Error::Usage(format!("{} slices of {role}, needs {}", slices.len(), tensors.len())));
    }
    tensors.iter().zip(slices).map(|(tensor, slice)| binding(device, tensor, *slice, role)).collect()
}

fn binding<'a>(
    device: &wgpu::Device,
    tensor: &TensorSpec,
    slice: wgpu::BufferSlice<'a>,
    role: &str,
) -> Result<wgpu::BufferBinding<'a>> {
    let (buffer, offset, bytes) = (slice.buffer(), slice.offset(), 4 * tensor.elements() as u64);
    let alignment = u64::from(device.limits().min_storage_buffer_offset_alignment);
    let problem = if slice.size() < bytes {
        format!("{role} have {} bytes, needs {bytes}", slice.size())
    } else if offset % alignment != 0 {
        format!("{role} start at byte {offset}, needs a multiple of {alignment}")
    } else if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        format!("{role} lie in a buffer with {:?}, needs STORAGE", buffer.usage())
    } else {
        return Ok(wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(bytes) });
    };
    Err(Error::Tensor { tensor: tensor.name.clone(), problem })
}

/// Refuses a slice to which a loss cannot be copied.
pub(super) fn check_loss_slot(into: wgpu::BufferSlice<'_>) -> Result<()> {
    let (size, offset) = (into.size(), into.offset());
    if size < 4 || offset % 4 != 0 || !into.buffer().usage().contains(wgpu::BufferUsages::COPY_DST) {
        let problem = format!("a loss needs 4 bytes at a multiple of 4 with COPY_DST, has {size} at {offset}");
        return Err(Error::Usage(problem));
    }
    Ok(())
}

/// Outcomes that are being read back from the GPU.
#[derive(Debug)]
pub struct Reading {
    buffer: wgpu::Buffer,
    rows: Vec<u32>,
}

/// An outcome as the kernels write it: `f32` loss, `u32` count.
pub(super) const OUTCOME_BYTES: u64 = 8;

impl Reading {
    /// Copies the outcomes from `first` on, one for each of `rows`.
    pub(super) fn record(
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        outcomes: &wgpu::Buffer,
        first: usize,
        rows: Vec<u32>,
    ) -> Self {
        let size = OUTCOME_BYTES * rows.len() as u64;
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim objective reading"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        encoder.copy_buffer_to_buffer(outcomes, OUTCOME_BYTES * first as u64, &buffer, 0, size);
        Self { buffer, rows }
    }

    /// Reads the outcomes back. Submit the encoder before this call. The future resolves while the device is polled.
    pub fn read(self) -> impl Future<Output = Result<Vec<Outcome>>> {
        let (send, receive) = oneshot::channel();
        self.buffer.map_async(wgpu::MapMode::Read, .., move |mapped| {
            drop(send.send(mapped)); // the receiver is gone if the future was dropped
        });
        async move {
            let mapped = receive.await.map_err(|_| Error::DeviceLost("an outcome was never read back".to_owned()))?;
            mapped.map_err(|e| Error::Wgpu(e.to_string()))?;
            let view = self.buffer.get_mapped_range(..).map_err(|e| Error::Wgpu(e.to_string()))?;
            let words: &[[u32; 2]] = bytemuck::cast_slice(&view);
            let outcome = |(rows, word): (&u32, &[u32; 2])| Outcome {
                rows: *rows,
                loss: f64::from(f32::from_bits(word[0])),
                correct: word[1],
            };
            Ok(self.rows.iter().zip(words).map(outcome).collect())
        }
    }
}
