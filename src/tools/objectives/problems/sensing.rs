//! Matrix sensing.

use super::data::{self, Keys};
use crate::Result;
use crate::optim::rule::Real;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::low_rank::{Entries, Factors, Model};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::staged::Frame;
use crate::tools::objectives::{Measure, TensorSpec, linear, random};
use std::path::Path;
use std::sync::Arc;

settings! {
    /// A matrix of low rank from random projections of it (arXiv 2608.05136, by FlowAdam's author).
    ///
    /// X* = U Vᵀ with factors of N(0, 1/rank); y_i = ⟨A_i, X*⟩ with A_i of N(0, 1), without noise. The loss is the mean of
    /// (⟨A_i, U Vᵀ⟩ - y_i)² over a model of `width` columns; test is ‖U Vᵀ - X*‖ / ‖X*‖. How the authors scaled A and X* is not
    /// known: both are our choice.
    Sensing = "sensing",
    /// Rows and columns. Default 40, the author's.
    size: usize = 40, COUNT;
    /// The matrix's rank. Default 3, the author's.
    rank: usize = 3, COUNT;
    /// The model's rank. Default 40, the author's: the full rank.
    width: usize = 40, COUNT;
    /// The number of projections. Default 462, the author's: twice the degrees of freedom.
    measurements: usize = 462, COUNT;
    /// The factors' initial standard deviation. Default 1e-3, the author's.
    init: f64 = 1e-3, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0, the author's.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the data. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for Sensing {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        let size = self.size;
        let cells = data::cells("sensing", &[size, size])?;
        let numbers = data::cells("sensing projections", &[self.measurements, cells])?;
        data::cells("sensing factors", &[size, self.width.max(self.rank)])?;
        let keys = Keys::new(self.seed);
        let [u, v] = [0, 1].map(|which| data::factor(keys.of(which), size, self.rank));
        let (at, truth): (Vec<_>, Vec<_>) = data::products(&u, &v, self.rank).map(|(_, at, value)| (at, value)).unzip();
        let key = keys.of(2);
        let matrix: Vec<f32> = (0..numbers).map(|i| random::normal(key, i as u32) as f32).collect();
        let project = |a: &[f32]| a.iter().zip(&truth).map(|(a, x)| f64::from(*a) * x).sum::<f64>() as f32;
        let targets: Vec<f32> = matrix.chunks_exact(cells).map(project).collect();
        let weights = vec![(1.0 / self.measurements as f64) as f32; self.measurements];
        let entries = Entries::new([size, size], self.width, at);
        Ok(Box::new(Sensed {
            tensors: entries.tensors(["u", "v"]),
            entries: Arc::new(entries),
            rows: linear::Rows { matrix, targets, weights },
            truth,
            settings: *self,
        }))
    }
}

struct Sensed {
    tensors: Vec<TensorSpec>,
    entries: Arc<Entries<2>>,
    rows: linear::Rows,
    truth: Vec<f64>,
    settings: Sensing,
}

impl FullBatch for Sensed {
    fn name(&self) -> &'static str {
        "sensing"
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
        Projections {
            factors: Factors::new(self.entries.clone()),
            rows: linear::Host::new(&self.rows),
            models: vec![F::zero(); self.truth.len()],
            slopes: vec![F::zero(); self.truth.len()],
        }
    }

    fn term_count(&self) -> usize {
        self.rows.count()
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let model = Model::new(frame, &self.entries)?;
        let models = frame.make.words("models", self.truth.len())?;
        model.predict(frame, &models)?;
        linear::record(frame, &self.rows, &models, &model.slopes)?;
        model.gradient(frame)
    }

    fn measure(&self) -> Option<Measure> {
        Some(Measure::RECOVERY_ERROR)
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let [u, v] = [wide(params[0]), wide(params[1])];
        let models = data::products(&u, &v, self.settings.width).map(|(_, _, model)| model);
        let off: f64 = models.zip(&self.truth).map(|(model, truth)| (model - truth).powi(2)).sum();
        let whole: f64 = self.truth.iter().map(|x| x * x).sum();
        Some((off / whole).sqrt())
    }
}

/// The host's form in one float type.
struct Projections<F> {
    factors: Factors<F, 2>,
    rows: linear::Host<F>,
    models: Vec<F>,
    slopes: Vec<F>,
}

impl<F: Real> Terms<F> for Projections<F> {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        self.factors.load(params);
        self.factors.predict(&mut self.models);
        let Some(grads) = grads else { return self.rows.evaluate(&self.models, None) };
        let loss = self.rows.evaluate(&self.models, Some(&mut self.slopes));
        self.factors.gradient(&self.slopes, grads);
        loss
    }
}
