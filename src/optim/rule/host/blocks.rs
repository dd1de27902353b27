//! The blocked loops.

use crate::optim::rule::elementwise::ElementwiseRule;
use crate::optim::rule::fields::Fields;
use crate::optim::rule::number::Real;
use crate::optim::rule::spec::MAX_SUMS;

/// The count of elements that the blocked loop holds in local arrays. Locals cannot alias, so the inner loop vectorises.
const BLOCK: usize = 32;

/// The number of members of `State`.
const fn states_of<F: Real, T: ElementwiseRule>() -> usize {
    <T::State<F> as Fields<F>>::NAMES.len()
}

/// A rule's decision; zeros where the settings decide nothing.
#[inline(always)]
pub(super) fn decided<F: Real, T: ElementwiseRule>(decision: &[F]) -> T::Decision<F> {
    T::Decision::load(|i| decision.get(i).copied().unwrap_or(F::zero()))
}

/// The tail of a slice, filled up with zeros to a block.
#[inline(always)]
fn padded<F: Real>(tail: &[F]) -> [F; BLOCK] {
    let mut block = [F::zero(); BLOCK];
    block[..tail.len()].copy_from_slice(tail);
    block
}

#[inline(always)]
fn update_block<F: Real, T: ElementwiseRule>(
    rule: &T,
    h: &T::Hyper<F>,
    d: &T::Decision<F>,
    p: &mut [F; BLOCK],
    g: &[F; BLOCK],
    s: &mut [[F; BLOCK]; MAX_SUMS],
) {
    for i in 0..BLOCK {
        let mut one = T::State::load(|k| s[k][i]);
        p[i] = p[i] + rule.update(h, d, p[i], g[i], &mut one);
        one.store(|k, x| s[k][i] = x);
    }
}

#[inline(always)]
pub(super) fn update_blocks<F: Real, T: ElementwiseRule>(
    rule: &T,
    hyper: &[F],
    decision: &[F],
    p: &mut [F],
    g: &[F],
    states: &mut [Option<&mut [F]>],
) {
    let h = T::Hyper::load(|i| hyper[i]);
    let d = decided::<F, T>(decision);
    let full = p.len() - p.len() % BLOCK;
    let (p, p_tail) = p.split_at_mut(full);
    let (g, g_tail) = g.split_at(full);
    let mut kept: [Option<&mut [[F; BLOCK]]>; MAX_SUMS] = [const { None }; MAX_SUMS];
    for (kept, state) in kept.iter_mut().zip(states.iter_mut()) {
        *kept = state.as_deref_mut().map(|state| state[..full].as_chunks_mut().0);
    }
    update_full(rule, &h, &d, p.as_chunks_mut().0, g.as_chunks().0, &mut kept);
    if !p_tail.is_empty() {
        update_tail(rule, &h, &d, p_tail, g_tail, states, full);
    }
}

#[inline(always)]
fn update_full<F: Real, T: ElementwiseRule>(
    rule: &T,
    h: &T::Hyper<F>,
    d: &T::Decision<F>,
    p: &mut [[F; BLOCK]],
    g: &[[F; BLOCK]],
    states: &mut [Option<&mut [[F; BLOCK]]>; MAX_SUMS],
) {
    for (i, (p, g)) in p.iter_mut().zip(g).enumerate() {
        let mut s = [[F::zero(); BLOCK]; MAX_SUMS];
        for k in 0..states_of::<F, T>() {
            if let Some(state) = &states[k] {
                s[k] = state[i];
            }
        }
        let (mut next, g) = (*p, *g);
        update_block(rule, h, d, &mut next, &g, &mut s);
        *p = next;
        for k in 0..states_of::<F, T>() {
            if let Some(state) = &mut states[k] {
                state[i] = s[k];
            }
        }
    }
}

/// The elements from `full` on, which do not fill a block.
#[inline(always)]
fn update_tail<F: Real, T: ElementwiseRule>(
    rule: &T,
    h: &T::Hyper<F>,
    d: &T::Decision<F>,
    p: &mut [F],
    g: &[F],
    states: &mut [Option<&mut [F]>],
    full: usize,
) {
    let mut s = [[F::zero(); BLOCK]; MAX_SUMS];
    for (block, state) in s.iter_mut().zip(states.iter()) {
        *block = padded(state.as_deref().map_or(&[], |state| &state[full..]));
    }
    let mut next = padded(p);
    update_block(rule, h, d, &mut next, &padded(g), &mut s);
    let rest = p.len();
    p.copy_from_slice(&next[..rest]);
    for (block, state) in s.iter().zip(states.iter_mut()) {
        if let Some(state) = state {
            state[full..].copy_from_slice(&block[..rest]);
        }
    }
}

/// Adds the terms of a block to one sum per lane, so that no lane waits for another lane.
#[inline(always)]
fn contribute_block<F: Real, T: ElementwiseRule>(
    rule: &T,
    h: &T::Hyper<F>,
    p: &[F; BLOCK],
    g: &[F; BLOCK],
    s: &[[F; BLOCK]; MAX_SUMS],
    lanes: &mut [[f64; BLOCK]; MAX_SUMS],
) {
    for i in 0..BLOCK {
        let terms = rule.contribute(h, p[i], g[i], &T::State::load(|k| s[k][i]));
        for k in 0..T::SUMS.sums {
            lanes[k][i] += terms[k].to_f64();
        }
    }
}

#[inline(always)]
pub(super) fn contribute_blocks<F: Real, T: ElementwiseRule>(
    rule: &T,
    hyper: &[F],
    p: &[F],
    g: &[F],
    states: &[Option<&[F]>],
) -> [f64; MAX_SUMS] {
    let h = T::Hyper::load(|i| hyper[i]);
    let full = p.len() - p.len() % BLOCK;
    let (p, p_tail) = p.split_at(full);
    let (g, g_tail) = g.split_at(full);
    let mut kept: [Option<&[[F; BLOCK]]>; MAX_SUMS] = [None; MAX_SUMS];
    let mut s_tail = [[F::zero(); BLOCK]; MAX_SUMS];
    for (k, state) in states.iter().enumerate() {
        kept[k] = state.map(|state| state[..full].as_chunks().0);
        s_tail[k] = padded(state.map_or(&[], |state| &state[full..]));
    }
    let mut lanes = [[0.0; BLOCK]; MAX_SUMS];
    for (i, (p, g)) in p.as_chunks().0.iter().zip(g.as_chunks().0).enumerate() {
        let mut s = [[F::zero(); BLOCK]; MAX_SUMS];
        for k in 0..states_of::<F, T>() {
            if let Some(state) = kept[k] {
                s[k] = state[i];
            }
        }
        contribute_block(rule, &h, p, g, &s, &mut lanes);
    }
    if !p_tail.is_empty() {
        let mut tail = [[0.0; BLOCK]; MAX_SUMS];
        contribute_block(rule, &h, &padded(p_tail), &padded(g_tail), &s_tail, &mut tail);
        // Leaves out the terms of the padding, which may be any numbers.
        for (lanes, tail) in lanes.iter_mut().zip(&tail) {
            lanes.iter_mut().zip(&tail[..p_tail.len()]).for_each(|(lane, x)| *lane += x);
        }
    }
    let mut sums = [0.0; MAX_SUMS];
    for k in 0..T::SUMS.sums {
        sums[k] = tree_sum(lanes[k]);
    }
    sums
}

/// The sum of a block, half by half.
#[inline(always)]
fn tree_sum(mut block: [f64; BLOCK]) -> f64 {
    let mut half = BLOCK / 2;
    while half > 0 {
        for i in 0..half {
            block[i] += block[i + half];
        }
        half /= 2;
    }
    block[0]
}
