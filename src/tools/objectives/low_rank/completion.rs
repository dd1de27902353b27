//! Fitting a low-rank model to observed entries. Matrices, tensors, outliers and ratings differ only in their data.

use super::entries::{Entries, HeldOut};
use super::gpu::Model;
use super::host::Factors;
use super::observed::Observed;
use crate::Result;
use crate::optim::rule::Real;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::staged::Frame;
use crate::tools::objectives::{Measure, TensorSpec};
use std::sync::Arc;

/// A low-rank model fitted to the mean loss over observed entries.
pub(in crate::tools::objectives) struct Completion<const D: usize> {
    pub(in crate::tools::objectives) name: &'static str,
    pub(in crate::tools::objectives) tensors: Vec<TensorSpec>,
    pub(in crate::tools::objectives) entries: Arc<Entries<D>>,
    pub(in crate::tools::objectives) values: Vec<f32>,
    pub(in crate::tools::objectives) observed: Observed,
    /// The factors' initial standard deviation.
    pub(in crate::tools::objectives) init: f64,
    pub(in crate::tools::objectives) l2: f64,
    pub(in crate::tools::objectives) validation: HeldOut<D>,
    pub(in crate::tools::objectives) test: HeldOut<D>,
}

impl<const D: usize> FullBatch for Completion<D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        normal_tensors(&self.tensors, self.init, seed)
    }

    fn l2(&self) -> f64 {
        self.l2
    }

    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static {
        Fit {
            factors: Factors::<F, D>::new(self.entries.clone()),
            values: self.values.iter().map(|x| F::from_f64(f64::from(*x))).collect(),
            slopes: vec![F::zero(); self.values.len()],
            observed: self.observed,
        }
    }

    fn term_count(&self) -> usize {
        self.values.len()
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let model = Model::new(frame, &self.entries)?;
        model.fit(frame, self.observed, &self.values)?;
        model.gradient(frame)
    }

    fn measure(&self) -> Option<Measure> {
        Some(Measure::RMSE)
    }

    fn validation(&self, params: &[&[f32]]) -> Option<f64> {
        self.validation.rmse(params, self.entries.rank)
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        self.test.rmse(params, self.entries.rank)
    }
}

/// The host's form in one float type.
struct Fit<F, const D: usize> {
    factors: Factors<F, D>,
    values: Vec<F>,
    /// For each entry the model's value, then the slope.
    slopes: Vec<F>,
    observed: Observed,
}

/// The number of terms that are added in their own float type before the sum continues in f64.
const RUN: usize = 32;

impl<F: Real, const D: usize> Terms<F> for Fit<F, D> {
    fn rows(&self) -> usize {
        self.values.len()
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        self.factors.load(params);
        self.factors.predict(&mut self.slopes);
        let (count, observed) = (self.values.len() as f64, self.observed);
        let scale = F::from_f64(1.0 / count);
        let mut loss = 0.0;
        for (slopes, values) in self.slopes.chunks_mut(RUN).zip(self.values.chunks(RUN)) {
            let mut sum = F::zero();
            for (slope, value) in slopes.iter_mut().zip(values) {
                let r = *slope - *value;
                sum = sum + observed.term(r);
                *slope = observed.slope(r) * scale;
            }
            loss += sum.to_f64();
        }
        if let Some(grads) = grads {
            self.factors.gradient(&self.slopes, grads);
        }
        loss / count
    }
}
