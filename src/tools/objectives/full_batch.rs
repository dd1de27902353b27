//! Problems without mini-batches: the part that each problem defines once, for both float types and the GPU; and the part that they share
//! on the host: checks, the L2 term and the outcome.

use super::staged::Frame;
use super::{CpuObjective, GpuObjective, Measure, Outcome, Problem, TensorSpec, check};
use crate::Result;
use crate::optim::rule::Real;

/// An objective's own mathematics, on slices of checked lengths.
pub(super) trait Terms<F> {
    /// The number of data points.
    fn rows(&self) -> usize;

    /// The loss; with `grads`, also its gradient, written into `grads`. Sums of many terms are kept in f64, so that the difference of two
    /// losses is precise.
    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64;
}

/// A problem with a loss over all of its data at once. Every such problem is a [`Problem`].
pub(super) trait FullBatch: Send + Sync {
    fn name(&self) -> &'static str;

    fn tensors(&self) -> &[TensorSpec];

    fn initial(&self, seed: u64) -> Vec<Vec<f32>>;

    /// The weight of ‖θ‖² in the loss.
    fn l2(&self) -> f64;

    /// The mathematics in one float type, with the data.
    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static;

    /// The number of terms that the kernels write.
    fn term_count(&self) -> usize;

    /// Adds the kernels, which write the terms and the slope.
    fn record(&self, frame: &mut Frame<'_>) -> Result<()>;

    fn measure(&self) -> Option<Measure> {
        None
    }

    fn validation(&self, _: &[&[f32]]) -> Option<f64> {
        None
    }

    fn test(&self, _: &[&[f32]]) -> Option<f64> {
        None
    }
}

impl<P: FullBatch> Problem for P {
    fn name(&self) -> &'static str {
        FullBatch::name(self)
    }

    fn tensors(&self) -> &[TensorSpec] {
        FullBatch::tensors(self)
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        FullBatch::initial(self, seed)
    }

    fn cpu_f32(&self) -> Result<Box<dyn CpuObjective<f32> + Send>> {
        Ok(Box::new(Host::of(self, self.terms::<f32>())))
    }

    fn cpu_f64(&self) -> Result<Box<dyn CpuObjective<f64> + Send>> {
        Ok(Box::new(Host::of(self, self.terms::<f64>())))
    }

    fn gpu(&self, device: &wgpu::Device) -> Result<Box<dyn GpuObjective>> {
        let mut frame = Frame::new(device, FullBatch::tensors(self), self.term_count(), self.l2())?;
        self.record(&mut frame)?;
        frame.finish()
    }

    fn measure(&self) -> Option<Measure> {
        FullBatch::measure(self)
    }

    fn validation(&self, params: &[&[f32]]) -> Option<f64> {
        FullBatch::validation(self, params)
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        FullBatch::test(self, params)
    }
}

/// [`Terms`] as an objective of one batch, with `l2`·‖θ‖² added.
struct Host<T> {
    tensors: Vec<TensorSpec>,
    l2: f64,
    terms: T,
}

impl<T> Host<T> {
    fn of(problem: &impl FullBatch, terms: T) -> Self {
        Self { tensors: FullBatch::tensors(problem).to_vec(), l2: problem.l2(), terms }
    }

    fn outcome<F: Real>(&self, params: &[&[F]], loss: f64) -> Outcome
    where
        T: Terms<F>,
    {
        let penalty = if self.l2 == 0.0 { 0.0 } else { self.l2 * params.iter().map(|p| squares(p)).sum::<f64>() };
        Outcome { rows: self.terms.rows() as u32, loss: loss + penalty, correct: 0 }
    }
}

fn squares<F: Real>(values: &[F]) -> f64 {
    values.iter().map(|x| x.to_f64() * x.to_f64()).sum()
}

impl<F: Real, T: Terms<F>> CpuObjective<F> for Host<T> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn batches(&self) -> usize {
        1
    }

    fn set_epoch(&mut self, _: u32) {}

    fn gradient(&mut self, params: &[&[F]], batch: usize, grads: &mut [&mut [F]]) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        check::lengths(&self.tensors, grads.iter().map(|g| g.len()), "gradients")?;
        check::batch(batch, 1)?;
        let loss = self.terms.evaluate(params, Some(grads));
        if self.l2 != 0.0 {
            let twice = F::from_f64(2.0 * self.l2);
            for (grad, param) in grads.iter_mut().zip(params) {
                grad.iter_mut().zip(*param).for_each(|(g, p)| *g = *g + twice * *p);
            }
        }
        Ok(self.outcome(params, loss))
    }

    fn loss(&mut self, params: &[&[F]], batch: usize) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        check::batch(batch, 1)?;
        let loss = self.terms.evaluate(params, None);
        Ok(self.outcome(params, loss))
    }
}
