//! A rule on the CPU, over slices: the plain loop that the oracle runs, and the blocked loop that the compiler turns into vector
//! instructions.

use super::rule::{MAX_SUMS, Members, Real, Twin};

/// How many elements the blocked loop holds in local arrays. Locals cannot alias, so the inner loop vectorises.
const BLOCK: usize = 32;

/// A rule's mathematics with its types erased. `states` has one entry a member of `State`; `None` is a state that the settings make
/// unused: it loads as 0 and is not stored.
pub trait Cpu<F>: Send + Sync {
    /// Updates parameters and states, one element after the other.
    fn update(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]);
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
    /// A tensor's decision, member by member.
    fn decide(&self, hyper: &[F], totals: &[F], own: &[F]) -> Vec<F>;
}

impl<F: Real, T: Twin> Cpu<F> for T {
    fn update(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]) {
        let h = T::Hyper::load(|i| hyper[i]);
        let d = T::Decision::load(|i| decision[i]);
        for i in 0..p.len() {
            let mut s = T::State::load(|k| states[k].as_ref().map_or(F::zero(), |state| state[i]));
            p[i] = p[i] + Twin::update(self, &h, &d, p[i], g[i], &mut s);
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
            for (sum, term) in sums.iter_mut().zip(Twin::contribute(self, &h, p[i], g[i], &s)) {
                *sum += term.wide();
            }
        }
        sums
    }

    fn contribute_fast(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the processor has the features, as just checked.
                return unsafe { x86::contribute_avx2(self, hyper, p, g, states) };
            }
        }
        contribute_blocks(self, hyper, p, g, states)
    }

    fn total(&self, hyper: &[F], sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        Twin::total(self, &T::Hyper::load(|i| hyper[i]), sums, elements)
    }

    fn refuse(&self, totals: &[F]) -> bool {
        Twin::refuse(self, totals)
    }

    fn decide(&self, hyper: &[F], totals: &[F], own: &[F]) -> Vec<F> {
        let d = Twin::decide(self, &T::Hyper::load(|i| hyper[i]), totals, own);
        let mut out = Vec::new();
        d.store(|_, x| out.push(x));
        out
    }
}

/// Copies `BLOCK` elements (fewer at the end) into a local array.
#[inline(always)]
fn load_block<F: Real>(from: &[F], start: usize) -> [F; BLOCK] {
    let mut block = [F::zero(); BLOCK];
    if let Some(full) = from.get(start..start + BLOCK) {
        block.copy_from_slice(full);
    } else {
        block[..from.len() - start].copy_from_slice(&from[start..]);
    }
    block
}

#[inline(always)]
fn store_block<F: Real>(to: &mut [F], start: usize, block: &[F; BLOCK]) {
    if let Some(full) = to.get_mut(start..start + BLOCK) {
        full.copy_from_slice(block);
    } else {
        let rest = to.len() - start;
        to[start..].copy_from_slice(&block[..rest]);
    }
}

#[inline(always)]
fn update_blocks<F: Real, T: Twin>(
    rule: &T,
    hyper: &[F],
    decision: &[F],
    p: &mut [F],
    g: &[F],
    states: &mut [Option<&mut [F]>],
) {
    let h = T::Hyper::load(|i| hyper[i]);
    let d = T::Decision::load(|i| decision[i]);
    for start in (0..p.len()).step_by(BLOCK) {
        let mut block_p = load_block(p, start);
        let block_g = load_block(g, start);
        let mut block_s = [[F::zero(); BLOCK]; MAX_SUMS];
        for (block, state) in block_s.iter_mut().zip(states.iter()) {
            if let Some(state) = state {
                *block = load_block(state, start);
            }
        }
        for i in 0..BLOCK {
            let mut s = T::State::load(|k| block_s[k][i]);
            block_p[i] = block_p[i] + rule.update(&h, &d, block_p[i], block_g[i], &mut s);
            s.store(|k, x| block_s[k][i] = x);
        }
        store_block(p, start, &block_p);
        for (block, state) in block_s.iter().zip(states.iter_mut()) {
            if let Some(state) = state {
                store_block(state, start, block);
            }
        }
    }
}

#[inline(always)]
fn contribute_blocks<F: Real, T: Twin>(
    rule: &T,
    hyper: &[F],
    p: &[F],
    g: &[F],
    states: &[Option<&[F]>],
) -> [f64; MAX_SUMS] {
    let h = T::Hyper::load(|i| hyper[i]);
    let mut sums = [0.0; MAX_SUMS];
    for start in (0..p.len()).step_by(BLOCK) {
        let block_p = load_block(p, start);
        let block_g = load_block(g, start);
        let mut block_s = [[F::zero(); BLOCK]; MAX_SUMS];
        for (block, state) in block_s.iter_mut().zip(states.iter()) {
            if let Some(state) = state {
                *block = load_block(state, start);
            }
        }
        let mut terms = [[F::zero(); BLOCK]; MAX_SUMS];
        for i in 0..BLOCK.min(p.len() - start) {
            let s = T::State::load(|k| block_s[k][i]);
            let term = rule.contribute(&h, block_p[i], block_g[i], &s);
            for k in 0..T::SUMS.sums {
                terms[k][i] = term[k];
            }
        }
        for k in 0..T::SUMS.sums {
            sums[k] += tree_sum(terms[k]).wide();
        }
    }
    sums
}

/// A block's sum by halves: the order that vector units add in.
#[inline(always)]
fn tree_sum<F: Real>(mut block: [F; BLOCK]) -> F {
    let mut half = BLOCK / 2;
    while half > 0 {
        for i in 0..half {
            block[i] = block[i] + block[i + half];
        }
        half /= 2;
    }
    block[0]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{MAX_SUMS, Real, Twin, contribute_blocks, update_blocks};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn update_avx2<F: Real, T: Twin>(
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
    pub(super) fn update_avx512<F: Real, T: Twin>(
        rule: &T,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
    ) {
        update_blocks(rule, hyper, decision, p, g, states);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn contribute_avx2<F: Real, T: Twin>(
        rule: &T,
        hyper: &[F],
        p: &[F],
        g: &[F],
        states: &[Option<&[F]>],
    ) -> [f64; MAX_SUMS] {
        contribute_blocks(rule, hyper, p, g, states)
    }
}
