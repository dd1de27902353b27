//! Robust factorisation.

use super::data::{self, Keys, VALIDATION};
use crate::Result;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::low_rank::{Completion, Entries, HeldOut, Observed};
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::random;
use std::path::Path;
use std::sync::Arc;

settings! {
    /// A matrix of low rank under noise and gross errors, by Huber's loss (FlowAdam, arXiv 2604.06652, table II).
    ///
    /// M = L + S + noise: L = U Vᵀ with factors of N(0, 1/rank), S of `magnitude`·N(0, 1) at a share of the entries. The loss is the
    /// mean of Huber's with δ = 1 over all entries of a model of rank `rank` + `extra_rank`. Test is the error to L; validation
    /// takes a tenth of the entries, each observed a second time with noise of its own. The defaults are the table's smallest.
    Robust = "robust",
    /// Rows. Default 60, the paper's smallest.
    rows: usize = 60, COUNT;
    /// Columns. Default 80, the paper's smallest.
    columns: usize = 80, COUNT;
    /// The rank of L. Default 5, the paper's smallest.
    rank: usize = 5, COUNT;
    /// The model's rank minus this rank. Default 3, the authors'.
    extra_rank: usize = 3, COUNT_OR_NONE;
    /// The share of entries with a gross error. Default 0.2, the paper's smallest.
    outliers: f64 = 0.2, SHARE;
    /// The gross errors' standard deviation. Default 4, the paper's smallest.
    magnitude: f64 = 4.0, NOT_NEGATIVE;
    /// The noise's standard deviation. Default 0.08, the paper's smallest.
    noise: f64 = 0.08, NOT_NEGATIVE;
    /// The factors' initial standard deviation. Default 0.1, the authors' for matrices.
    init: f64 = 0.1, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0; the authors' FlowAdam runs have 1e-5.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of the data. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for Robust {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::cells("robust", &[self.rows, self.columns])?;
        let model_rank = self.rank + self.extra_rank;
        data::cells("robust factors", &[self.rows.max(self.columns), model_rank])?;
        let keys = Keys::new(self.seed);
        let u = data::factor(keys.of(0), self.rows, self.rank);
        let v = data::factor(keys.of(1), self.columns, self.rank);
        let (mut observed, mut validation, mut test) = Default::default();
        for (cell, at, low) in data::products(&u, &v, self.rank) {
            let normal = |which| random::normal(keys.of(which), cell);
            let chosen = |which, share| random::unit(keys.of(which), cell) < share;
            let gross = if chosen(2, self.outliers as f32) { self.magnitude * normal(3) } else { 0.0 };
            HeldOut::push(&mut observed, at, (low + gross + self.noise * normal(4)) as f32);
            HeldOut::push(&mut test, at, low as f32);
            if chosen(5, VALIDATION) {
                HeldOut::push(&mut validation, at, (low + self.noise * normal(6)) as f32);
            }
        }
        let entries = Entries::new([self.rows, self.columns], model_rank, observed.at);
        Ok(Box::new(Completion {
            name: "robust",
            tensors: entries.tensors(["u", "v"]),
            entries: Arc::new(entries),
            values: observed.values,
            observed: Observed::Huber,
            init: self.init,
            l2: self.l2,
            validation,
            test,
        }))
    }
}
