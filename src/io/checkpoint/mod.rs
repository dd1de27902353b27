//! Checkpoints: everything that resuming needs, through safetensors.
//!
//! A file holds the numbers as the optimizer [stores](crate::options::storage) them, and in its metadata the optimizer, every group's settings, and
//! the counters, those of chances among them. Resuming on the same device and driver gives the same bits as going on would have.
//!
//! | key | dtype and shape |
//! |---|---|
//! | `param/<tensor>` | F32, BF16 or F16, the tensor's shape |
//! | `master/<tensor>` | F32, the tensor's shape: beside parameters in half precision |
//! | `remainder/<tensor>` | U16, the tensor's shape: what BF16 parameters lack of F32, see [`half::join`](crate::options::storage::half::join) |
//! | `<state>/<tensor>` | F32, BF16, or U8, the tensor's shape; U8 are the codes of the [map](crate::options::storage::blockwise::Map) that the metadata name |
//! | `<state>.largest/<tensor>` | F32, one for 256 codes: the largest magnitudes of their blocks |
//!
//! What is f32 throughout is of version 1, which every release of this crate reads, the rest of version 2.
//!
//! ```
//! use wgpu_optim::{AdamW, Group, Optimizer, checkpoint::Checkpoint};
//! # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
//! # let (device, queue) = (gpu.device, gpu.queue);
//! let build = || {
//!     let mut builder = Optimizer::builder(AdamW::default());
//!     builder.tensor(Group::DEFAULT, "w", &[5]);
//!     builder.build(&device, &queue)
//! };
//! let optimizer = build()?;
//! let mut encoder = device.create_command_encoder(&Default::default());
//! let snapshot = optimizer.snapshot(&mut encoder)?; // a copy on the GPU; training goes on
//! queue.submit([encoder.finish()]);
//! let bytes = pollster::block_on(snapshot.checkpoint())?.to_bytes()?; // or `.save(path)?`
//!
//! let mut resumed = build()?;
//! Checkpoint::from_bytes("memory", bytes)?.restore(&mut resumed)?;
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

mod about;
mod arrays;
mod fields;
mod file;
mod fit;
mod host;
mod saved;

pub use super::torch::restore_torch;
pub use fit::Fit;
pub use saved::Checkpoint;
pub(crate) use saved::Settings;
