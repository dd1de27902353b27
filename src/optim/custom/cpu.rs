//! A user-defined rule on the CPU.

use crate::optim::rule::host::{HostKernel, RowTerms};
use crate::optim::rule::{MAX_SUMS, Real};

use super::CustomRule;

/// A rule's mathematics for one element on the CPU, in f64: the reference for the GPU. The f32 path also computes in f64, and rounds.
///
/// `h` and `d` hold the members of `Hyper` and `Decision` in order, `s` those of `State`. A rule without sums needs
/// [`update`](Self::update) alone, for which a closure is enough: [`CustomRule::cpu`].
pub trait CustomCpu: Send + Sync {
    /// Returns the change of one parameter, and updates its states in place.
    fn update(&self, h: &[f64], d: &[f64], p: f64, g: f64, s: &mut [f64]) -> f64;

    /// One element's terms of the sums.
    fn contribute(&self, _h: &[f64], _p: f64, _g: f64, _s: &[f64]) -> [f64; MAX_SUMS] {
        [0.0; MAX_SUMS]
    }

    /// A tensor's totals from its sums, each as the coefficients of 1, c and c² in the clip factor c.
    fn total(&self, _h: &[f64], _sums: &[f64], _elements: f64) -> [[f64; 3]; MAX_SUMS] {
        [[0.0; 3]; MAX_SUMS]
    }

    /// Whether the step must be skipped.
    fn refuse(&self, _totals: &[f64]) -> bool {
        false
    }

    /// The members of a tensor's decision.
    fn decide(&self, _h: &[f64], _totals: &[f64], _own: &[f64]) -> Vec<f64> {
        Vec::new()
    }
}

/// A CPU form that is a closure.
pub(super) struct Closure<C>(pub(super) C);

impl<C: Fn(&[f64], f64, f64, &mut [f64]) -> f64 + Send + Sync> CustomCpu for Closure<C> {
    fn update(&self, h: &[f64], _: &[f64], p: f64, g: f64, s: &mut [f64]) -> f64 {
        (self.0)(h, p, g, s)
    }
}

/// The placeholder for a missing CPU form.
pub(super) struct Missing;

impl CustomCpu for Missing {
    fn update(&self, _: &[f64], _: &[f64], _: f64, _: f64, _: &mut [f64]) -> f64 {
        f64::NAN
    }
}

fn wide<F: Real>(values: &[F]) -> Vec<f64> {
    values.iter().map(|x| x.to_f64()).collect()
}

impl<F: Real> HostKernel<F> for CustomRule {
    fn update_rows(
        &self,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
        rows: RowTerms<'_, F>,
    ) {
        let (h, d, form) = (wide(hyper), wide(decision), self.form());
        let mut s = vec![0.0; self.states.len()];
        for (i, (p, g)) in p.iter_mut().zip(g).enumerate() {
            for (s, state) in s.iter_mut().zip(states.iter()) {
                *s = state.as_ref().map_or(0.0, |state| state[i].to_f64());
            }
            let rate = rows.rates.get(i).map_or(1.0, |rate| rate.to_f64());
            *p = F::from_f64(p.to_f64() + rate * form.update(&h, &d, p.to_f64(), g.to_f64(), &mut s));
            for (s, state) in s.iter().zip(states.iter_mut()) {
                if let Some(state) = state {
                    state[i] = F::from_f64(*s);
                }
            }
        }
    }

    fn update_fast(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]) {
        self.update(hyper, decision, p, g, states);
    }

    fn contribute(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        let (h, form) = (wide(hyper), self.form());
        let mut sums = [0.0; MAX_SUMS];
        for (i, (p, g)) in p.iter().zip(g).enumerate() {
            let s: Vec<f64> = states.iter().map(|state| state.map_or(0.0, |state| state[i].to_f64())).collect();
            let terms = form.contribute(&h, p.to_f64(), g.to_f64(), &s);
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        sums
    }

    fn contribute_fast(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        self.contribute(hyper, p, g, states)
    }

    fn total(&self, hyper: &[F], sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        self.form().total(&wide(hyper), &wide(sums), elements.to_f64()).map(|polynomial| polynomial.map(F::from_f64))
    }

    fn refuse(&self, totals: &[F]) -> bool {
        self.form().refuse(&wide(totals))
    }

    fn decide(&self, hyper: &[F], totals: &[F], own: &[F], _: &mut [F]) -> Vec<F> {
        let mut decision = self.form().decide(&wide(hyper), &wide(totals), &wide(own));
        decision.resize(self.decision.len(), f64::NAN);
        decision.into_iter().map(F::from_f64).collect()
    }

    fn settle(&self, _: &[F], _: &[F], _: &[F], decision: &[F]) -> Vec<F> {
        decision.to_vec()
    }

    fn hold(&self, _: &[F]) -> bool {
        false
    }
}
