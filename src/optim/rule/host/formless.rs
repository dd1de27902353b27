//! The rules of this crate in a build without the host's paths. [`need_cpu`](crate::optim::rule::checks::need_cpu) refuses them before any
//! number is computed.

use super::{HostKernel, RowTerms};
use crate::optim::rule::number::Real;
use crate::optim::rule::spec::MAX_SUMS;

pub(crate) struct Formless;

impl<F: Real> HostKernel<F> for Formless {
    fn update_rows(&self, _: &[F], _: &[F], p: &mut [F], _: &[F], _: &mut [Option<&mut [F]>], _: RowTerms<'_, F>) {
        p.fill(F::from_f64(f64::NAN));
    }

    fn update_fast(&self, _: &[F], _: &[F], p: &mut [F], _: &[F], _: &mut [Option<&mut [F]>]) {
        p.fill(F::from_f64(f64::NAN));
    }

    fn contribute(&self, _: &[F], _: &[F], _: &[F], _: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        [f64::NAN; MAX_SUMS]
    }

    fn contribute_fast(&self, _: &[F], _: &[F], _: &[F], _: &[Option<&[F]>]) -> [f64; MAX_SUMS] {
        [f64::NAN; MAX_SUMS]
    }

    fn total(&self, _: &[F], _: &[F], _: F) -> [[F; 3]; MAX_SUMS] {
        [[F::from_f64(f64::NAN); 3]; MAX_SUMS]
    }

    fn refuse(&self, _: &[F]) -> bool {
        false
    }

    fn decide(&self, _: &[F], _: &[F], _: &[F], _: &mut [F]) -> Vec<F> {
        Vec::new()
    }

    fn settle(&self, _: &[F], _: &[F], _: &[F], decision: &[F]) -> Vec<F> {
        decision.to_vec()
    }

    fn hold(&self, _: &[F]) -> bool {
        false
    }
}
