//! The arena: one allocation of Burn's, in which all parameters of an optimizer lie.
//!
//! # Why an arena
//!
//! Burn places small tensors in shared pages, a parameter and a gradient in one buffer among them, and a dispatch cannot write a buffer that
//! it also reads through another binding. In the arena, which has a buffer of its own, the parameters lie in a fixed order at fixed offsets,
//! so one dispatch steps all of them. To Burn, a parameter is a contiguous tensor like any other: a range of an allocation.
//!
//! # Who may see a write
//!
//! Tensors of Burn are values: a kept clone must not change. Burn counts the handles of an allocation, and [`Arena::is_exclusive`] asks for
//! that count once the step has taken every parameter out of the module. The arena itself keeps one handle, so that
//!
//! - Burn never writes a parameter in place, as it does with a tensor that has only one handle;
//! - Burn never gives the arena's memory to another tensor while the optimizer lives;
//! - one handle, the arena's, says: nobody else has a tensor in it.
//!
//! Kernels that another thread launched and that still wait do not hold handles but bindings, which Burn counts too. Where either count says
//! that somebody else can see the memory, the step moves to a fresh arena, and the old one stays as it is for those who hold it.

use burn::backend::wgpu::CubeTensor;
use burn::cubecl::Device;
use burn::cubecl::client::Client;
use burn::cubecl::server::Handle;
use burn::tensor::{DType, Shape};

/// A range of bytes of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Where a parameter lies in the arena, and what it is to Burn.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) range: Range,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
}

/// The allocation.
pub(crate) struct Arena {
    pub(crate) client: Client,
    device: Device,
    handle: Handle,
    bytes: u64,
}

impl Arena {
    /// Allocates `bytes` on Burn's device. The content is undefined.
    pub(crate) fn new(device: Device, bytes: u64) -> Self {
        let client = device.client();
        // A buffer of its own: no gradient can lie in it, and it begins at offset 0.
        let handle = client.memory_dedicated_allocation(bytes as usize, |bytes| client.empty(bytes));
        Self { client, device, handle, bytes }
    }

    /// An arena of the same size on the same device.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.device.clone(), self.bytes)
    }

    /// The handle of the whole.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The tensor at this place.
    pub(crate) fn view(&self, home: &Home) -> CubeTensor {
        let Range { offset, bytes } = home.range;
        let handle = self.handle.clone().offset_start(offset).offset_end(self.bytes - offset - bytes);
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), home.shape.clone(), handle, home.dtype)
    }

    /// Whether the tensor is the one that [`view`](Self::view) gives for this place. It has the shape of the place.
    pub(crate) fn holds(&self, tensor: &CubeTensor, home: &Home) -> bool {
        let handle = &tensor.handle;
        handle.offset_start.unwrap_or(0) == home.range.offset
            && tensor.dtype == home.dtype
            && tensor.is_contiguous()
            && handle.clone().binding().memory.id() == self.handle.clone().binding().memory.id()
    }

    /// Whether nobody else holds a tensor in the arena, and no kernel that was launched and not submitted reads it. Call it once the launches
    /// of this thread were [flushed](Client::flush) and the tensors of the module are dropped.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.handle.can_mut() && !self.handle.memory.is_bound()
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("device", &self.device).field("handle", &self.handle).finish_non_exhaustive()
    }
}
