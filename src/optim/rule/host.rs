//! A rule on the CPU, over slices: the plain loop that the oracle runs, and the blocked loop that the compiler turns into vector
//! instructions.

use crate::optim::rule::{ElementwiseRule, Fields, MAX_SUMS, Real};

/// How many elements the blocked loop holds in local arrays. Locals cannot alias, so the inner loop vectorises.
const BLOCK: usize = 32;

/// What rows ask of an update.
#[derive(Clone, Copy, Debug)]
pub struct RowTerms<'a, F> {
    /// Each element's change times its rate; none: 1.
    pub rates: &'a [F],
    /// The elements of a row, where they share one second moment.
    pub shared: Option<usize>,
}

/// A rule's mathematics with its types erased. `states` has one entry a member of `State`; `None` is a state that the settings make
/// unused: it loads as 0 and is not stored.
pub trait HostKernel<F>: Send + Sync {
    /// Updates parameters and states, one element after the other.
    fn update(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]) {
        self.update_rows(hyper, decision, p, g, states, RowTerms { rates: &[], shared: None });
    }
    /// The same with what rows ask for.
    fn update_rows(
        &self,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
        rows: RowTerms<'_, F>,
    );
    /// The same in blocks, with the widest vector units that this processor has.
    fn update_fast(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]);
    /// Adds the elements' terms of the sums.
    fn contribute(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS];
    /// The same in blocks.
    fn contribute_fast(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS];
    /// A tensor's totals as polynomials in the clip factor.
    fn total(&self, hyper: &[F], sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS];
    /// Whether the step must be left out whole.
    fn refuse(&self, totals: &[F]) -> bool;
    /// A tensor's decision, member by member. `memory` is changed as if this tensor were the only one.
    fn decide(&self, hyper: &[F], totals: &[F], own: &[F], memory: &mut [F]) -> Vec<F>;
    /// The decision completed by the totals as they are once an integrator has been along.
    fn settle(&self, hyper: &[F], totals: &[F], own: &[F], decision: &[F]) -> Vec<F>;
    /// Whether the step leaves the count of applied steps where it is.
    fn hold(&self, decision: &[F]) -> bool;
}

impl<F: Real, T: ElementwiseRule> HostKernel<F> for T {
    fn update_rows(
        &self,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
        rows: RowTerms<'_, F>,
    ) {
        let h = T::Hyper::load(|i| hyper[i]);
        let d = T::Decision::load(|i| decision[i]);
        let mut mean = F::zero();
        for i in 0..p.len() {
            let load = |i: usize| T::State::load(|k| states[k].as_ref().map_or(F::zero(), |state| state[i]));
            let mut s = load(i);
            let change = match rows.shared {
                None => ElementwiseRule::update(self, &h, &d, p[i], g[i], &mut s),
                Some(width) => {
                    if i % width == 0 {
                        let mut sum = F::zero();
                        for j in i..p.len().min(i + width) {
                            let add = |weight: F, x: F| {
                                sum = sum + x * x;
                                weight
                            };
                            self.update_squaring(&h, &d, p[j], g[j], &mut load(j), add);
                        }
                        mean = sum / F::of(width as f64);
                    }
                    self.update_squaring(&h, &d, p[i], g[i], &mut s, |weight, _| weight * mean)
                }
            };
            p[i] = p[i] + rows.rates.get(i).map_or(change, |rate| *rate * change);
            s.store(|k, x| {
                if let Some(state) = &mut states[k] {
                    state[i] = x;
                }
            });
        }
    }

    fn update_fast(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has the features, as just checked.
                return unsafe { x86::update_avx512(self, hyper, decision, p, g, states) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has the features, as just checked.
                return unsafe { x86::update_avx2(self, hyper, decision, p, g, states) };
            }
        }
        update_blocks(self, hyper, decision, p, g, states);
    }

    fn contribute(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        let h = T::Hyper::load(|i| hyper[i]);
        let mut sums = [0.0; MAX_SUMS];
        for i in 0..p.len() {
            let s = T::State::load(|k| states[k].map_or(F::zero(), |state| state[i]));
            for (sum, term) in sums.iter_mut().zip(ElementwiseRule::contribute(self, &h, p[i], g[i], &s)) {
                *sum += term.wide();
            }
        }
        sums
    }

    fn contribute_fast(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has the features, as just checked.
                return unsafe { x86::contribute_avx512(self, hyper, p, g, states) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has the features, as just checked.
                return unsafe { x86::contribute_avx2(self, hyper, p, g, states) };
            }
        }
        contribute_blocks(self, hyper, p, g, states)
    }

    fn total(&self, hyper: &[F], sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        ElementwiseRule::total(self, &T::Hyper::load(|i| hyper[i]), sums, elements)
    }

    fn refuse(&self, totals: &[F]) -> bool {
        ElementwiseRule::refuse(self, totals)
    }

    fn decide(&self, hyper: &[F], totals: &[F], own: &[F], memory: &mut [F]) -> Vec<F> {
        let mut kept = T::GlobalState::load(|i| memory[i]);
        let d = ElementwiseRule::decide(self, &T::Hyper::load(|i| hyper[i]), totals, own, &mut kept);
        kept.store(|i, x| memory[i] = x);
        listed(&d)
    }

    fn settle(&self, hyper: &[F], totals: &[F], own: &[F], decision: &[F]) -> Vec<F> {
        let d = T::Decision::load(|i| decision[i]);
        listed(&ElementwiseRule::settle(self, &T::Hyper::load(|i| hyper[i]), totals, own, &d))
    }

    fn hold(&self, decision: &[F]) -> bool {
        ElementwiseRule::hold(self, &T::Decision::load(|i| decision[i]))
    }
}

fn listed<F: Copy, M: Fields<F>>(members: &M) -> Vec<F> {
    let mut out = Vec::with_capacity(M::NAMES.len());
    members.store(|_, x| out.push(x));
    out
}

/// The number of members of `State`.
const fn states_of<F: Real, T: ElementwiseRule>() -> usize {
    <T::State<F> as Fields<F>>::NAMES.len()
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
fn update_blocks<F: Real, T: ElementwiseRule>(
    rule: &T,
    hyper: &[F],
    decision: &[F],
    p: &mut [F],
    g: &[F],
    states: &mut [Option<&mut [F]>],
) {
    let h = T::Hyper::load(|i| hyper[i]);
    let d = T::Decision::load(|i| decision[i]);
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

/// The elements from `full` on, which fill no block.
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

/// Adds the terms of a block to sums that stand beside each other, one a lane: no lane waits for another.
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
            lanes[k][i] += terms[k].wide();
        }
    }
}

#[inline(always)]
fn contribute_blocks<F: Real, T: ElementwiseRule>(
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
        // What the padding contributes is left out, whatever it is.
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

/// A block's sum by halves.
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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ElementwiseRule, MAX_SUMS, Real, contribute_blocks, update_blocks};

    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn update_avx2<F: Real, T: ElementwiseRule>(
        rule: &T,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
    ) {
        update_blocks(rule, hyper, decision, p, g, states);
    }

    #[target_feature(enable = "avx512f,avx512vl")]
    pub(crate) fn update_avx512<F: Real, T: ElementwiseRule>(
        rule: &T,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
    ) {
        update_blocks(rule, hyper, decision, p, g, states);
    }

    #[target_feature(enable = "avx512f,avx512vl")]
    pub(crate) fn contribute_avx512<F: Real, T: ElementwiseRule>(
        rule: &T,
        hyper: &[F],
        p: &[F],
        g: &[F],
        states: &[Option<&[F]>],
    ) -> [f64; MAX_SUMS] {
        contribute_blocks(rule, hyper, p, g, states)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(crate) fn contribute_avx2<F: Real, T: ElementwiseRule>(
        rule: &T,
        hyper: &[F],
        p: &[F],
        g: &[F],
        states: &[Option<&[F]>],
    ) -> [f64; MAX_SUMS] {
        contribute_blocks(rule, hyper, p, g, states)
    }
}
