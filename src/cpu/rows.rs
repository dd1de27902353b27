//! Row sets on the host: which elements a step takes.

use crate::cpu::checks::check_column_rates;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::spec::{RowSetSpec, Spec};
use crate::{Error, Result};

/// A row set from step to step.
#[derive(Clone, Debug)]
pub(crate) struct RowSetState {
    /// With as many rows as there are now, and their flags.
    pub(crate) spec: RowSetSpec,
    /// The elements of a row of each tensor.
    pub(crate) widths: Vec<usize>,
}

/// The row sets of an optimizer and its columns' rates.
#[derive(Clone, Debug)]
pub(crate) struct RowSets<F> {
    pub(crate) sets: Vec<RowSetState>,
    pub(crate) set_of: Vec<Option<usize>>,
    /// A tensor's rates, a column each; none: 1.
    pub(crate) columns: Vec<Vec<F>>,
    /// The elements that the step under way takes, for tensors in sets.
    pub(crate) stepped: Vec<Vec<usize>>,
}

impl<F: Number> RowSets<F> {
    pub(crate) fn new(from: &Spec) -> Self {
        let count = from.tensors.len();
        let (mut sets, mut set_of) = (Vec::new(), vec![None; count]);
        for (index, spec) in from.rows.iter().enumerate() {
            spec.tensors.iter().for_each(|&tensor| set_of[tensor] = Some(index));
            let widths = spec.tensors.iter().map(|&tensor| from.tensors[tensor].elements / spec.rows).collect();
            sets.push(RowSetState { spec: spec.clone(), widths });
        }
        let rates = |tensor| from.columns.get(&tensor).into_iter().flatten().map(|rate| F::from_f64(*rate)).collect();
        Self { sets, set_of, columns: (0..count).map(rates).collect(), stepped: vec![Vec::new(); count] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.columns.iter().all(Vec::is_empty)
    }

    /// Finds the elements of a tensor that the step takes, and sets the others' gradients to zero.
    pub(crate) fn select(&mut self, tensor: usize, gradient: &mut [F]) {
        let Some(set) = self.set_of[tensor].map(|set| &self.sets[set]) else { return };
        let width = (gradient.len() / set.spec.rows.max(1)).max(1);
        let stepped = &mut self.stepped[tensor];
        stepped.clear();
        for (i, g) in gradient.iter_mut().enumerate() {
            let flagged = set.spec.flags.get(i / width).is_none_or(|flag| *flag != 0);
            if flagged && !(set.spec.nonzero && *g == F::zero()) {
                stepped.push(i);
            } else {
                *g = F::zero();
            }
        }
    }

    /// Sets what lies in rows that are not flagged to zero.
    pub(crate) fn clear_unflagged(&self, tensor: usize, values: &mut [F]) {
        let Some(set) = self.set_with(tensor) else { return };
        let width = (values.len() / set.spec.rows.max(1)).max(1);
        for (row, flag) in values.chunks_mut(width).zip(&set.spec.flags) {
            if *flag == 0 {
                row.fill(F::zero());
            }
        }
    }

    /// The row set that a tensor is in.
    pub(crate) fn set_with(&self, tensor: usize) -> Option<&RowSetState> {
        self.set_of[tensor].map(|set| &self.sets[set])
    }

    pub(crate) fn set(&self, set: usize) -> Result<&RowSetState> {
        let known = || Error::Usage(format!("row set {set} does not exist, there are {}", self.sets.len()));
        self.sets.get(set).ok_or_else(known)
    }
}

/// Row sets.
impl<F: Number> Optimizer<F> {
    /// Flags the rows of a set that steps take from now on; 0 is a row that stays as it is. At first every row is flagged.
    ///
    /// # Errors
    /// There is no such set; another count than its rows.
    pub fn set_mask(&mut self, set: usize, flags: &[u32]) -> Result<()> {
        let known = self.rows.set(set)?;
        known.spec.check_count("flags", flags.len(), known.spec.rows)?;
        self.rows.sets[set].spec.flags = flags.to_vec();
        Ok(())
    }

    /// How many rows a set has.
    ///
    /// # Errors
    /// There is no such set.
    pub fn row_count(&self, set: usize) -> Result<usize> {
        self.rows.set(set).map(|set| set.spec.rows)
    }

    /// Multiplies the change of each column of a tensor with a rate of its own, from the next step on: element `i` has the rate number
    /// `i` modulo their count.
    ///
    /// # Errors
    /// A rule that mixes or moves whole tensors inside its step, or a schedule-free one; there is no such tensor; a count that its rows
    /// do not have; a rate that is not finite or below 0.
    pub fn set_column_rates(&mut self, tensor: usize, rates: &[f64]) -> Result<()> {
        let count = self.tensors.len();
        let missing = || Error::Usage(format!("tensor {tensor} does not exist, there are {count}"));
        let spec = &self.tensors.get(tensor).ok_or_else(missing)?.spec;
        check_column_rates(self.rule(0), spec, self.rows.set_with(tensor).map(|set| &set.spec), rates)?;
        self.rows.columns[tensor] = rates.iter().map(|r| F::from_f64(*r)).collect();
        Ok(())
    }
}
