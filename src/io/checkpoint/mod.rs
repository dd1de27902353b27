//! Checkpoints: everything that resuming needs, through safetensors.
//!
//! A file holds the numbers as the optimizer [stores](crate::options::storage) them. Its metadata hold the name of the optimizer, the settings
//! of every group, and the counters, with those of stochastic rounding. On the same device and driver, a resumed optimizer computes the same
//! bits as one that continued.
//!
//! | key | dtype and shape |
//! |---|---|
//! | `param/<tensor>` | F32, BF16 or F16, the tensor's shape |
//! | `master/<tensor>` | F32, the tensor's shape: beside parameters in half precision |
//! | `remainder/<tensor>` | U16, the tensor's shape: the low 16 bits of F32 parameters that are stored in BF16, see [`half::join`](crate::options::storage::half::join) |
//! | `<state>/<tensor>` | F32, BF16, or U8, the tensor's shape; the U8 are codes of the [map](crate::options::storage::blockwise::Map) that the metadata name |
//! | `<state>.largest/<tensor>` | F32, one per block of 256 codes: the largest magnitude of the block |
//!
//! A file with only F32 has version 1, which every release of this crate reads. Other files of one rule have version 2. A file of several
//! rules has version 3: its metadata list the rules, each with its groups and counters.
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
//! let snapshot = optimizer.snapshot(&mut encoder)?; // a copy on the GPU; training continues
//! queue.submit([encoder.finish()]);
//! let bytes = pollster::block_on(snapshot.checkpoint())?.to_bytes()?; // or `.save(path)?`
//!
//! let mut resumed = build()?;
//! Checkpoint::from_bytes("memory", bytes)?.restore(&mut resumed)?;
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

mod about;
mod arrays;
mod file;
mod fit;
mod host;
mod metadata;
mod ranges;
mod saved;

pub use super::torch::restore_torch;
pub use fit::Fit;
pub use ranges::TensorRange;
pub use saved::Checkpoint;
pub(crate) use saved::{SavedPart, Settings};
