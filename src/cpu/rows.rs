//! Row sets on the host: the elements that a step takes.

use crate::Result;
use crate::cpu::extent::RowSetState;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::gpu::build::spec::{RowSet, Spec, Tensor};

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

impl<F: Number> Optimizer<F> {
    /// Sets the mask of a set for the next steps: 0 for a row that a step leaves as it is. At first every row is flagged.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the set has no mask; the count of flags is not the count of rows.
    pub fn write_mask(&mut self, rows: RowSet, flags: &[u32]) -> Result<()> {
        let index = self.spec.row_set(rows)?;
        let set = &mut self.rows.sets[index];
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
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn row_count(&self, rows: RowSet) -> Result<usize> {
        Ok(self.rows.sets[self.spec.row_set(rows)?].rows)
    }

    /// The row set of this name.
    ///
    /// # Errors
    /// The optimizer has no row set of this name; the error suggests the nearest name.
    pub fn row_set(&self, name: &str) -> Result<RowSet> {
        self.spec.row_set_named(name)
    }

    /// Sets the column rates of a tensor for the next steps: see [`Builder::column_rates`](crate::Builder::column_rates).
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor was built without column rates; the count of rates is not the count of columns; a rate that is not
    /// finite or below 0.
    pub fn set_column_rates(&mut self, tensor: Tensor, rates: &[f64]) -> Result<()> {
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
