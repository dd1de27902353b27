//! Remapping and resetting rows on the host.

use crate::Result;
use crate::cpu::extent::RowSetState;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::gpu::build::spec::{RowSet, Tensor};

/// Changes of rows.
impl<F: Number> Optimizer<F> {
    /// Remaps the rows of a set, with all their states: new row `i` is old row `indices[i]`, and the set then has as many rows as indices. An
    /// index that names no row (`u32::MAX`, for example) makes a fresh row: zero parameters and average, states as before the first step.
    /// `params` are the parameters of the set's tensors, in the order of the set. Every row is flagged until the next
    /// [`write_mask`](Self::write_mask).
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the set has no row capacity, or its row capacity is too small; a count or length that does not
    /// fit. Nothing was changed then.
    pub fn remap(&mut self, rows: RowSet, indices: &[u32], params: &mut [&mut Vec<F>]) -> Result<()> {
        let index = self.spec.row_set(rows)?;
        let set = &self.rows.sets[index];
        let Some(capacity) = set.capacity else {
            return Err(set
                .error("its rows cannot be remapped without a row capacity: call Builder::row_capacity before build"));
        };
        if indices.len() > capacity {
            return Err(set.error(&format!(
                "{} rows are wanted, there is room for {capacity}: ask the builder for more with row_capacity",
                indices.len()
            )));
        }
        set.check_count("parameters", params.len(), set.tensors.len())?;
        for (&t, p) in set.tensors.iter().zip(params.iter()) {
            self.check_length(t, "parameter", p.len())?;
        }
        let RowSetState { tensors, widths, .. } = set.clone();
        for ((t, width), p) in tensors.into_iter().zip(widths).zip(params) {
            let firsts = self.firsts(t);
            let tensor = &mut self.tensors[t];
            let gather = |values: &mut Vec<F>, first: F| {
                *values = gathered(values, indices, width, first);
            };
            gather(p, F::zero());
            for (state, first) in tensor.states.iter_mut().zip(firsts) {
                if let Some(state) = state {
                    gather(state, first);
                }
            }
            let beside = [&mut tensor.stored.full, &mut tensor.row_steps];
            beside.into_iter().flatten().for_each(|values| gather(values, F::zero()));
            let around = [self.around.accumulated.get_mut(t), self.around.ema.get_mut(t)];
            around.into_iter().flatten().for_each(|values| gather(values, F::zero()));
            tensor.spec.elements = p.len();
            self.spec.tensors[t].shape[0] = indices.len();
        }
        self.rows.sets[index].rows = indices.len();
        self.rows.sets[index].flags.clear();
        Ok(())
    }

    /// Resets the states of a tensor: states as before the first step, the accumulator at zero, the average at the parameters.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; a length that does not fit.
    pub fn reset_states(&mut self, tensor: Tensor, param: &[F]) -> Result<()> {
        self.reset(self.spec.tensor(tensor)?, param, |_| true)
    }

    /// As [`reset_states`](Self::reset_states), for the flagged rows of a set. `params` are the parameters of the set's
    /// tensors, in the order of the set.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; a count or length that does not fit.
    pub fn reset_rows(&mut self, rows: RowSet, flags: &[u32], params: &[&[F]]) -> Result<()> {
        let set = &self.rows.sets[self.spec.row_set(rows)?];
        set.check_count("flags", flags.len(), set.rows)?;
        set.check_count("parameters", params.len(), set.tensors.len())?;
        for (t, p) in set.tensors.clone().into_iter().zip(params) {
            let width = (p.len() / flags.len().max(1)).max(1);
            self.reset(t, p, |i| flags.get(i / width).is_some_and(|flag| *flag != 0))?;
        }
        Ok(())
    }

    fn reset(&mut self, t: usize, param: &[F], chosen: impl Fn(usize) -> bool) -> Result<()> {
        self.check_length(t, "parameter", param.len())?;
        let firsts = self.firsts(t);
        let set = |values: &mut [F], first: &dyn Fn(usize) -> F| {
            values.iter_mut().enumerate().filter(|(i, _)| chosen(*i)).for_each(|(i, x)| *x = first(i));
        };
        for (state, first) in self.tensors[t].states.iter_mut().zip(firsts) {
            if let Some(state) = state {
                set(state, &|_| first);
            }
        }
        if let Some(steps) = &mut self.tensors[t].row_steps {
            set(steps, &|_| F::zero());
        }
        if let Some(full) = &mut self.tensors[t].stored.full {
            set(full, &|i| param[i]);
        }
        if let Some(values) = self.around.accumulated.get_mut(t) {
            set(values, &|_| F::zero());
        }
        if let Some(values) = self.around.ema.get_mut(t) {
            set(values, &|i| param[i]);
        }
        Ok(())
    }

    /// The values of a tensor's states before the first step.
    fn firsts(&self, tensor: usize) -> Vec<F> {
        let group = self.tensors[tensor].spec.group;
        self.spec.groups[group].rule.states().iter().map(|s| F::from_f64(s.initial)).collect()
    }
}

/// The rows that the indices name. An index that names no row gives a fresh row.
fn gathered<F: Number>(values: &[F], indices: &[u32], width: usize, first: F) -> Vec<F> {
    let mut all = Vec::with_capacity(indices.len() * width);
    for &index in indices {
        let start = (index as usize).saturating_mul(width);
        match values.get(start..start.saturating_add(width)) {
            Some(row) => all.extend_from_slice(row),
            None => all.extend(std::iter::repeat_n(first, width)),
        }
    }
    all
}
