//! The blocked loops with x86's vector units: [`update_blocks`] and [`contribute_blocks`] are inlined here and compiled for these units.

use super::blocks::{contribute_blocks, update_blocks};
use crate::optim::rule::elementwise::ElementwiseRule;
use crate::optim::rule::number::Real;
use crate::optim::rule::spec::MAX_SUMS;

#[target_feature(enable = "avx2,fma")]
pub(super) fn update_avx2<F: Real, T: ElementwiseRule>(
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
pub(super) fn update_avx512<F: Real, T: ElementwiseRule>(
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
pub(super) fn contribute_avx512<F: Real, T: ElementwiseRule>(
    rule: &T,
    hyper: &[F],
    p: &[F],
    g: &[F],
    states: &[Option<&[F]>],
) -> [f64; MAX_SUMS] {
    contribute_blocks(rule, hyper, p, g, states)
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn contribute_avx2<F: Real, T: ElementwiseRule>(
    rule: &T,
    hyper: &[F],
    p: &[F],
    g: &[F],
    states: &[Option<&[F]>],
) -> [f64; MAX_SUMS] {
    contribute_blocks(rule, hyper, p, g, states)
}
