//! The ranges of wgpu's buffers in which Burn's allocations lie.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::wgpu::{AutoCompiler, CubeTensor};
use burn::cubecl::client::Client;
use burn::cubecl::server::{BufferBinding, Handle, ServerError};
use burn::cubecl::std::tensor::into_contiguous;
use burn::cubecl::wgpu::WgpuServer;
use wgpu_optim::wgpu;

/// A range of a buffer, from `offset` on.
///
/// Burn gives memory to another tensor once every handle and binding of it is gone, and may move an allocation to another place while only
/// handles are left. This holds a binding, so the range stays what it is. Drop it after the commands that use it were submitted: Burn's later
/// work on the memory comes later in the same queue.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    _held: BufferBinding,
}

impl Place {
    /// The range of `bytes` bytes.
    pub(crate) fn slice(&self, bytes: u64) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + bytes)
    }
}

/// The tensor with its elements in order and without gaps, at a place that a dispatch can bind: a copy on the GPU if it is strided, or if its
/// range begins in the middle of a vec4.
pub(crate) fn straight(tensor: CubeTensor) -> Result<CubeTensor, String> {
    if tensor.meta.is_tiled() {
        return Err("it is stored in the tiles of a matrix product: store it in rows".to_owned());
    }
    if !tensor.is_contiguous() {
        // `CubeTensor::copy` would keep the order in memory.
        let (client, device, dtype) = (tensor.client.clone(), tensor.device.clone(), tensor.dtype);
        let straight = into_contiguous(&client, tensor.binding(), dtype_to_storage_type(dtype));
        return Ok(CubeTensor::new(client, straight.handle, *straight.metadata, device, dtype));
    }
    let fits = tensor.handle.offset_start.unwrap_or(0).is_multiple_of(VEC4);
    Ok(if fits { tensor } else { tensor.copy() })
}

/// The engine's ranges begin at multiples of this many bytes.
const VEC4: u64 = 16;

/// Submits what Burn has recorded, and finds the places of allocations. Burn's work on them is then in the queue, ahead of everything that is
/// submitted after this call. Nothing here waits for the GPU.
///
/// # Errors
/// The device is not wgpu's, or Burn failed to compute one of them.
pub(crate) fn places(client: &Client, handles: Vec<Handle>) -> Result<Vec<Place>, String> {
    let mut streams = Vec::new();
    for handle in &handles {
        if !streams.contains(&handle.stream) {
            streams.push(handle.stream);
        }
    }
    // One visit to the device's thread for all of them.
    let visit = client.exclusive(move || {
        let found = handles.into_iter().map(|handle| place(client, handle)).collect::<Result<Vec<_>, _>>()?;
        client.flush()?;
        // What was computed on other threads waits in streams of its own.
        for stream in streams {
            stream.executes(|| client.flush())?;
        }
        Ok(found)
    });
    visit.and_then(|found: Result<Vec<Place>, ServerError>| found).map_err(|error| error.to_string())
}

fn place(client: &Client, handle: Handle) -> Result<Place, ServerError> {
    let held = handle.clone().binding();
    let managed = client.get_resource::<WgpuServer<AutoCompiler>>(handle)?;
    let resource = managed.resource();
    Ok(Place { buffer: resource.buffer.clone(), offset: resource.offset, _held: held })
}
