//! Matrix completion.

use super::data::{self, Grid, Keys};
use crate::Result;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::problem::{Problem, Recipe};
use std::path::Path;

settings! {
    /// A matrix of low rank from some of its entries, with noise (FlowAdam, arXiv 2604.06652, table I).
    ///
    /// A = U Vᵀ with factors of N(0, 1/rank); every entry is observed with probability `density` and then has noise. The loss is
    /// the mean squared error over observed entries of a model of rank `rank` + `extra_rank`. Validation takes a tenth of the other
    /// entries, without noise, test the rest. The defaults are the table's smallest scenario.
    MatrixCompletion = "matrix",
    /// Rows. Default 200, the paper's smallest.
    rows: usize = 200, COUNT;
    /// Columns. Default 300, the paper's smallest.
    columns: usize = 300, COUNT;
    /// The matrix's rank. Default 10, the paper's smallest.
    rank: usize = 10, COUNT;
    /// The model's rank minus this rank. Default 5, the authors'.
    extra_rank: usize = 5, COUNT_OR_NONE;
    /// The share of entries that are observed. Default 0.3, the paper's smallest.
    density: f64 = 0.3, POSITIVE_SHARE;
    /// The noise's standard deviation. Default 0.1, the authors'.
    noise: f64 = 0.1, NOT_NEGATIVE;
    /// The factors' initial standard deviation. Default 0.1, the authors'.
    init: f64 = 0.1, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0; the authors' FlowAdam runs have 1e-5.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the data. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for MatrixCompletion {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::cells("matrix", &[self.rows, self.columns])?;
        let model_rank = self.rank + self.extra_rank;
        data::cells("matrix factors", &[self.rows.max(self.columns), model_rank])?;
        let keys = Keys::new(self.seed);
        let u = data::factor(keys.of(0), self.rows, self.rank);
        let v = data::factor(keys.of(1), self.columns, self.rank);
        let mut grid = Grid::new(keys, 2, self.density, self.noise);
        data::products(&u, &v, self.rank).for_each(|(cell, at, value)| grid.take(cell, at, value));
        grid.into_problem("matrix", [("u", self.rows), ("v", self.columns)], model_rank, (self.init, self.l2))
    }
}
