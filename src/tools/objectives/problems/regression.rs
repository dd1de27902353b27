//! Regression with an L1 penalty.

use super::data::{self, Keys};
use crate::Result;
use crate::optim::rule::Real;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::staged::{Frame, Use, When, join};
use crate::tools::objectives::vector::sign;
use crate::tools::objectives::{Measure, TensorSpec, linear, random};
use std::path::Path;

settings! {
    /// Regression with an L1 penalty on sparse coefficients: mean (x·w - y)² + `l1`·‖w‖₁ (S-Adam, arXiv 2605.29547).
    ///
    /// x of N(0, 1); a share `density` of the true coefficients is of N(0, 1), the others are 0; y = x·w* + noise. Validation and
    /// test have as many rows each, without noise. At a coefficient of 0 the penalty's slope is taken as 0.
    L1Regression = "l1",
    /// The number of coefficients. Default 1000, the authors'.
    features: usize = 1000, COUNT;
    /// The number of rows. Default 500, the authors'.
    rows: usize = 500, COUNT;
    /// The share of true coefficients that are not 0. Default 0.05, the authors'.
    density: f64 = 0.05, SHARE;
    /// The noise's standard deviation. Default 0.1, the authors'.
    noise: f64 = 0.1, NOT_NEGATIVE;
    /// The weight of ‖w‖₁. Default 0.5, the authors'.
    l1: f64 = 0.5, NOT_NEGATIVE;
    /// The initial standard deviation. Default 0.01, our choice.
    init: f64 = 0.01, NOT_NEGATIVE;
    /// The weight of ‖w‖² in the loss. Default 0.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the data. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for L1Regression {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::cells("l1", &[3, self.rows, self.features])?;
        let keys = Keys::new(self.seed);
        let coefficient = |i| {
            let chosen = random::unit(keys.of(0), i) < self.density as f32;
            if chosen { random::normal(keys.of(1), i) } else { 0.0 }
        };
        let truth: Vec<f64> = (0..self.features as u32).map(coefficient).collect();
        let rows = |which: u32, noise: f64| {
            let (x_key, noise_key) = (keys.of(2 * which), keys.of(2 * which + 1));
            let numbers = (self.rows * self.features) as u32;
            let matrix: Vec<f32> = (0..numbers).map(|i| random::normal(x_key, i) as f32).collect();
            let target = |(row, x): (u32, &[f32])| {
                let exact: f64 = x.iter().zip(&truth).map(|(x, w)| f64::from(*x) * w).sum();
                (exact + noise * random::normal(noise_key, row)) as f32
            };
            let targets = (0..).zip(matrix.chunks_exact(self.features)).map(target).collect();
            linear::Rows { matrix, targets, weights: vec![(1.0 / self.rows as f64) as f32; self.rows] }
        };
        Ok(Box::new(Sparse {
            tensors: vec![TensorSpec { name: "w".to_owned(), shape: vec![self.features] }],
            train: rows(1, self.noise),
            validation: rows(2, 0.0),
            test: rows(3, 0.0),
            settings: *self,
        }))
    }
}

struct Sparse {
    tensors: Vec<TensorSpec>,
    train: linear::Rows,
    validation: linear::Rows,
    test: linear::Rows,
    settings: L1Regression,
}

const ABSOLUTE: &str = include_str!("../../../../shaders/objectives/absolute.wgsl");

pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![("absolute", join(&[ABSOLUTE]))]
}

impl FullBatch for Sparse {
    fn name(&self) -> &'static str {
        "l1"
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        normal_tensors(&self.tensors, self.settings.init, seed)
    }

    fn l2(&self) -> f64 {
        self.settings.l2
    }

    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static {
        Penalised { rows: linear::Host::new(&self.train), l1: self.settings.l1 }
    }

    fn term_count(&self) -> usize {
        self.train.count() + self.settings.features
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let (rows, features) = (self.train.count(), self.settings.features);
        let (point, slope, terms) = (frame.point.clone(), frame.slope.clone(), frame.terms.clone());
        linear::record(frame, &self.train, &point, &slope)?;
        let words = [rows as u32, features as u32, (self.settings.l1 as f32).to_bits()];
        let uses = [Use::Read(&point), Use::Write(&slope), Use::Write(&terms)];
        frame.stage(When::Always, ("absolute", &join(&[ABSOLUTE])), &words, &uses, features)
    }

    fn measure(&self) -> Option<Measure> {
        Some(Measure::RMSE)
    }

    fn validation(&self, params: &[&[f32]]) -> Option<f64> {
        Some(self.validation.rmse(params[0]))
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        Some(self.test.rmse(params[0]))
    }
}

/// The host's form in one float type.
struct Penalised<F> {
    rows: linear::Host<F>,
    l1: f64,
}

impl<F: Real> Terms<F> for Penalised<F> {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        let grad = grads.map(|grads| &mut *grads[0]);
        let penalty = self.l1 * params[0].iter().map(|w| w.abs().to_f64()).sum::<f64>();
        let Some(grad) = grad else { return self.rows.evaluate(params[0], None) + penalty };
        let loss = self.rows.evaluate(params[0], Some(grad));
        let l1 = F::from_f64(self.l1);
        for (g, w) in grad.iter_mut().zip(params[0]) {
            *g = *g + l1 * sign(*w);
        }
        loss + penalty
    }
}
