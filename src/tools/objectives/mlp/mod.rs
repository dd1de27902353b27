//! A multilayer perceptron with softmax cross-entropy, averaged over the mini-batch. It takes its rows from a
//! [`Split`](super::Split), whatever their source.

mod batches;
mod cpu;
mod gpu;
mod memory;
mod quantize;
mod shape;

pub use cpu::CpuMlp;
pub(super) use cpu::measure;
pub use gpu::GpuMlp;
pub(super) use gpu::shaders;
pub use quantize::Bits;
pub use shape::{Activation, Mlp};
