//! Low-rank models of entries: the one core of matrix and tensor completion, robust factorisation, ratings and sensing.
//!
//! Entry e of D factors (two for a matrix, three for a tensor) is modelled as Σ_k Π_d F_d[at[e][d], k].

mod completion;
mod gpu;
mod host;

pub(super) use completion::{Completion, HeldOut, Observed};
pub(super) use gpu::{Model, shaders};
pub(super) use host::Factors;

use super::TensorSpec;
use super::random::{self, Stream};

/// Entries that a problem may have at most, observed and held out together: bounds the memory at some hundred MB.
pub(super) const MOST_ENTRIES: usize = 1 << 24;

/// Which factor rows each entry multiplies, and each factor row's entries.
#[derive(Debug)]
pub(super) struct Entries<const D: usize> {
    /// Rows of each factor.
    rows: [usize; D],
    rank: usize,
    at: Vec<[u32; D]>,
    lists: [Lists; D],
}

impl<const D: usize> Entries<D> {
    pub(super) fn new(rows: [usize; D], rank: usize, at: Vec<[u32; D]>) -> Self {
        let lists = std::array::from_fn(|d| Lists::new(rows[d], at.iter().map(|at| at[d])));
        Self { rows, rank, at, lists }
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn tensors(&self, names: [&str; D]) -> Vec<TensorSpec> {
        let tensor = |(name, rows): (&str, usize)| TensorSpec { name: name.to_owned(), shape: vec![rows, self.rank] };
        names.into_iter().zip(self.rows).map(tensor).collect()
    }
}

/// The entries of each row, one list behind the other.
#[derive(Debug)]
struct Lists {
    /// Where each row's list begins, and where the last ends.
    starts: Vec<u32>,
    entries: Vec<u32>,
}

impl Lists {
    fn new(rows: usize, row_of: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0; rows + 1];
        row_of.clone().for_each(|row| starts[row as usize + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let mut next = starts.clone();
        let mut entries = vec![0; starts[rows] as usize];
        for (entry, row) in row_of.enumerate() {
            let to = &mut next[row as usize];
            entries[*to as usize] = entry as u32;
            *to += 1;
        }
        Self { starts, entries }
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.entries[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// Each tensor drawn from the normal distribution times `scale`.
pub(super) fn normal_tensors(tensors: &[TensorSpec], scale: f64, seed: u64) -> Vec<Vec<f32>> {
    let key = random::key(seed, Stream::Weights);
    let tensor = |(at, tensor): (u32, &TensorSpec)| {
        let key = random::draw(key, at);
        (0..tensor.elements()).map(|i| (scale * random::normal(key, i as u32)) as f32).collect()
    };
    (0..).zip(tensors).map(tensor).collect()
}
