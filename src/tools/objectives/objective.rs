//! What an objective is: its tensors, what an evaluation finds, and its two forms, on the GPU and on the host.

use crate::Result;

/// A trainable tensor's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, `layer1.weight` for example.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// The number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What an evaluation of some rows found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How many rows.
    pub rows: u32,
    /// The mean loss of these rows.
    pub loss: f64,
    /// How many rows were classified correctly.
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

/// An objective whose parameters and gradients live on the GPU. Nothing here submits or waits.
pub trait GpuObjective {
    /// The tensors, in the order in which their slices are bound.
    fn tensors(&self) -> &[TensorSpec];

    /// Binds each tensor's parameters and gradients. Slices start at the device's storage offset alignment and hold the
    /// tensor's elements at least; what lies behind these is not touched.
    ///
    /// # Errors
    /// A slice that does not fit, by the tensor's name; what was bound before stays.
    fn bind(&mut self, params: &[wgpu::BufferSlice<'_>], grads: &[wgpu::BufferSlice<'_>]) -> Result<()>;

    /// The number of mini-batches of an epoch.
    fn batches(&self) -> usize;

    /// From here on in the encoder, batches come in this epoch's order. Without it, epoch 0's.
    fn record_epoch(&self, encoder: &mut wgpu::CommandEncoder, epoch: u32);

    /// Writes a batch's mean gradients over the bound ones.
    ///
    /// # Errors
    /// Nothing is bound, or there is no such batch.
    fn record_gradient(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) -> Result<()>;

    /// Evaluates a batch and copies its mean loss, one `f32`, to the start of `into`.
    ///
    /// # Errors
    /// Nothing is bound, there is no such batch, or `into` cannot be copied to.
    fn record_loss(&self, encoder: &mut wgpu::CommandEncoder, batch: usize, into: wgpu::BufferSlice<'_>) -> Result<()>;
}

/// An objective whose parameters and gradients are slices in memory.
pub trait CpuObjective<F> {
    /// The tensors, in the order in which their slices are passed.
    fn tensors(&self) -> &[TensorSpec];

    /// The number of mini-batches of an epoch.
    fn batches(&self) -> usize;

    /// From here on batches come in this epoch's order. Without it, epoch 0's.
    fn set_epoch(&mut self, epoch: u32);

    /// Writes a batch's mean gradients over `grads`.
    ///
    /// # Errors
    /// A slice of a wrong length, by the tensor's name, or there is no such batch.
    fn gradient(&mut self, params: &[&[F]], batch: usize, grads: &mut [&mut [F]]) -> Result<Outcome>;

    /// Evaluates a batch.
    ///
    /// # Errors
    /// A slice of a wrong length, by the tensor's name, or there is no such batch.
    fn loss(&mut self, params: &[&[F]], batch: usize) -> Result<Outcome>;
}
