//! A rule on the CPU, over slices, with its types erased. `kernel.rs` holds the plain loop that the oracle runs; `blocks.rs` holds the
//! blocked loop that the compiler turns into vector instructions. Without the feature `cpu` a rule is `formless.rs` here.

#[cfg(feature = "cpu")]
mod blocks;
#[cfg(not(feature = "cpu"))]
pub(crate) mod formless;
#[cfg(feature = "cpu")]
mod kernel;
#[cfg(all(feature = "cpu", target_arch = "x86_64"))]
mod x86;

use super::spec::MAX_SUMS;

/// The options of an update of rows.
#[derive(Clone, Copy, Debug)]
pub struct RowTerms<'a, F> {
    /// The factor of each element's change; empty: 1.
    pub rates: &'a [F],
    /// The number of elements per row, if a row shares one second moment.
    pub shared: Option<usize>,
}

/// A rule's mathematics with its types erased. `states` has one entry per member of `State`; `None` is a state that the settings make
/// unused: it loads as 0 and is not stored.
pub trait HostKernel<F>: Send + Sync {
    /// Updates parameters and states, one element after the other.
    fn update(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]) {
        self.update_rows(hyper, decision, p, g, states, RowTerms { rates: &[], shared: None });
    }
    /// As [`update`](Self::update), with options for rows.
    fn update_rows(
        &self,
        hyper: &[F],
        decision: &[F],
        p: &mut [F],
        g: &[F],
        states: &mut [Option<&mut [F]>],
        rows: RowTerms<'_, F>,
    );
    /// As [`update`](Self::update), in blocks, with the widest vector units of this processor.
    fn update_fast(&self, hyper: &[F], decision: &[F], p: &mut [F], g: &[F], states: &mut [Option<&mut [F]>]);
    /// Adds the elements' terms of the sums.
    fn contribute(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS];
    /// As [`contribute`](Self::contribute), in blocks.
    fn contribute_fast(&self, hyper: &[F], p: &[F], g: &[F], states: &[Option<&[F]>]) -> [f64; MAX_SUMS];
    /// A tensor's totals as polynomials in the clip factor.
    fn total(&self, hyper: &[F], sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS];
    /// Whether the step must be skipped.
    fn refuse(&self, totals: &[F]) -> bool;
    /// A tensor's decision, member by member. The call changes `global` as if this tensor were the only one.
    fn decide(&self, hyper: &[F], totals: &[F], own: &[F], global: &mut [F]) -> Vec<F>;
    /// Counts a step in the progress of a tensor, and returns the decision, member by member.
    fn proceed(&self, _hyper: &[F], _progress: &mut [F]) -> Vec<F> {
        Vec::new()
    }
    /// The decision, completed by the totals after the integration.
    fn settle(&self, hyper: &[F], totals: &[F], own: &[F], decision: &[F]) -> Vec<F>;
    /// Whether the step leaves the step count unchanged.
    fn hold(&self, decision: &[F]) -> bool;
}
