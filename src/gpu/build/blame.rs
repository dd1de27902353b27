//! Whether a device works, and whether a buffer or a queue is its own. wgpu answers neither, and what it does with an object of another
//! device ends in the error handler of that device, which panics unless the program set another. So each question provokes a harmless
//! error and looks where wgpu reports it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt as _;

use crate::gpu::build::scope::{Patience, Scope};
use crate::gpu::build::spec::{Home, Mask, Slice, Spec, TensorInfo};
use crate::{Error, Result};

/// The state of a buffer, as wgpu tells it without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It cannot be used by commands now, or it does not tell.
    Other,
    Unmapped,
    Destroyed,
    /// wgpu could not create it.
    Invalid,
}

impl State {
    fn of(buffer: &wgpu::Buffer) -> Self {
        if cfg!(target_arch = "wasm32") {
            return Self::Other;
        }
        let Err(refusal) = buffer.slice(..buffer.size().min(4)).get_mapped_range() else { return Self::Other };
        let refusal = refusal.to_string();
        // The texts are wgpu's; the tests of this file pin them.
        if refusal.contains("destroyed") {
            Self::Destroyed
        } else if refusal.contains("is invalid") {
            Self::Invalid
        } else if refusal.contains("is not mapped") {
            Self::Unmapped
        } else {
            Self::Other
        }
    }
}

/// Whether this device reports the error that `attempt` provokes. An object of another device reports to that device, whose handler panics
/// by default; a number of another instance may not be known here, and then wgpu panics too. In a browser, errors arrive later, and the
/// browser itself refuses objects of another device.
fn answers(device: &wgpu::Device, attempt: impl FnOnce()) -> bool {
    if cfg!(target_arch = "wasm32") {
        return true;
    }
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // A panic here comes from wgpu, which holds no lock that it would leave behind.
    let _ = catch_unwind(AssertUnwindSafe(attempt));
    scope.pop().now_or_never().flatten().is_some()
}

/// Whether the queue is of this device, and the device works. `own` is a buffer of the device with `COPY_DST`; it stays as it is.
pub(crate) fn works(device: &wgpu::Device, queue: &wgpu::Queue, own: &wgpu::Buffer) -> bool {
    // A write that begins inside of a word is refused before it changes anything. On a lost device, wgpu refuses it without a word.
    answers(device, || queue.write_buffer(own, 1, &[]))
}

/// What is wrong with a buffer of the caller, for a device that works.
pub(crate) fn fault(device: &wgpu::Device, buffer: &wgpu::Buffer) -> Option<&'static str> {
    let mappable = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE;
    match State::of(buffer) {
        State::Destroyed => Some("was destroyed"),
        State::Invalid => Some("was never created: wgpu refused it"),
        // To unmap a buffer that is not mapped is an error and nothing else. A buffer with a map under way would lose it.
        State::Unmapped if !buffer.usage().intersects(mappable) => {
            let own = answers(device, || buffer.unmap());
            (!own).then_some("belongs to another device than the optimizer, or to another wgpu instance")
        }
        State::Unmapped | State::Other => None,
    }
}

/// Whether the buffer was destroyed.
pub(crate) fn is_destroyed(buffer: &wgpu::Buffer) -> bool {
    State::of(buffer) == State::Destroyed
}

/// The error of a buffer with numbers of a tensor that was destroyed after the optimizer was built.
pub(crate) fn destroyed(tensor: &TensorInfo, what: &str) -> Error {
    tensor.error(format!(
        "the buffer of its {what} was destroyed: build the optimizer again with a buffer that lives as long"
    ))
}

/// The error of a device that was lost or destroyed.
pub(crate) fn lost() -> Error {
    Error::DeviceLost("it takes no more work; open another device, build again, and restore a checkpoint".to_owned())
}

/// Checks that the device works and that the queue is its own.
///
/// # Errors
/// The device was lost; the queue belongs to another device.
pub(crate) fn check_device(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
    if cfg!(target_arch = "wasm32") {
        return Ok(());
    }
    let usage = wgpu::BufferUsages::COPY_DST;
    let own = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false });
    if State::of(&own) == State::Invalid {
        return Err(lost());
    }
    if works(device, queue, &own) {
        return Ok(());
    }
    let problem = "the queue belongs to another device, or to another wgpu instance: give the queue that request_device returned \
                   together with the device";
    Err(Error::Usage(problem.to_owned()))
}

/// Checks the buffers that the caller bound.
///
/// # Errors
/// A buffer was destroyed, or belongs to another device.
pub(crate) fn check_bound(device: &wgpu::Device, spec: &Spec) -> Result<()> {
    let mut checked = std::collections::HashSet::new();
    for (tensor, what, slice) in bound(&spec.tensors) {
        if tensor.elements > 0 && checked.insert(&slice.buffer) {
            tensor.check_buffer(device, what, &slice.buffer)?;
        }
    }
    for set in &spec.rows.sets {
        if let Mask::Bound(mask) = &set.mask
            && let Some(fault) = fault(device, &mask.buffer)
        {
            return Err(Error::Usage(format!("row set `{}`: the buffer of its mask {fault}", set.name)));
        }
    }
    Ok(())
}

/// The ranges that the caller bound.
fn bound(tensors: &[TensorInfo]) -> impl Iterator<Item = (&TensorInfo, &'static str, &Slice)> {
    tensors.iter().flat_map(|tensor| {
        let (param, grad) = match &tensor.home {
            Home::Own => (None, None),
            Home::Bound { param, grad } => (Some(param), grad.as_ref()),
        };
        let ranges = param.map(|p| ("parameters", p)).into_iter().chain(grad.map(|g| ("gradients", g)));
        ranges.map(move |(what, slice)| (tensor, what, slice))
    })
}

/// The error to report after a device refused an optimizer with the buffers of this specification. Natively [`check_bound`] came before, so
/// that the refusal has another reason. A browser tells of a buffer of another device only here.
pub(crate) async fn blame(device: &wgpu::Device, refusal: &wgpu::Error, spec: &Spec) -> Error {
    for (tensor, what, slice) in bound(&spec.tensors) {
        if tensor.elements > 0 && is_foreign(device, &slice.buffer).await {
            return tensor.error(format!("the buffer of its {what} belongs to another device than the optimizer"));
        }
    }
    Error::Wgpu(refusal.to_string())
}

async fn is_foreign(device: &wgpu::Device, buffer: &wgpu::Buffer) -> bool {
    let scope = Scope::open(device, wgpu::ErrorFilter::Validation, Patience::Later);
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
    scope.close().wait().await.is_some()
}

impl TensorInfo {
    /// Checks that a buffer with numbers of the tensor was not destroyed, and is one of the device. `what`: "parameters" or "gradients".
    pub(crate) fn check_buffer(&self, device: &wgpu::Device, what: &str, buffer: &wgpu::Buffer) -> Result<()> {
        fault(device, buffer).map_or(Ok(()), |fault| Err(self.error(format!("the buffer of its {what} {fault}"))))
    }
}

#[cfg(all(test, feature = "tools"))]
mod tests {
    use super::*;

    fn buffer(device: &wgpu::Device, usage: wgpu::BufferUsages, mapped_at_creation: bool) -> wgpu::Buffer {
        device.create_buffer(&wgpu::BufferDescriptor { label: Some("b"), size: 16, usage, mapped_at_creation })
    }

    /// The texts of wgpu in which [`State`] reads, and that a question changes nothing.
    #[test]
    fn a_buffer_tells_its_state() {
        let gpu = pollster::block_on(crate::tools::adapter::Selector::default().open()).expect("an adapter");
        let storage = buffer(&gpu.device, wgpu::BufferUsages::STORAGE, false);
        assert_eq!(State::of(&storage), State::Unmapped);
        assert_eq!(fault(&gpu.device, &storage), None);
        storage.destroy();
        assert_eq!(State::of(&storage), State::Destroyed);
        let mapped = buffer(&gpu.device, wgpu::BufferUsages::STORAGE, true);
        assert_eq!(fault(&gpu.device, &mapped), None);
        let view = mapped.slice(..).get_mapped_range_mut().expect("it is still mapped");
        assert_eq!(State::of(&mapped), State::Other);
        drop(view);
        mapped.unmap();
        assert_eq!(State::of(&mapped), State::Unmapped);
        gpu.device.destroy();
        assert_eq!(State::of(&buffer(&gpu.device, wgpu::BufferUsages::STORAGE, false)), State::Invalid);
    }
}
