//! The interface of an objective: its tensors, the outcome of an evaluation, and its two forms, on the GPU and on the host.

use crate::Result;

/// A trainable tensor's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor's name, `layer1.weight` for example.
    pub name: String,
    /// The tensor's shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The outcome of an evaluation of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The number of rows.
    pub rows: u32,
    /// The mean loss of these rows.
    pub loss: f64,
    /// The number of rows that were classified correctly.
    pub correct: u32,
}

impl Outcome {
    /// The outcome of all rows together.
    #[must_use]
    pub fn total(parts: &[Self]) -> Self {
        let rows: u32 = parts.iter().map(|p| p.rows).sum();
        let loss: f64 = parts.iter().map(|p| p.loss * f64::from(p.rows)).sum();
        Self { rows, loss: loss / f64::from(rows.max(1)), correct: parts.iter().map(|p| p.correct).sum() }
    }

    /// The share of rows that were classified correctly.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        f64::from(self.correct) / f64::from(self.rows.max(1))
    }
}

/// An objective with parameters and gradients on the GPU. Its methods neither submit nor wait.
pub trait GpuObjective {
    /// The tensors, in the order in which their slices are bound.
    fn tensors(&self) -> &[TensorSpec];

    /// Binds each tensor's parameters and gradients. Slices start at the device's storage offset alignment and hold the
    /// tensor's elements at least; the objective does not touch bytes behind the elements.
    ///
    /// # Errors
    /// A slice does not fit; the error names the tensor. The earlier binding stays.
    fn bind(&mut self, params: &[wgpu::BufferSlice<'_>], grads: &[wgpu::BufferSlice<'_>]) -> Result<()>;

    /// The number of mini-batches of an epoch.
    fn batches(&self) -> usize;

    /// Records that later batches in the encoder come in this epoch's order. Without this call, they come in the order of epoch 0.
    fn record_epoch(&self, encoder: &mut wgpu::CommandEncoder, epoch: u32);

    /// Writes a batch's mean gradients into the bound slices.
    ///
    /// # Errors
    /// Nothing is bound, or the batch does not exist.
    fn record_gradient(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) -> Result<()>;

    /// Evaluates a batch and copies its mean loss, one `f32`, to the start of `into`.
    ///
    /// # Errors
    /// Nothing is bound, the batch does not exist, or `into` is not a valid copy target.
    fn record_loss(&self, encoder: &mut wgpu::CommandEncoder, batch: usize, into: wgpu::BufferSlice<'_>) -> Result<()>;
}

/// An objective with parameters and gradients in slices on the host.
pub trait CpuObjective<F> {
    /// The tensors, in the order in which their slices are passed.
    fn tensors(&self) -> &[TensorSpec];

    /// The number of mini-batches of an epoch.
    fn batches(&self) -> usize;

    /// Sets the epoch: later batches come in its order. Without this call, they come in the order of epoch 0.
    fn set_epoch(&mut self, epoch: u32);

    /// Writes a batch's mean gradients into `grads`.
    ///
    /// # Errors
    /// A slice has a wrong length (the error names the tensor), or the batch does not exist.
    fn gradient(&mut self, params: &[&[F]], batch: usize, grads: &mut [&mut [F]]) -> Result<Outcome>;

    /// Evaluates a batch.
    ///
    /// # Errors
    /// A slice has a wrong length (the error names the tensor), or the batch does not exist.
    fn loss(&mut self, params: &[&[F]], batch: usize) -> Result<Outcome>;
}
