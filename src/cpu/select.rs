//! A step over some elements: the optimizer gathers them, steps them as if no other elements existed, and puts them back.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::part::Part;

/// The states of all elements of a tensor, while a step sees only some elements.
struct Aside<F> {
    tensor: usize,
    states: Vec<Option<Vec<F>>>,
    average: Option<Vec<F>>,
    row_steps: Option<Vec<F>>,
}

impl<F: Number> Part<F> {
    /// The rule's step over the elements that [`RowSets::select`] found. `grads` are the gradients as the rule sees them.
    pub(crate) fn apply_selected(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if !self.leaves() {
            return self.apply(params, grads);
        }
        let asides: Vec<Aside<F>> = (0..params.len()).filter_map(|t| self.put_aside(t)).collect();
        let picked = |values: &[F], t: usize| pick(values, &self.rows.stepped[t]);
        let some: Vec<Option<(Vec<F>, Vec<F>)>> =
            (0..params.len()).map(|t| self.selects(t).then(|| (picked(params[t], t), picked(grads[t], t)))).collect();
        let (mut some_params, some_grads): (Vec<_>, Vec<_>) = some.into_iter().map(Option::unzip).unzip();
        let step_count = self.step_count;
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
        let begins = step_count == 0 && self.step_count > 0;
        for aside in asides {
            self.put_back(aside, params, begins);
        }
        self.tensors.iter_mut().for_each(|tensor| tensor.rates.clear());
        result
    }

    /// Whether the step takes some elements of a tensor, or none.
    fn selects(&self, t: usize) -> bool {
        self.rows.set_of[t].is_some() || !self.tensors[t].takes
    }

    /// Reduces a tensor to the stepped elements, with the rate of each.
    fn put_aside(&mut self, t: usize) -> Option<Aside<F>> {
        let selects = self.selects(t);
        let (tensor, columns) = (&mut self.tensors[t], &self.rows.columns[t]);
        if !selects {
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
        let some = tensor.row_steps.as_ref().map(|steps| pick(steps, stepped));
        let row_steps = std::mem::replace(&mut tensor.row_steps, some);
        Some(Aside { tensor: t, states, average, row_steps })
    }

    /// Undoes [`put_aside`](Self::put_aside) and keeps the results of the step. The first step begins every average at the weights.
    fn put_back(&mut self, aside: Aside<F>, params: &[&mut [F]], begins: bool) {
        let Aside { tensor: t, mut states, average, mut row_steps } = aside;
        let (tensor, stepped) = (&mut self.tensors[t], &self.rows.stepped[t]);
        tensor.spec.elements = params[t].len();
        for (all, some) in states.iter_mut().zip(&tensor.states) {
            if let (Some(all), Some(some)) = (all, some) {
                put(all, some, stepped);
            }
        }
        tensor.states = states;
        if let (Some(all), Some(some)) = (&mut row_steps, &tensor.row_steps) {
            put(all, some, stepped);
        }
        tensor.row_steps = row_steps;
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
