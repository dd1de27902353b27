//! Tensor completion.

use super::data::{self, Grid, Keys};
use crate::Result;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::problem::{Problem, Recipe};
use std::path::Path;

settings! {
    /// A tensor of low CP rank from some of its entries, with noise (FlowAdam, arXiv 2604.06652, table III).
    ///
    /// Entry (i, j, l) is Σ_k A_ik B_jk C_lk with factors of N(0, 1/rank); each is observed with probability `density` and then has
    /// noise. Loss, validation and test are those of [`MatrixCompletion`](super::MatrixCompletion). The defaults are the table's
    /// smallest scenario.
    TensorCompletion = "tensor",
    /// The first dimension. Default 30, the paper's smallest.
    rows: usize = 30, COUNT;
    /// The second dimension. Default 40, the paper's smallest.
    columns: usize = 40, COUNT;
    /// The third dimension. Default 50, the paper's smallest.
    layers: usize = 50, COUNT;
    /// The tensor's rank. Default 5, the paper's smallest.
    rank: usize = 5, COUNT;
    /// The model's rank minus this rank. Default 5, the authors'.
    extra_rank: usize = 5, COUNT_OR_NONE;
    /// The share of entries that are observed. Default 0.1, the paper's smallest.
    density: f64 = 0.1, POSITIVE_SHARE;
    /// The noise's standard deviation. Default 0.1, the authors'.
    noise: f64 = 0.1, NOT_NEGATIVE;
    /// The factors' initial standard deviation. Default 0.1, the authors'.
    init: f64 = 0.1, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0; the authors' FlowAdam runs have 1e-5.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the data. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for TensorCompletion {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        let sizes = [self.rows, self.columns, self.layers];
        data::cells("tensor", &sizes)?;
        let model_rank = self.rank + self.extra_rank;
        data::cells("tensor factors", &[sizes.into_iter().fold(0, usize::max), model_rank])?;
        let keys = Keys::new(self.seed);
        let factor = |which: u32| data::factor(keys.of(which), sizes[which as usize], self.rank);
        let [a, b, c] = [factor(0), factor(1), factor(2)];
        let mut grid = Grid::new(keys, 3, self.density, self.noise);
        let layers = self.layers as u32;
        for (i, a) in (0..).zip(a.chunks_exact(self.rank)) {
            let ab: Vec<f64> = b.chunks_exact(self.rank).flat_map(|b| a.iter().zip(b).map(|(a, b)| a * b)).collect();
            for (cell, [j, l], value) in data::products(&ab, &c, self.rank) {
                grid.take(i * self.columns as u32 * layers + cell, [i, j, l], value);
            }
        }
        let factors = [("a", self.rows), ("b", self.columns), ("c", self.layers)];
        grid.into_problem("tensor", factors, model_rank, (self.init, self.l2))
    }
}
