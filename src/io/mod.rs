//! Files: the reader and the writer of safetensors, atomic files, checkpoints, and the states of torch's optimizers. The tools know the
//! contents of trajectories and tables.

pub(crate) mod atomic;
pub mod checkpoint;
pub(crate) mod lean;
#[cfg(feature = "tools")]
pub(crate) mod lines;
pub(crate) mod tensor_file;
pub(crate) mod tensor_writer;
mod torch;
