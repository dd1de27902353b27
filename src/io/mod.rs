//! Files: the reader and the writer of safetensors, files that appear whole or not at all, checkpoints, and the states of torch's
//! optimizers. What is in a trajectory or a table is known to the tools that read it.

pub(crate) mod atomic;
pub mod checkpoint;
#[cfg(feature = "tools")]
pub(crate) mod lines;
pub(crate) mod tensor_file;
pub(crate) mod tensor_writer;
mod torch;
