//! The entries of a model: the factor rows that each entry multiplies, and the values of the held-out entries.

use crate::tools::objectives::TensorSpec;

/// The largest number of entries of a problem, observed and held out together. It bounds the memory to some hundred MB.
pub(in crate::tools::objectives) const MOST_ENTRIES: usize = 1 << 24;

/// The factor rows that each entry multiplies, and the entries of each factor row.
#[derive(Debug)]
pub(in crate::tools::objectives) struct Entries<const D: usize> {
    /// Rows of each factor.
    pub(super) rows: [usize; D],
    pub(super) rank: usize,
    pub(super) at: Vec<[u32; D]>,
    pub(super) lists: [Lists; D],
}

impl<const D: usize> Entries<D> {
    pub(in crate::tools::objectives) fn new(rows: [usize; D], rank: usize, at: Vec<[u32; D]>) -> Self {
        let lists = std::array::from_fn(|d| Lists::new(rows[d], at.iter().map(|at| at[d])));
        Self { rows, rank, at, lists }
    }

    pub(in crate::tools::objectives) fn len(&self) -> usize {
        self.at.len()
    }

    pub(in crate::tools::objectives) fn tensors(&self, names: [&str; D]) -> Vec<TensorSpec> {
        let tensor = |(name, rows): (&str, usize)| TensorSpec { name: name.to_owned(), shape: vec![rows, self.rank] };
        names.into_iter().zip(self.rows).map(tensor).collect()
    }
}

/// The entries of each row, one list after the other.
#[derive(Debug)]
pub(super) struct Lists {
    /// The start of each row's list, and the end of the last list.
    pub(super) starts: Vec<u32>,
    pub(super) entries: Vec<u32>,
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

    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.entries[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

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
    pub(super) fn rmse(&self, params: &[&[f32]], rank: usize) -> Option<f64> {
        let squares = self.at.iter().zip(&self.values).map(|(at, value)| {
            let row = |d: usize| &params[d][at[d] as usize * rank..][..rank];
            let model: f64 = (0..rank).map(|k| (0..D).map(|d| f64::from(row(d)[k])).product::<f64>()).sum();
            (model - f64::from(*value)).powi(2)
        });
        (!self.at.is_empty()).then(|| (squares.sum::<f64>() / self.at.len() as f64).sqrt())
    }
}
