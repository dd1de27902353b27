//! wgpu-optim on several machines: one process per GPU on MPI.
//!
//! Every rank holds all parameters and computes the gradients of its own data. A step of [`Sharded`] replaces the gradients by their mean,
//! steps the rank's own shard on its GPU, and hands out the parameters: ZeRO stage 1. Sums of rules, the clip by global norm, the loss
//! scale and skipped steps agree on all ranks. [`States::Whole`] is plain data parallelism.
//!
//! ```no_run
//! use wgpu_optim::{AdamW, Clip, Group, Optimizer, wgpu};
//! use wgpu_optim_mpi::{Options, Sharded, World};
//!
//! let world = World::start()?;
//! # let (device, queue): (wgpu::Device, wgpu::Queue) = unimplemented!();
//! // The builder of one process, the same on every rank.
//! let mut builder = Optimizer::builder(AdamW { lr: 1e-3, ..AdamW::default() });
//! let w = builder.tensor(Group::DEFAULT, "w", &[128, 64]);
//! builder.clip(Clip::GlobalNorm(1.0));
//! let mut optimizer = Sharded::build(&builder, &world, Options::default(), &device, &queue)?;
//! optimizer.optimizer().write_param(w, &[0.5; 128 * 64])?;
//!
//! for _ in 0..3 {
//!     // In a real program, the backward pass of this rank's data writes into optimizer.optimizer().grad(w)?.
//!     optimizer.optimizer().write_grad(w, &[0.1; 128 * 64])?;
//!     optimizer.step()?;
//! }
//! optimizer.save("model.safetensors")?; // one model: loads on any number of ranks
//! # Ok::<(), wgpu_optim_mpi::Error>(())
//! ```
//!
//! Start it with `mpirun -n 4 my-program`. [`World`] says what happens when a rank fails.

pub mod checkpoint;
mod courier;
mod error;
mod exchange;
mod mean;
mod pieces;
mod sharded;
mod shards;
mod staging;
mod stats;
#[cfg(feature = "cli")]
pub mod tools;
mod totals;
mod world;

pub use courier::Traffic;
pub use error::{Error, Result};
pub use mean::Wire;
pub use sharded::{Options, Sharded, States, StepReport};
pub use world::{TIMEOUT, World};
