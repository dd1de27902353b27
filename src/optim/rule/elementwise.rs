//! A rule's mathematics for one element, in f32 and f64.

use std::fmt::Debug;

use super::fields::Fields;
use super::number::Real;
use super::settings::Configured;
use super::spec::{MAX_SUMS, Scalar, StateSpec, Sums};
use crate::Result;
use crate::optim::procedure::Shared;

/// The mathematics of a rule: the scalars of a step, and the statements of `shaders/rules/*.wgsl` in the same order, for one
/// element, in f32 and f64.
///
/// Comparison with the WGSL finds slips of transcription; the golden trajectories find a misread paper. The trait is sealed: code outside of this crate
/// cannot name `Configured`.
pub trait ElementwiseRule: Configured + Clone + Debug + Send + Sync + 'static {
    /// One group's scalars of one step.
    type Hyper<F: Real>: Fields<F>;
    /// One element's states.
    type State<F: Real>: Fields<F>;
    /// The decision from the sums.
    type Decision<F: Real>: Fields<F>;
    /// The global state: the numbers that decisions keep from step to step, once for all tensors; zeros at first.
    type GlobalState<F: Real>: Fields<F>;

    /// The rule's WGSL.
    const TEXT: &'static str;

    /// The tolerance of `verify`, in units of 2⁻²⁴: the relative error that each input number of a step may have.
    ///
    /// The value is three times the worst error that `wgpu-optim verify --json` measured on lavapipe (Mesa 22.3.6), of steps and of states,
    /// over all variants and sizes in f32, rounded up to half a unit. Each rule states its measured error beside the value. Lavapipe rounds
    /// every division and every root correctly. WGSL lets a division be off by 5 units and a root by 9. A step is computed from five numbers
    /// or more. The two errors, spread over these numbers, take the other two thirds of the value.
    ///
    /// The value is a measured constant and is not derived from the WGSL text: a tolerance that counted the operations of the text under
    /// test would let the text loosen its own check.
    const TOLERANCE: f64;

    /// The sums that the rule needs, with the settings that need most.
    const SUMS: Sums = Sums::NONE;

    /// The sums that the rule needs with these settings: those of [`SUMS`](Self::SUMS), or none.
    fn sums(&self) -> Sums {
        Self::SUMS
    }

    /// The parts of a step around the update of one element.
    fn procedure(&self) -> Shared {
        None
    }

    /// The progress: the names of numbers that the rule keeps from step to step once per tensor, zeros at first. The rule then decides with
    /// [`proceed`](Self::proceed), and its text has `struct Progress` and a function of this name. A rule with progress has no sums.
    const PROGRESS: &'static [&'static str] = &[];

    /// The progress after `t` steps with these settings.
    fn progress_after(&self, _t: u64) -> Vec<f64> {
        Vec::new()
    }

    /// Counts a step in the progress of a tensor, and returns the decision of the step.
    fn proceed<F: Real>(&self, _h: &Self::Hyper<F>, _progress: &mut [F]) -> Self::Decision<F> {
        Self::Decision::load(|_| F::zero())
    }

    /// The settings that all groups must share, because one decision from these settings holds for all tensors.
    fn common(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the elements of a row may share one second moment. The text then squares the gradient with `wo_square`, and
    /// [`update_squaring`](Self::update_squaring) with its argument `square`.
    const SHARES_ROWS: bool = false;

    /// Whether a state follows the moved parameter, so that one rate must move all elements of a tensor.
    const NEEDS_ONE_RATE: bool = false;

    /// Whether the rule finds its own rate, so that its `lr` is a factor that needs no search.
    const FINDS_RATE: bool = false;

    /// The inputs of the sums with these settings, among `p`, `g` and the states: the first half of a step must read these inputs.
    fn sums_read(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks the settings together, beyond the range of each.
    fn check_together(&self) -> Result<()> {
        Ok(())
    }

    /// The members of `Hyper` at the `t`-th step, `t` counted from 1.
    fn scalars(&self, t: u64) -> Vec<Scalar>;

    /// The scalars from which `at_count` of the rule's text computes the scalars of a tensor or an element with a step count of its own: the
    /// members of `Own`, each with `own_` before its name, and none depends on the count. `None`: the text has no such function, and where
    /// scalars depend on the count, no tensor can have a count of its own.
    fn own_count(&self) -> Option<Vec<Scalar>> {
        None
    }

    /// The states, in the order of `State`.
    fn states(&self) -> Vec<StateSpec>;

    /// WGSL constants that the settings choose.
    fn flags(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }

    /// The point at which the model is evaluated, if that is not θ: θ plus a multiple of a state. Either all configurations have such a
    /// point, or none has.
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        None
    }

    /// Configurations that together reach every text and every branch of the rule. If the rule has weight decay, all
    /// configurations have it above 0.
    fn variants() -> Vec<(&'static str, Self)>;

    /// Returns the change Δθ of one element, and updates its states in place.
    fn update<F: Real>(&self, h: &Self::Hyper<F>, d: &Self::Decision<F>, p: F, g: F, s: &mut Self::State<F>) -> F;

    /// As [`update`](Self::update), with `square(weight, g)` in place of `weight · g²` in the second moment.
    fn update_squaring<F: Real>(
        &self,
        h: &Self::Hyper<F>,
        d: &Self::Decision<F>,
        p: F,
        g: F,
        s: &mut Self::State<F>,
        _square: impl FnMut(F, F) -> F,
    ) -> F {
        self.update(h, d, p, g, s)
    }

    /// One element's terms of the sums.
    fn contribute<F: Real>(&self, _h: &Self::Hyper<F>, _p: F, _g: F, _s: &Self::State<F>) -> [F; MAX_SUMS] {
        [F::zero(); MAX_SUMS]
    }

    /// A tensor's totals from its sums, each as the coefficients of 1, c and c² in the clip factor c.
    fn total<F: Real>(&self, _h: &Self::Hyper<F>, _sums: &[F], _elements: F) -> [[F; 3]; MAX_SUMS] {
        [[F::zero(); 3]; MAX_SUMS]
    }

    /// Whether the step must be skipped.
    fn refuse<F: Real>(&self, _totals: &[F]) -> bool {
        false
    }

    /// A tensor's decision, from the totals over all tensors and from its own totals; with probes, from the slopes of the losses. The
    /// calls of all tensors change the global state in the same way.
    fn decide<F: Real>(
        &self,
        _h: &Self::Hyper<F>,
        _totals: &[F],
        _own: &[F],
        _global: &mut Self::GlobalState<F>,
    ) -> Self::Decision<F> {
        Self::Decision::load(|_| F::zero())
    }

    /// The decision, completed by the totals after the integration.
    fn settle<F: Real>(
        &self,
        _h: &Self::Hyper<F>,
        _totals: &[F],
        _own: &[F],
        d: &Self::Decision<F>,
    ) -> Self::Decision<F> {
        *d
    }

    /// Whether the step leaves the step count unchanged.
    fn hold<F: Real>(&self, _d: &Self::Decision<F>) -> bool {
        false
    }
}
