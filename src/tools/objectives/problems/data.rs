//! The parts that generated data share: keys by use, factors, and the observed cells of a grid.

use crate::optim::Value;
use crate::optim::rule::settings;
use crate::tools::objectives::low_rank::{Completion, Entries, HeldOut, MOST_ENTRIES, Observed};
use crate::tools::objectives::problem::Problem;
use crate::tools::objectives::random;
use crate::tools::objectives::random::Stream;
use crate::{Error, Result};
use std::sync::Arc;

/// The share of the held-out entries that validate; the others test.
pub(super) const VALIDATION: f32 = 0.1;

/// The keys of a problem, one per use of its seed.
#[derive(Clone, Copy)]
pub(super) struct Keys(u32);

impl Keys {
    pub(super) const fn new(seed: u64) -> Self {
        Self(random::key(seed, Stream::Data))
    }

    /// The key of the `which`-th use.
    pub(super) const fn of(self, which: u32) -> u32 {
        random::draw(self.0, which)
    }
}

/// A factor of normal numbers with variance 1/rank, row by row.
pub(super) fn factor(key: u32, rows: usize, rank: usize) -> Vec<f64> {
    let scale = 1.0 / (rank as f64).sqrt();
    (0..rows * rank).map(|i| scale * random::normal(key, i as u32)).collect()
}

/// Every cell of U Vᵀ, row by row: its number, its place and its value.
pub(super) fn products<'a>(u: &'a [f64], v: &'a [f64], rank: usize) -> impl Iterator<Item = (u32, [u32; 2], f64)> + 'a {
    let rows = (0..).zip(u.chunks_exact(rank));
    let cells = rows.flat_map(move |(i, u)| (0..).zip(v.chunks_exact(rank)).map(move |(j, v)| ([i, j], (u, v))));
    let product = |(u, v): (&[f64], &[f64])| u.iter().zip(v).map(|(u, v)| u * v).sum();
    (0..).zip(cells).map(move |(cell, (at, rows))| (cell, at, product(rows)))
}

/// The product of the sizes, if it is at most the largest number of entries.
pub(super) fn cells(problem: &str, sizes: &[usize]) -> Result<usize> {
    let cells = sizes.iter().try_fold(1_usize, |cells, size| cells.checked_mul(*size));
    cells.filter(|cells| *cells <= MOST_ENTRIES).ok_or_else(|| {
        Error::Usage(format!("{problem}: a size of {sizes:?} has too many entries, needs at most {MOST_ENTRIES}"))
    })
}

/// Sorts the cells of a grid, in the order of the calls, into observed cells with noise and held-out cells without noise.
pub(super) struct Grid<const D: usize> {
    mask: u32,
    noise_key: u32,
    split: u32,
    density: f32,
    noise: f64,
    observed: HeldOut<D>,
    validation: HeldOut<D>,
    test: HeldOut<D>,
}

impl<const D: usize> Grid<D> {
    /// Takes the keys from `first` on.
    pub(super) fn new(keys: Keys, first: u32, density: f64, noise: f64) -> Self {
        Self {
            mask: keys.of(first),
            noise_key: keys.of(first + 1),
            split: keys.of(first + 2),
            density: density as f32,
            noise,
            observed: HeldOut::default(),
            validation: HeldOut::default(),
            test: HeldOut::default(),
        }
    }

    pub(super) fn take(&mut self, cell: u32, at: [u32; D], value: f64) {
        if random::unit(self.mask, cell) < self.density {
            let noise = self.noise * random::normal(self.noise_key, cell);
            self.observed.push(at, (value + noise) as f32);
        } else if random::unit(self.split, cell) < VALIDATION {
            self.validation.push(at, value as f32);
        } else {
            self.test.push(at, value as f32);
        }
    }

    /// A model of this rank, fitted to the squared error of the observed entries.
    pub(super) fn into_problem(
        self,
        name: &'static str,
        factors: [(&str, usize); D],
        rank: usize,
        (init, l2): (f64, f64),
    ) -> Result<Box<dyn Problem>> {
        if self.observed.values.is_empty() {
            let density = self.density;
            return Err(Error::Usage(format!("{name}: no entry is observed, needs more or a density above {density}")));
        }
        let entries = Entries::new(factors.map(|(_, rows)| rows), rank, self.observed.at);
        Ok(Box::new(Completion {
            name,
            tensors: entries.tensors(factors.map(|(name, _)| name)),
            entries: Arc::new(entries),
            values: self.observed.values,
            observed: Observed::Squared,
            init,
            l2,
            validation: self.validation,
            test: self.test,
        }))
    }
}

/// Orthonormal rows, made from normal rows by the Gram-Schmidt process. It runs twice, so that the rows are orthogonal despite rounding.
pub(super) fn rotation(key: u32, size: usize) -> Vec<f64> {
    let mut rows: Vec<f64> = (0..size * size).map(|i| random::normal(key, i as u32)).collect();
    for at in 0..size {
        let (before, behind) = rows.split_at_mut(at * size);
        let row = &mut behind[..size];
        for _ in 0..2 {
            for other in before.chunks_exact(size) {
                let along: f64 = other.iter().zip(&*row).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    rows
}

/// Refuses a count above the largest that the problem accepts.
pub(super) fn at_most(problem: &str, setting: &str, count: usize, most: usize) -> Result<()> {
    if count <= most { Ok(()) } else { Err(refused(problem, setting, count, &format!("at most {most}"))) }
}

/// Refuses a count below the least that the problem accepts.
pub(super) fn at_least(problem: &str, setting: &str, count: usize, least: usize) -> Result<()> {
    if count >= least { Ok(()) } else { Err(refused(problem, setting, count, &format!("at least {least}"))) }
}

pub(super) fn refused(problem: &str, setting: &str, value: usize, needs: &str) -> Error {
    settings::refused(problem, setting, &Value::Number(value as f64), needs.to_owned().into())
}
