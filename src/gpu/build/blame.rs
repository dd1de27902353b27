//! Finds the tensor behind an error of wgpu: the texts of wgpu name buffers, not tensors.

use futures::FutureExt as _;

use crate::Error;
use crate::gpu::build::scope::{Patience, Scope};
use crate::gpu::build::spec::{Home, Slice, TensorInfo};

/// The error to report after wgpu refused an object with the ranges of these tensors.
pub(crate) async fn blame<'a>(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    refusal: &wgpu::Error,
    ranges: impl IntoIterator<Item = (&'a TensorInfo, &'static str, &'a Slice)>,
) -> Error {
    if is_lost(device, queue).await {
        return Error::DeviceLost("it creates no more objects".to_owned());
    }
    for (tensor, what, slice) in ranges {
        if tensor.elements > 0 && is_foreign(device, &slice.buffer).await {
            return tensor.error(format!("the buffer of its {what} belongs to another device than the optimizer"));
        }
    }
    Error::Wgpu(refusal.to_string())
}

/// As [`blame`], for a refusal that was known at once: then the answers of `blame` are, too.
pub(crate) fn blame_now<'a>(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    refusal: &wgpu::Error,
    ranges: impl IntoIterator<Item = (&'a TensorInfo, &'static str, &'a Slice)>,
) -> Error {
    blame(device, queue, refusal, ranges).now_or_never().unwrap_or_else(|| Error::Wgpu(refusal.to_string()))
}

/// The ranges that the caller bound.
pub(crate) fn bound(tensors: &[TensorInfo]) -> impl Iterator<Item = (&TensorInfo, &'static str, &Slice)> {
    tensors.iter().flat_map(|tensor| {
        let (param, grad) = match &tensor.home {
            Home::Own => (None, None),
            Home::Bound { param, grad } => (Some(param), grad.as_ref()),
        };
        let ranges = param.map(|p| ("parameters", p)).into_iter().chain(grad.map(|g| ("gradients", g)));
        ranges.map(move |(what, slice)| (tensor, what, slice))
    })
}

/// Whether the device is lost: a lost device cannot create and write a buffer. In a browser a lost device reports no errors, so that nothing
/// is blamed there.
async fn is_lost(device: &wgpu::Device, queue: &wgpu::Queue) -> bool {
    refuses(device, || {
        let usage = wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
        queue.write_buffer(&device.create_buffer(&descriptor), 0, &[0; 16]);
    })
    .await
}

async fn is_foreign(device: &wgpu::Device, buffer: &wgpu::Buffer) -> bool {
    refuses(device, || {
        let entry = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: true },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let layout = wgpu::BindGroupLayoutDescriptor { label: None, entries: &[entry] };
        let resource = wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(16) };
        let _ = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &device.create_bind_group_layout(&layout),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(resource) }],
        });
    })
    .await
}

async fn refuses(device: &wgpu::Device, attempt: impl FnOnce()) -> bool {
    let scope = Scope::open(device, wgpu::ErrorFilter::Validation, Patience::Later);
    attempt();
    scope.close().wait().await.is_some()
}
