//! A rule as a trait object, which the engine, the CPU path and the tools hold.

use std::fmt::Debug;

use super::elementwise::ElementwiseRule;
use super::fields::Fields;
use super::host::HostKernel;
#[cfg(not(feature = "cpu"))]
use super::host::formless::Formless;
use super::sealed::Sealed;
use super::settings::{Configured, Value};
use super::spec::{Origin, Scalar, StateSpec, Sums};
use crate::Result;
use crate::optim::procedure::Shared;

/// A configured optimizer. Every configuration struct of this crate implements this trait, and so does `CustomRule`.
///
/// The trait is sealed: no code outside of this crate implements it, because the engine runs this crate's own WGSL with some of wgpu's
/// checks off. A user-defined rule is a `CustomRule`; its text runs with all checks on.
///
/// ```compile_fail,E0277
/// use wgpu_optim::optim::rule::host::HostKernel;
/// use wgpu_optim::optim::{Rule, Scalar, StateSpec, Sums, Value};
///
/// #[derive(Debug)]
/// struct Mine;
///
/// impl Rule for Mine {
///     fn name(&self) -> &'static str { "mine" }
///     fn settings(&self) -> Vec<(&'static str, Value)> { Vec::new() }
///     fn set(&mut self, _: &str, _: &Value) -> wgpu_optim::Result<()> { Ok(()) }
///     fn check(&self) -> wgpu_optim::Result<()> { Ok(()) }
///     fn text(&self) -> &str { "" }
///     fn tolerance(&self) -> f64 { 0.0 }
///     fn flags(&self) -> Vec<(&'static str, bool)> { Vec::new() }
///     fn scalars(&self, _: u64) -> Vec<Scalar> { Vec::new() }
///     fn states(&self) -> Vec<StateSpec> { Vec::new() }
///     fn sums(&self) -> Sums { Sums::default() }
///     fn sums_read(&self) -> &[&'static str] { &[] }
///     fn decision(&self) -> &[&'static str] { &[] }
///     fn cpu_f32(&self) -> &dyn HostKernel<f32> { self.cpu_f32() }
///     fn cpu_f64(&self) -> &dyn HostKernel<f64> { self.cpu_f64() }
///     fn boxed(&self) -> Box<dyn Rule> { Box::new(Mine) }
/// }
/// ```
pub trait Rule: Debug + Send + Sync + Sealed {
    /// The optimizer's name.
    fn name(&self) -> &'static str;
    /// All settings with their values.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    /// Sets one setting by its name.
    ///
    /// # Errors
    /// The name is unknown, or the value has the wrong type. [`check`](Self::check) checks the ranges.
    fn set(&mut self, name: &str, value: &Value) -> Result<()>;
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting outside of its range, with its value and its range.
    fn check(&self) -> Result<()>;
    /// The rule's WGSL.
    fn text(&self) -> &str;
    /// The origin of the WGSL.
    #[doc(hidden)]
    fn origin(&self) -> Origin {
        Origin::default()
    }
    /// The tolerance of `verify`, in units of 2⁻²⁴.
    #[doc(hidden)]
    fn tolerance(&self) -> f64;
    /// WGSL constants that the settings choose.
    fn flags(&self) -> Vec<(&'static str, bool)>;
    /// The members of `Hyper` at the `t`-th step, `t` counted from 1.
    fn scalars(&self, t: u64) -> Vec<Scalar>;
    /// The members of `Own` of the rule's text, where it computes scalars at a step count of a tensor's own.
    #[doc(hidden)]
    fn own_count(&self) -> Option<Vec<Scalar>> {
        None
    }
    /// The states, in the order of `State`.
    fn states(&self) -> Vec<StateSpec>;
    /// The point at which the model is evaluated, if that is not θ: θ plus a multiple of a state.
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        None
    }
    /// The sums the rule needs.
    fn sums(&self) -> Sums;
    /// The inputs of the sums with these settings, among `p`, `g` and the states: the first half of a step must read these inputs.
    fn sums_read(&self) -> &[&'static str];
    /// The names of the decision's members.
    fn decision(&self) -> &[&'static str];
    /// The names of the members of the global state.
    fn global_state(&self) -> &[&'static str] {
        &[]
    }
    /// The names of the members of the progress, which the rule keeps once per tensor.
    fn progress(&self) -> &[&'static str] {
        &[]
    }
    /// The progress after `t` steps with these settings.
    #[doc(hidden)]
    fn progress_after(&self, _t: u64) -> Vec<f64> {
        Vec::new()
    }
    /// The parts of a step around the update of one element.
    #[doc(hidden)]
    fn procedure(&self) -> Shared {
        None
    }
    /// The settings that all groups of an optimizer must share.
    fn common(&self) -> &[&'static str] {
        &[]
    }
    /// Whether the elements of a row may share one second moment:
    /// [`Builder::share_second_moment`](crate::Builder::share_second_moment).
    fn shares_rows(&self) -> bool {
        false
    }
    /// Whether one rate must move all elements of a tensor: no column rates.
    fn needs_one_rate(&self) -> bool {
        self.evaluation().is_some()
    }
    /// Whether the rule finds its own rate, so that its `lr` is a factor that needs no search.
    fn finds_rate(&self) -> bool {
        false
    }
    /// Whether the rule has a form for the CPU. Without a form [`cpu_f32`](Self::cpu_f32) and [`cpu_f64`](Self::cpu_f64)
    /// return NaN.
    fn has_cpu(&self) -> bool {
        true
    }
    /// The rule on the CPU in f32.
    #[doc(hidden)]
    fn cpu_f32(&self) -> &dyn HostKernel<f32>;
    /// The rule on the CPU in f64.
    #[doc(hidden)]
    fn cpu_f64(&self) -> &dyn HostKernel<f64>;
    /// A copy.
    fn boxed(&self) -> Box<dyn Rule>;
}

impl<T: ElementwiseRule> Rule for T {
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn settings(&self) -> Vec<(&'static str, Value)> {
        Configured::settings(self)
    }
    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        Configured::set(self, name, value)
    }
    fn check(&self) -> Result<()> {
        self.check_ranges()?;
        self.check_together()
    }
    fn text(&self) -> &str {
        T::TEXT
    }
    fn origin(&self) -> Origin {
        Origin::CRATE
    }
    fn tolerance(&self) -> f64 {
        T::TOLERANCE
    }
    fn flags(&self) -> Vec<(&'static str, bool)> {
        ElementwiseRule::flags(self)
    }
    fn scalars(&self, t: u64) -> Vec<Scalar> {
        ElementwiseRule::scalars(self, t)
    }
    fn own_count(&self) -> Option<Vec<Scalar>> {
        ElementwiseRule::own_count(self)
    }
    fn states(&self) -> Vec<StateSpec> {
        ElementwiseRule::states(self)
    }
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        ElementwiseRule::evaluation(self)
    }
    fn sums(&self) -> Sums {
        ElementwiseRule::sums(self)
    }
    fn sums_read(&self) -> &[&'static str] {
        ElementwiseRule::sums_read(self)
    }
    fn decision(&self) -> &[&'static str] {
        // Settings that need no sums decide nothing. Probes decide without sums.
        let decides = T::SUMS.sums == 0 || ElementwiseRule::sums(self).sums > 0;
        if decides { <T::Decision<f64> as Fields<f64>>::NAMES } else { &[] }
    }
    fn global_state(&self) -> &[&'static str] {
        <T::GlobalState<f64> as Fields<f64>>::NAMES
    }
    fn progress(&self) -> &[&'static str] {
        T::PROGRESS
    }
    fn progress_after(&self, t: u64) -> Vec<f64> {
        ElementwiseRule::progress_after(self, t)
    }
    fn procedure(&self) -> Shared {
        ElementwiseRule::procedure(self)
    }
    fn common(&self) -> &[&'static str] {
        ElementwiseRule::common(self)
    }
    fn shares_rows(&self) -> bool {
        T::SHARES_ROWS
    }
    fn needs_one_rate(&self) -> bool {
        T::NEEDS_ONE_RATE || ElementwiseRule::evaluation(self).is_some()
    }
    fn finds_rate(&self) -> bool {
        T::FINDS_RATE
    }
    fn has_cpu(&self) -> bool {
        cfg!(feature = "cpu")
    }
    #[cfg(feature = "cpu")]
    fn cpu_f32(&self) -> &dyn HostKernel<f32> {
        self
    }
    #[cfg(feature = "cpu")]
    fn cpu_f64(&self) -> &dyn HostKernel<f64> {
        self
    }
    #[cfg(not(feature = "cpu"))]
    fn cpu_f32(&self) -> &dyn HostKernel<f32> {
        &Formless
    }
    #[cfg(not(feature = "cpu"))]
    fn cpu_f64(&self) -> &dyn HostKernel<f64> {
        &Formless
    }
    fn boxed(&self) -> Box<dyn Rule> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Rule> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}
