//! Remapping and resetting rows on the host.

use crate::Result;
use crate::cpu::extent::RowSetState;
use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::gpu::build::spec::Tensor;

/// Changes of rows.
impl<F: Number> Part<F> {
    /// Checks a remap of a set to this many rows.
    pub(crate) fn check_remap(&self, set: usize, rows: usize, params: &[&mut Vec<F>]) -> Result<()> {
        let set = &self.rows.sets[set];
        let Some(capacity) = set.capacity else {
            return Err(set
                .error("its rows cannot be remapped without a row capacity: call Builder::row_capacity before build"));
        };
        if rows > capacity {
            return Err(set.error(&format!(
                "{rows} rows are wanted, there is room for {capacity}: ask the builder for more with row_capacity"
            )));
        }
        set.check_count("parameters", params.len(), set.tensors.len())?;
        set.tensors.iter().zip(params).try_for_each(|(&t, p)| self.check_length(t, "parameter", p.len()))
    }

    /// Remaps the rows of a set, with all their states, after [`check_remap`](Self::check_remap).
    pub(crate) fn remap(&mut self, index: usize, indices: &[u32], params: &mut [&mut Vec<F>]) {
        let set = &self.rows.sets[index];
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
    }

    /// Resets the states of a tensor: states as before the first step, the accumulator at zero, the average at the parameters.
    pub(crate) fn reset_states(&mut self, tensor: Tensor, param: &[F]) -> Result<()> {
        let index = self.spec.tensor(tensor)?;
        self.check_length(index, "parameter", param.len())?;
        self.reset(index, param, |_| true);
        Ok(())
    }

    /// Checks a reset of the flagged rows of a set.
    pub(crate) fn check_reset_rows(&self, set: usize, flags: &[u32], params: &[&[F]]) -> Result<()> {
        let set = &self.rows.sets[set];
        set.check_count("flags", flags.len(), set.rows)?;
        set.check_count("parameters", params.len(), set.tensors.len())?;
        set.tensors.iter().zip(params).try_for_each(|(&t, p)| self.check_length(t, "parameter", p.len()))
    }

    /// Resets the states of the flagged rows of a set, after [`check_reset_rows`](Self::check_reset_rows).
    pub(crate) fn reset_rows(&mut self, set: usize, flags: &[u32], params: &[&[F]]) {
        for (t, p) in self.rows.sets[set].tensors.clone().into_iter().zip(params) {
            let width = (p.len() / flags.len().max(1)).max(1);
            self.reset(t, p, |i| flags.get(i / width).is_some_and(|flag| *flag != 0));
        }
    }

    fn reset(&mut self, t: usize, param: &[F], chosen: impl Fn(usize) -> bool) {
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
