//! Every rule of this crate as a [`HostKernel`], with the plain loops.

use super::blocks::{contribute_blocks, decided, update_blocks};
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{HostKernel, RowTerms};
use crate::optim::rule::elementwise::ElementwiseRule;
use crate::optim::rule::fields::Fields;
use crate::optim::rule::number::Real;
use crate::optim::rule::spec::MAX_SUMS;

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
        let d = decided::<F, T>(decision);
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
                        mean = sum / F::from_f64(width as f64);
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
                *sum += term.to_f64();
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

    fn decide(&self, hyper: &[F], totals: &[F], own: &[F], global: &mut [F]) -> Vec<F> {
        let mut kept = T::GlobalState::load(|i| global[i]);
        let d = ElementwiseRule::decide(self, &T::Hyper::load(|i| hyper[i]), totals, own, &mut kept);
        kept.store(|i, x| global[i] = x);
        listed(&d)
    }

    fn settle(&self, hyper: &[F], totals: &[F], own: &[F], decision: &[F]) -> Vec<F> {
        let d = decided::<F, T>(decision);
        listed(&ElementwiseRule::settle(self, &T::Hyper::load(|i| hyper[i]), totals, own, &d))
    }

    fn hold(&self, decision: &[F]) -> bool {
        ElementwiseRule::hold(self, &decided::<F, T>(decision))
    }
}

fn listed<F: Copy, M: Fields<F>>(members: &M) -> Vec<F> {
    let mut out = Vec::with_capacity(M::NAMES.len());
    members.store(|_, x| out.push(x));
    out
}
