//! The walk of a step over the tensors: by halves, down to pieces of a fixed size. Any thread may take a half, and the order of every sum is
//! the same. Small tensors share a piece.

use std::ops::Range;

use crate::cpu::factors::Factors;
use crate::cpu::hyper::Scaled;
use crate::cpu::number::Number;
use crate::cpu::pieces::{PIECE, half, join};
use crate::cpu::tensor::TensorState;
use crate::optim::rule::MAX_SUMS;
use crate::optim::rule::host::RowTerms;

type Sum = [f64; MAX_SUMS];

/// A state that a piece of a tensor takes from factors, if the tensor has factors: the factors, and the first element of the piece.
struct FromFactors<'a, F>(Option<(&'a Factors<F>, usize)>);

impl<F> Clone for FromFactors<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for FromFactors<'_, F> {}

impl<'a, F: Number> FromFactors<'a, F> {
    fn of(factors: Option<&'a Factors<F>>) -> Self {
        Self(factors.map(|factors| (factors, 0)))
    }

    /// For the piece that begins `elements` later.
    fn after(self, elements: usize) -> Self {
        Self(self.0.map(|(factors, first)| (factors, first + elements)))
    }

    /// The state, with its place among the states of the rule.
    fn state(self, elements: usize) -> Option<(usize, Vec<F>)> {
        self.0.map(|(factors, first)| (factors.state, factors.state_from(first, elements)))
    }
}

/// Sums the terms of every tensor into its `sums`.
pub(crate) fn contribute<F: Number>(
    groups: &[Scaled<'_, F>],
    tensors: &mut [TensorState<F>],
    params: &[&mut [F]],
    grads: &[&[F]],
) {
    if let Some(at) = middle::<F>(tensors) {
        let (tensors, more_tensors) = tensors.split_at_mut(at);
        let (params, more_params) = params.split_at(at);
        let (grads, more_grads) = grads.split_at(at);
        join(
            || contribute(groups, tensors, params, grads),
            || contribute(groups, more_tensors, more_params, more_grads),
        );
        return;
    }
    for ((tensor, p), g) in tensors.iter_mut().zip(params).zip(grads) {
        let states: [Option<&[F]>; MAX_SUMS] =
            std::array::from_fn(|k| tensor.states.get(k).and_then(|state| state.as_deref()));
        let count = tensor.states.len();
        if tensor.places.is_empty() {
            let from = FromFactors::of(tensor.factors.as_ref());
            tensor.sums = contribute_tensor(&groups[tensor.scaled], p, g, states, count, from);
            continue;
        }
        tensor.sums = [0.0; MAX_SUMS];
        for run in runs(&tensor.places) {
            let states = states.map(|state| state.map(|state| &state[run.clone()]));
            let group = &groups[tensor.places[run.start]];
            let sums = group.cpu.contribute(&group.hyper, &p[run.clone()], &g[run], &states[..count]);
            tensor.sums.iter_mut().zip(sums).for_each(|(sum, x)| *sum += x);
        }
    }
}

fn contribute_tensor<F: Number>(
    group: &Scaled<'_, F>,
    p: &[F],
    g: &[F],
    states: [Option<&[F]>; MAX_SUMS],
    count: usize,
    from: FromFactors<'_, F>,
) -> Sum {
    let Some(at) = half(p.len()).filter(|_| F::FAST) else {
        let made = from.state(p.len());
        let mut states = states;
        made.iter().for_each(|(at, state)| states[*at] = Some(state));
        if F::FAST {
            return group.cpu.contribute_fast(&group.hyper, p, g, &states[..count]);
        }
        return group.cpu.contribute(&group.hyper, p, g, &states[..count]);
    };
    let (p, more_p) = p.split_at(at);
    let (g, more_g) = g.split_at(at);
    let (first, rest) = (states.map(|s| s.map(|s| &s[..at])), states.map(|s| s.map(|s| &s[at..])));
    let (a, b) = join(
        || contribute_tensor(group, p, g, first, count, from),
        || contribute_tensor(group, more_p, more_g, rest, count, from.after(at)),
    );
    std::array::from_fn(|k| a[k] + b[k])
}

/// Updates every tensor.
pub(crate) fn update<F: Number>(
    groups: &[Scaled<'_, F>],
    tensors: &mut [TensorState<F>],
    params: &mut [&mut [F]],
    grads: &[&[F]],
) {
    if let Some(at) = middle::<F>(tensors) {
        let (tensors, more_tensors) = tensors.split_at_mut(at);
        let (params, more_params) = params.split_at_mut(at);
        let (grads, more_grads) = grads.split_at(at);
        join(|| update(groups, tensors, params, grads), || update(groups, more_tensors, more_params, more_grads));
        return;
    }
    for ((tensor, p), g) in tensors.iter_mut().zip(params).zip(grads) {
        let count = tensor.states.len();
        let mut states = tensor.states.iter_mut();
        let mut states = std::array::from_fn(|_| states.next().and_then(|state| state.as_deref_mut()));
        if !tensor.places.is_empty() {
            for run in runs(&tensor.places) {
                let mut states = states
                    .each_mut()
                    .map(|state: &mut Option<&mut [F]>| state.as_deref_mut().map(|s| &mut s[run.clone()]));
                let rates = if tensor.rates.is_empty() { &[] } else { &tensor.rates[run.clone()] };
                let rows = RowTerms { rates, shared: tensor.shared };
                let group = &groups[tensor.places[run.start]];
                let (p, g) = (&mut p[run.clone()], &g[run]);
                group.cpu.update_rows(&group.hyper, &tensor.decision, p, g, &mut states[..count], rows);
            }
            continue;
        }
        let group = &groups[tensor.scaled];
        let rows = RowTerms { rates: tensor.rates.as_slice(), shared: tensor.shared };
        if rows.rates.is_empty() && rows.shared.is_none() {
            let from = FromFactors::of(tensor.factors.as_ref());
            update_tensor(group, &tensor.decision, (p, g), states, count, from);
        } else {
            group.cpu.update_rows(&group.hyper, &tensor.decision, p, g, &mut states[..count], rows);
        }
    }
}

fn update_tensor<F: Number>(
    group: &Scaled<'_, F>,
    decision: &[F],
    (p, g): (&mut [F], &[F]),
    mut states: [Option<&mut [F]>; MAX_SUMS],
    count: usize,
    from: FromFactors<'_, F>,
) {
    let Some(at) = half(p.len()).filter(|_| F::FAST) else {
        let mut made = from.state(p.len());
        let mut states = states.each_mut().map(|state| state.as_deref_mut());
        made.iter_mut().for_each(|(at, state)| states[*at] = Some(state));
        if F::FAST {
            return group.cpu.update_fast(&group.hyper, decision, p, g, &mut states[..count]);
        }
        return group.cpu.update(&group.hyper, decision, p, g, &mut states[..count]);
    };
    let (p, more_p) = p.split_at_mut(at);
    let (g, more_g) = g.split_at(at);
    let mut rest = [const { None }; MAX_SUMS];
    let first = std::array::from_fn(|k| {
        let (state, more) = states[k].take()?.split_at_mut(at);
        rest[k] = Some(more);
        Some(state)
    });
    join(
        || update_tensor(group, decision, (p, g), first, count, from),
        || update_tensor(group, decision, (more_p, more_g), rest, count, from.after(at)),
    );
}

/// The runs of elements that have one step count: equal places follow each other.
fn runs(places: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    places.chunk_by(|a, b| a == b).map(move |run| {
        let run = start..start + run.len();
        start = run.end;
        run
    })
}

/// The index at which to split these tensors into two runs. `None`: they are one piece or one tensor.
fn middle<F: Number>(tensors: &[TensorState<F>]) -> Option<usize> {
    let elements: usize = tensors.iter().map(|t| t.spec.elements).sum();
    if !F::FAST || elements <= PIECE || tensors.len() < 2 {
        return None;
    }
    let mut before = 0;
    let reaches_half = |tensor: &TensorState<F>| {
        before += tensor.spec.elements;
        before >= elements / 2
    };
    let at = tensors.iter().position(reaches_half).map_or(1, |last| last + 1);
    Some(at.min(tensors.len() - 1))
}
