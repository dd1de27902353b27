//! Row sets on the host: the elements that a step takes.

use crate::Result;
use crate::cpu::extent::RowSetState;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::gpu::build::spec::{Spec, Tensor};

/// The row sets of an optimizer, and the column rates of its tensors.
#[derive(Clone, Debug)]
pub(crate) struct RowSets<F> {
    pub(crate) sets: Vec<RowSetState>,
    pub(crate) set_of: Vec<Option<usize>>,
    /// The column rates of each tensor. Empty: every rate is 1.
    pub(crate) columns: Vec<Vec<F>>,
    /// The elements that the current step takes, for tensors in sets.
    pub(crate) stepped: Vec<Vec<usize>>,
}

impl<F: Number> RowSets<F> {
    pub(crate) fn new(spec: &Spec) -> Self {
        let count = spec.tensors.len();
        let sets: Vec<RowSetState> = spec.rows.sets.iter().map(|set| RowSetState::new(spec, set)).collect();
        let set_of = (0..count).map(|tensor| sets.iter().position(|set| set.tensors.contains(&tensor))).collect();
        let rates =
            |tensor| spec.rows.columns.get(&tensor).into_iter().flatten().map(|rate| F::from_f64(*rate)).collect();
        Self { sets, set_of, columns: (0..count).map(rates).collect(), stepped: vec![Vec::new(); count] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.columns.iter().all(Vec::is_empty)
    }

    /// Finds the elements of a tensor that the step takes, and sets the gradients of the other elements to zero.
    pub(crate) fn select(&mut self, tensor: usize, gradient: &mut [F]) {
        let Some(set) = self.set_of[tensor].map(|set| &self.sets[set]) else { return };
        let width = (gradient.len() / set.rows.max(1)).max(1);
        let stepped = &mut self.stepped[tensor];
        stepped.clear();
        for (i, g) in gradient.iter_mut().enumerate() {
            let flagged = set.flags.get(i / width).is_none_or(|flag| *flag != 0);
            if flagged && !(set.nonzero && *g == F::zero()) {
                stepped.push(i);
            } else {
                *g = F::zero();
            }
        }
    }

    /// Sets the values in unflagged rows to zero.
    pub(crate) fn clear_unflagged(&self, tensor: usize, values: &mut [F]) {
        let Some(set) = self.set_of[tensor].map(|set| &self.sets[set]) else { return };
        let width = (values.len() / set.rows.max(1)).max(1);
        for (row, flag) in values.chunks_mut(width).zip(&set.flags) {
            if *flag == 0 {
                row.fill(F::zero());
            }
        }
    }
}

impl<F: Number> Part<F> {
    /// Sets the mask of a set for the next steps: 0 for a row that a step leaves as it is.
    pub(crate) fn write_mask(&mut self, rows: usize, flags: &[u32]) -> Result<()> {
        let set = &mut self.rows.sets[rows];
        if !set.masked {
            return Err(set.error("it has no mask: ask the builder for one"));
        }
        if flags.len() != set.rows {
            return Err(set.error(&format!("{} flags were given, {} rows are in use", flags.len(), set.rows)));
        }
        set.flags = flags.to_vec();
        Ok(())
    }

    /// The count of rows of a set.
    pub(crate) fn row_count(&self, rows: usize) -> usize {
        self.rows.sets[rows].rows
    }

    /// Sets the column rates of a tensor for the next steps: see [`Builder::column_rates`](crate::Builder::column_rates).
    pub(crate) fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
        let index = self.spec.tensor(tensor)?;
        let info = &self.spec.tensors[index];
        if self.rows.columns[index].is_empty() {
            return Err(info.error("it was built without column rates".to_owned()));
        }
        info.check_columns(rates)?;
        self.rows.columns[index] = rates.iter().map(|rate| F::from_f64(*rate)).collect();
        Ok(())
    }
}
