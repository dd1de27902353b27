//! Fitting a low-rank model to observed entries: what matrices, tensors, outliers and ratings differ in is their data.

use super::{Entries, Factors, Model, normal_tensors};
use crate::Result;
use crate::optim::rule::Real;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::staged::Frame;
use crate::tools::objectives::{Measure, TensorSpec};
use std::sync::Arc;

/// Entries with their values.
#[derive(Debug, Default)]
pub(in crate::tools::objectives) struct HeldOut<const D: usize> {
    pub(in crate::tools::objectives) at: Vec<[u32; D]>,
    pub(in crate::tools::objectives) values: Vec<f32>,
}

impl<const D: usize> HeldOut<D> {
    pub(in crate::tools::objectives) fn push(&mut self, at: [u32; D], value: f32) {
        self.at.push(at);
        self.values.push(value);
    }

    /// The root of the mean squared error of the model; `None` without entries.
    fn rmse(&self, params: &[&[f32]], rank: usize) -> Option<f64> {
        let squares = self.at.iter().zip(&self.values).map(|(at, value)| {
            let row = |d: usize| &params[d][at[d] as usize * rank..][..rank];
            let model: f64 = (0..rank).map(|k| (0..D).map(|d| f64::from(row(d)[k])).product::<f64>()).sum();
            (model - f64::from(*value)).powi(2)
        });
        (!self.at.is_empty()).then(|| (squares.sum::<f64>() / self.at.len() as f64).sqrt())
    }
}

/// How an entry's residual counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools::objectives) enum Observed {
    /// Squared.
    Squared,
    /// Huber's loss with δ = 1: r²/2 up to 1, |r| - 1/2 beyond.
    Huber,
}

impl Observed {
    #[inline(always)]
    fn term<F: Real>(self, r: F) -> F {
        let half = F::from_f64(0.5);
        match self {
            Self::Squared => r * r,
            Self::Huber if r.abs() > F::one() => r.abs() - half,
            Self::Huber => half * r * r,
        }
    }

    #[inline(always)]
    fn slope<F: Real>(self, r: F) -> F {
        match self {
            Self::Squared => r + r,
            Self::Huber if r.abs() > F::one() => r.signum(),
            Self::Huber => r,
        }
    }
}

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

/// The host's form in one float.
struct Fit<F, const D: usize> {
    factors: Factors<F, D>,
    values: Vec<F>,
    /// Each entry's model, then its slope.
    slopes: Vec<F>,
    observed: Observed,
}

/// Terms that are added in their own float before the sum goes on in f64.
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
