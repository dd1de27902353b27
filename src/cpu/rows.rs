//! Row sets on the host: the elements that a step takes are gathered, stepped as if there were no others, and put back.

use super::{Number, Optimizer};
use crate::optim::rule::{need_one_rate, need_rows, need_shared};
use crate::{Error, Result};

/// Tensors that share rows.
#[derive(Clone, Debug)]
struct RowSet {
    name: String,
    tensors: Vec<usize>,
    /// The elements of a row of each.
    widths: Vec<usize>,
    rows: usize,
    /// A word a row, 0 where it stays as it is; none: every row is stepped.
    flags: Vec<u32>,
    nonzero: bool,
}

/// The row sets of an optimizer and its columns' rates.
#[derive(Clone, Debug)]
pub(crate) struct RowSets<F> {
    sets: Vec<RowSet>,
    set_of: Vec<Option<usize>>,
    /// A tensor's rates, a column each; none: 1.
    columns: Vec<Vec<F>>,
    /// The elements that the step under way takes, for tensors in sets.
    stepped: Vec<Vec<usize>>,
}

/// What was put aside while a step saw only some of a tensor's elements.
struct Aside<F> {
    tensor: usize,
    states: Vec<Option<Vec<F>>>,
    average: Option<Vec<F>>,
}

impl<F: Number> RowSets<F> {
    pub(crate) fn new(tensors: usize) -> Self {
        let none = || vec![Vec::new(); tensors];
        Self { sets: Vec::new(), set_of: vec![None; tensors], columns: none(), stepped: vec![Vec::new(); tensors] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.columns.iter().all(Vec::is_empty)
    }

    /// Finds the elements of a tensor that the step takes, and sets the others' gradients to zero.
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

    /// Sets what lies in rows that are not flagged to zero.
    pub(crate) fn clear_unflagged(&self, tensor: usize, values: &mut [F]) {
        let Some(set) = self.set_of[tensor].map(|set| &self.sets[set]) else { return };
        let width = (values.len() / set.rows.max(1)).max(1);
        for (row, flag) in values.chunks_mut(width).zip(&set.flags) {
            if *flag == 0 {
                row.fill(F::zero());
            }
        }
    }

    /// Whether a tensor is in a set.
    pub(crate) fn hold(&self, tensor: usize) -> bool {
        self.set_of.get(tensor).is_some_and(Option::is_some)
    }

    fn set(&self, set: usize) -> Result<&RowSet> {
        let known = || Error::Usage(format!("row set {set} does not exist, there are {}", self.sets.len()));
        self.sets.get(set).ok_or_else(known)
    }
}

impl RowSet {
    fn error(&self, problem: &str) -> Error {
        Error::Usage(format!("row set `{}`: {problem}", self.name))
    }

    fn check_count(&self, what: &str, given: usize, needs: usize) -> Result<()> {
        if given == needs {
            return Ok(());
        }
        Err(self.error(&format!("{given} {what} were given, needs {needs}")))
    }
}

/// Row sets.
impl<F: Number> Optimizer<F> {
    /// Names tensors that share so many rows; the sets are counted from 0 in the order in which they are named. What a step leaves out
    /// is as on the GPU: see [`Builder::row_set`](crate::Builder::row_set).
    ///
    /// # Errors
    /// A rule that mixes or moves whole tensors inside its step; a tensor that is not there, is in a set already, does not fall into
    /// so many rows, or whose states are not stored in f32; a name given twice; no tensor or row.
    pub fn with_rows(mut self, name: &str, tensors: &[usize], rows: usize) -> Result<Self> {
        need_rows(self.rule(0))?;
        if self.rows.sets.iter().any(|s| s.name == name) {
            return Err(Error::Duplicate { kind: "row set", name: name.to_owned() });
        }
        let index = self.rows.sets.len();
        let (flags, nonzero) = (Vec::new(), false);
        let (name, tensors) = (name.to_owned(), tensors.to_vec());
        let mut set = RowSet { name, tensors, widths: Vec::new(), rows, flags, nonzero };
        if set.tensors.is_empty() || rows == 0 {
            return Err(set.error("it needs at least one tensor and one row"));
        }
        for &tensor in &set.tensors {
            let spec = self.tensors.get(tensor).map(|t| &t.spec);
            let spec = spec.ok_or_else(|| set.error(&format!("its tensor number {tensor} is not there")))?;
            self.tensors[tensor].stored.formats.need_rows(&spec.name)?;
            let refused = |problem| Err(Error::Tensor { tensor: spec.name.clone(), problem });
            if let Some(other) = self.rows.set_of[tensor].replace(index) {
                let other = self.rows.sets.get(other).map_or(set.name.as_str(), |s| s.name.as_str());
                return refused(format!("it is in row set `{other}` and cannot be in `{}` too", set.name));
            }
            if spec.elements % rows != 0 {
                return refused(format!("{} elements do not fall into {rows} rows", spec.elements));
            }
            set.widths.push(spec.elements / rows);
        }
        self.rows.sets.push(set);
        Ok(self)
    }

    /// Steps only those elements of a set whose gradient is not exactly zero.
    ///
    /// # Errors
    /// There is no such set; its rows share a second moment.
    pub fn skipping_zero_gradients(mut self, set: usize) -> Result<Self> {
        let known = self.rows.set(set)?;
        if known.tensors.iter().any(|t| self.tensors[*t].shared.is_some()) {
            return Err(known.error("a row that shares a second moment cannot skip zero gradients"));
        }
        self.rows.sets[set].nonzero = true;
        Ok(self)
    }

    /// Flags the rows of a set that steps take from now on; 0 is a row that stays as it is. At first every row is flagged.
    ///
    /// # Errors
    /// There is no such set; another count than its rows.
    pub fn set_mask(&mut self, set: usize, flags: &[u32]) -> Result<()> {
        let known = self.rows.set(set)?;
        known.check_count("flags", flags.len(), known.rows)?;
        self.rows.sets[set].flags = flags.to_vec();
        Ok(())
    }

    /// How many rows a set has.
    ///
    /// # Errors
    /// There is no such set.
    pub fn row_count(&self, set: usize) -> Result<usize> {
        self.rows.set(set).map(|set| set.rows)
    }

    /// Multiplies the change of each column of a tensor with a rate of its own, from the next step on: element `i` has the rate number
    /// `i` modulo their count.
    ///
    /// # Errors
    /// A rule that mixes or moves whole tensors inside its step, or a schedule-free one; there is no such tensor; a count that its rows
    /// do not have; a rate that is not finite or below 0.
    pub fn set_column_rates(&mut self, tensor: usize, rates: &[f64]) -> Result<()> {
        need_rows(self.rule(0))?;
        need_one_rate(self.rule(0))?;
        let count = self.tensors.len();
        let spec = self.tensors.get(tensor).map(|t| &t.spec);
        let spec = spec.ok_or_else(|| Error::Usage(format!("tensor {tensor} does not exist, there are {count}")))?;
        let refused = |problem| Err(Error::Tensor { tensor: spec.name.clone(), problem });
        let rows = self.rows.set_of[tensor].map(|set| self.rows.sets[set].rows);
        let fits = match rows {
            Some(rows) => rows * rates.len() == spec.elements,
            None => spec.elements.checked_rem(rates.len()) == Some(0),
        };
        if !fits {
            return refused(format!(
                "{} column rates do not divide its {} elements into rows",
                rates.len(),
                spec.elements
            ));
        }
        if let Some(rate) = rates.iter().find(|r| !(**r >= 0.0 && **r <= f64::from(f32::MAX))) {
            return refused(format!("a column rate is {rate}, needs a finite number of at least 0"));
        }
        self.rows.columns[tensor] = rates.iter().map(|r| F::from_f64(*r)).collect();
        Ok(())
    }

    /// Keeps one second moment for each run of `width` elements of a tensor: see
    /// [`Builder::share_second_moment`](crate::Builder::share_second_moment).
    ///
    /// # Errors
    /// A rule that cannot; there is no such tensor; a width that its rows do not have; a set that skips zero gradients.
    pub fn sharing_second_moment(mut self, tensor: usize, width: usize) -> Result<Self> {
        need_shared(self.rule(0))?;
        let count = self.tensors.len();
        let known = self.tensors.get_mut(tensor);
        let known = known.ok_or_else(|| Error::Usage(format!("tensor {tensor} does not exist, there are {count}")))?;
        let refused = |problem| Err(Error::Tensor { tensor: known.spec.name.clone(), problem });
        let set = self.rows.set_of[tensor].map(|set| &self.rows.sets[set]);
        if known.spec.elements.checked_rem(width) != Some(0)
            || set.is_some_and(|s| s.rows * width != known.spec.elements)
        {
            return refused(format!("{} elements have no rows of {width}", known.spec.elements));
        }
        if set.is_some_and(|s| s.nonzero) {
            return refused("a row that skips zero gradients cannot share a second moment".to_owned());
        }
        known.stored.formats.need_rows(&known.spec.name)?;
        known.shared = Some(width);
        Ok(self)
    }

    /// The rows of a set change places, with all that is kept for them: row `i` becomes what row `indices[i]` was, and there are as many
    /// rows as indices from then on. An index that names no row (`u32::MAX`, say) makes a fresh row: zero parameters and average,
    /// states as before the first step. `params` are the set's tensors', in its order. Every row is flagged until the next
    /// [`set_mask`](Self::set_mask).
    ///
    /// # Errors
    /// There is no such set; a count or length that does not fit. Nothing was changed then.
    pub fn remap(&mut self, set: usize, indices: &[u32], params: &mut [&mut Vec<F>]) -> Result<()> {
        let known = self.rows.set(set)?;
        known.check_count("parameters", params.len(), known.tensors.len())?;
        for (&t, p) in known.tensors.iter().zip(params.iter()) {
            self.tensors[t].check_length("parameter", p.len())?;
        }
        let RowSet { tensors, widths, .. } = known.clone();
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
            if let Some(full) = &mut tensor.stored.full {
                gather(full, F::zero());
            }
            let around = [self.around.accumulated.get_mut(t), self.around.ema.get_mut(t)];
            around.into_iter().flatten().for_each(|values| gather(values, F::zero()));
            tensor.spec.elements = p.len();
        }
        self.rows.sets[set].rows = indices.len();
        self.rows.sets[set].flags.clear();
        Ok(())
    }

    /// Everything that is kept for a tensor begins anew: states as before the first step, the accumulator at zero, the average at the
    /// parameters.
    ///
    /// # Errors
    /// There is no such tensor; a length that does not fit.
    pub fn reset_states(&mut self, tensor: usize, param: &[F]) -> Result<()> {
        self.reset(tensor, param, |_| true)
    }

    /// As [`reset_states`](Self::reset_states), for the flagged rows of a set. `params` are the set's tensors', in its order.
    ///
    /// # Errors
    /// There is no such set; a count or length that does not fit.
    pub fn reset_rows(&mut self, set: usize, flags: &[u32], params: &[&[F]]) -> Result<()> {
        let known = self.rows.set(set)?;
        known.check_count("flags", flags.len(), known.rows)?;
        known.check_count("parameters", params.len(), known.tensors.len())?;
        for (t, p) in known.tensors.clone().into_iter().zip(params) {
            let width = (p.len() / flags.len().max(1)).max(1);
            self.reset(t, p, |i| flags.get(i / width).is_some_and(|flag| *flag != 0))?;
        }
        Ok(())
    }

    fn reset(&mut self, t: usize, param: &[F], chosen: impl Fn(usize) -> bool) -> Result<()> {
        let count = self.tensors.len();
        let known = self.tensors.get(t);
        known
            .ok_or_else(|| Error::Usage(format!("tensor {t} does not exist, there are {count}")))?
            .check_length("parameter", param.len())?;
        let firsts = self.firsts(t);
        let set = |values: &mut [F], first: &dyn Fn(usize) -> F| {
            values.iter_mut().enumerate().filter(|(i, _)| chosen(*i)).for_each(|(i, x)| *x = first(i));
        };
        for (state, first) in self.tensors[t].states.iter_mut().zip(firsts) {
            if let Some(state) = state {
                set(state, &|_| first);
            }
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

    /// What a tensor's states are before the first step.
    fn firsts(&self, tensor: usize) -> Vec<F> {
        let group = self.tensors[tensor].spec.group;
        self.groups[group].rule.states().iter().map(|s| F::from_f64(s.initial)).collect()
    }

    /// The rule's step over the elements that [`RowSets::select`] found; gradients as the rule sees them.
    pub(crate) fn apply_selected(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if self.rows.is_empty() {
            return self.apply(params, grads);
        }
        let asides: Vec<Aside<F>> = (0..params.len()).filter_map(|t| self.put_aside(t)).collect();
        let picked = |values: &[F], t: usize| pick(values, &self.rows.stepped[t]);
        let some: Vec<Option<(Vec<F>, Vec<F>)>> = (0..params.len())
            .map(|t| self.rows.set_of[t].map(|_| (picked(params[t], t), picked(grads[t], t))))
            .collect();
        let (mut some_params, some_grads): (Vec<_>, Vec<_>) = some.into_iter().map(Option::unzip).unzip();
        let applied = self.applied;
        let result = {
            let both = params.iter_mut().zip(&mut some_params);
            let mut params: Vec<&mut [F]> = both.map(|(p, some)| some.as_deref_mut().unwrap_or(p)).collect();
            let both = grads.iter().zip(&some_grads);
            let grads: Vec<&[F]> = both.map(|(g, some)| some.as_deref().unwrap_or(g)).collect();
            self.apply(&mut params, &grads)
        };
        for (t, some) in some_params.iter().enumerate() {
            if let Some(some) = some {
                put(params[t], some, &self.rows.stepped[t]);
            }
        }
        let begins = applied == 0 && self.applied > 0;
        for aside in asides {
            self.put_back(aside, params, begins);
        }
        self.tensors.iter_mut().for_each(|tensor| tensor.rates.clear());
        result
    }

    /// Lets a tensor hold the stepped elements alone, and each one's rate.
    fn put_aside(&mut self, t: usize) -> Option<Aside<F>> {
        let (tensor, columns) = (&mut self.tensors[t], &self.rows.columns[t]);
        if self.rows.set_of[t].is_none() {
            tensor.rates = columns.iter().copied().cycle().take(tensor.spec.elements).collect();
            return None;
        }
        let stepped = &self.rows.stepped[t];
        if !columns.is_empty() {
            tensor.rates = stepped.iter().map(|i| columns[i % columns.len()]).collect();
        }
        tensor.spec.elements = stepped.len();
        let some = tensor.states.iter().map(|state| state.as_ref().map(|s| pick(s, stepped))).collect();
        let states = std::mem::replace(&mut tensor.states, some);
        let average = self.around.ema.get_mut(t).map(|all| {
            let some = pick(all, stepped);
            std::mem::replace(all, some)
        });
        Some(Aside { tensor: t, states, average })
    }

    /// Undoes [`put_aside`](Self::put_aside) with what the step made. The first step begins every average at the weights.
    fn put_back(&mut self, aside: Aside<F>, params: &[&mut [F]], begins: bool) {
        let Aside { tensor: t, mut states, average } = aside;
        let (tensor, stepped) = (&mut self.tensors[t], &self.rows.stepped[t]);
        tensor.spec.elements = params[t].len();
        for (all, some) in states.iter_mut().zip(&tensor.states) {
            if let (Some(all), Some(some)) = (all, some) {
                put(all, some, stepped);
            }
        }
        tensor.states = states;
        if let (Some(mut all), Some(some)) = (average, self.around.ema.get_mut(t)) {
            if begins {
                all.copy_from_slice(params[t]);
            }
            put(&mut all, some, stepped);
            *some = all;
        }
    }
}

fn pick<F: Copy>(values: &[F], at: &[usize]) -> Vec<F> {
    at.iter().map(|i| values[*i]).collect()
}

fn put<F: Copy>(values: &mut [F], some: &[F], at: &[usize]) {
    at.iter().zip(some).for_each(|(i, x)| values[*i] = *x);
}

/// The rows that the indices name, a fresh one where they name none.
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
