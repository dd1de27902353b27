//! What a rule is: its scalars, its states, its sums, and its mathematics for the CPU.

pub mod host;
pub(crate) mod settings;

use std::fmt::Debug;

use super::Value;
use super::procedure::Procedure;
use crate::Result;
use crate::optim::rule::host::HostKernel;
use crate::optim::rule::settings::Configured;

/// The most sums, totals or decision members a rule may have.
pub const MAX_SUMS: usize = 8;

/// The number types a rule's CPU form runs in: f32 and f64.
pub trait Real: num_traits::Float + Debug + Send + Sync + 'static {
    /// Rounds from f64.
    fn of(x: f64) -> Self;
    /// Widens to f64.
    fn wide(self) -> f64;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

/// A struct of numbers with named members, the Rust side of a WGSL struct of the same name.
pub trait Fields<F>: Copy {
    /// The members' names, in order.
    const NAMES: &'static [&'static str];
    /// Fills the members in order.
    fn load(next: impl FnMut(usize) -> F) -> Self;
    /// Hands the members out in order.
    fn store(&self, put: impl FnMut(usize, F));
}

/// Declares a [`Fields`] struct.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<F> { $($(#[$fdoc])* pub $field: F),* }

        impl<F: Copy> $crate::optim::rule::Fields<F> for $name<F> {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];
            #[inline(always)]
            fn load(mut next: impl FnMut(usize) -> F) -> Self {
                let mut at = 0..;
                Self { $($field: next(at.next().unwrap_or_default())),* }
            }
            #[inline(always)]
            fn store(&self, mut put: impl FnMut(usize, F)) {
                let mut at = 0..;
                $(put(at.next().unwrap_or_default(), self.$field);)*
            }
        }
    };
}
pub(crate) use members;

/// The decision of a rule that needs no sums.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl<F> Fields<F> for Nothing {
    const NAMES: &'static [&'static str] = &[];
    fn load(_: impl FnMut(usize) -> F) -> Self {
        Self
    }
    fn store(&self, _: impl FnMut(usize, F)) {}
}

/// What a member of `Hyper` depends on. It decides which table carries it to the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depends {
    /// Settings, which may change at every call.
    Call,
    /// The count of applied steps, and settings that may change only while no step is under way.
    Count,
    /// A product of both.
    Both,
}

/// One member of `Hyper` for one step, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar {
    /// The member's name.
    pub name: &'static str,
    /// What it depends on: the same at every step and for all settings.
    pub depends: Depends,
    /// The factor that depends on the call.
    pub call: f64,
    /// The factor that depends on the count.
    pub count: f64,
}

impl Scalar {
    pub(crate) const fn call(name: &'static str, call: f64) -> Self {
        Self { name, depends: Depends::Call, call, count: 1.0 }
    }
    pub(crate) const fn count(name: &'static str, count: f64) -> Self {
        Self { name, depends: Depends::Count, call: 1.0, count }
    }
    pub(crate) const fn both(name: &'static str, call: f64, count: f64) -> Self {
        Self { name, depends: Depends::Both, call, count }
    }
    /// The member's value.
    #[must_use]
    pub const fn value(&self) -> f64 {
        self.call * self.count
    }
}

/// A state: one number a parameter, kept from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateSpec {
    /// The member of `State`, and the name in checkpoints and trajectories.
    pub name: &'static str,
    /// Its value before the first step.
    pub initial: f64,
    /// Whether the settings need it. An unused state loads as 0 and is neither kept nor stored.
    pub used: bool,
    /// Which numbers it holds, and so how it may be stored.
    pub kind: Kind,
}

/// Which numbers a state holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of both signs, of which a part in a hundred may be lost: first moments.
    #[default]
    Signed,
    /// Numbers of at least 0 that are divided by: second moments. None that is not 0 is ever rounded to 0.
    Positive,
    /// Numbers that must be exact, because the rule adds little to them each step or moves parameters along them. Always f32.
    Exact,
}

impl StateSpec {
    pub(crate) const fn zero(name: &'static str, used: bool) -> Self {
        Self { name, initial: 0.0, used, kind: Kind::Signed }
    }

    pub(crate) const fn positive(self) -> Self {
        Self { kind: Kind::Positive, ..self }
    }

    pub(crate) const fn exact(self) -> Self {
        Self { kind: Kind::Exact, ..self }
    }
}

/// The sums a rule needs over each tensor and over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many products of an element's numbers are summed; 0: the rule needs none.
    pub sums: usize,
    /// How many totals come of them.
    pub totals: usize,
    /// The sums are no polynomial in the clip factor, which must be known before them.
    pub after_clip: bool,
    /// The rule may leave a step out whole.
    pub may_refuse: bool,
    /// A step may leave the count of applied steps, and with it the bias corrections, where it is.
    pub may_hold: bool,
}

impl Sums {
    pub(crate) const NONE: Self = Self { sums: 0, totals: 0, after_clip: false, may_refuse: false, may_hold: false };
}

/// Whether a rule's WGSL is this crate's own, whose loops are known to end. Any other runs with every check of wgpu's on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    own: bool,
}

impl Origin {
    pub(crate) const CRATE: Self = Self { own: true };

    /// Whether it is.
    pub(crate) const fn is_own(self) -> bool {
        self.own
    }
}

/// The mathematics of a rule: the scalars of a step, and the twin of `shaders/rules/*.wgsl` with the same statements in the same
/// order, for one element, in f32 and f64.
///
/// The twin finds slips of transcription; that the paper was read right is for the golden trajectories to find.
pub trait ElementwiseRule: Configured + Clone + Debug + Send + Sync + 'static {
    /// One group's scalars of one step.
    type Hyper<F: Real>: Fields<F>;
    /// One element's states.
    type State<F: Real>: Fields<F>;
    /// What was decided from the sums.
    type Decision<F: Real>: Fields<F>;
    /// What decisions remember from step to step, one for all tensors; zeros at first.
    type GlobalState<F: Real>: Fields<F>;

    /// The rule's WGSL.
    const TEXT: &'static str;
    /// The sums it needs.
    const SUMS: Sums = Sums::NONE;

    /// What stands around the update of one element and is more than four lanes know of.
    fn procedure(&self) -> Procedure {
        Procedure::Plain
    }

    /// The settings that all groups must share, because what they decide is decided once for all tensors.
    fn common(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether its text squares the gradient of the second moment with `wo_square`, and [`update_squaring`](Self::update_squaring) with
    /// what it is given, so that the elements of a row may share it.
    const SHARES_ROWS: bool = false;

    /// What the sums depend on with these settings, of `p`, `g` and the states: the first half of a step must read these.
    fn sums_read(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks what no single range can say.
    fn check_together(&self) -> Result<()> {
        Ok(())
    }

    /// The members of `Hyper` at the `t`-th applied step, `t` counted from 1.
    fn scalars(&self, t: u64) -> Vec<Scalar>;

    /// The states, in the order of `State`.
    fn states(&self) -> Vec<StateSpec>;

    /// WGSL constants that the settings choose.
    fn flags(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }

    /// Where the rule is evaluated, if elsewhere than it is trained: θ plus so many times a state. All configurations have it or none.
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        None
    }

    /// Configurations that together reach every text and every branch of the rule; weight decay is never zero where there is one.
    fn variants() -> Vec<(&'static str, Self)>;

    /// The change Δθ of one element; its states are updated in place.
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

    /// A tensor's totals from its sums, each as a polynomial 1, c, c² in the clip factor.
    fn total<F: Real>(&self, _h: &Self::Hyper<F>, _sums: &[F], _elements: F) -> [[F; 3]; MAX_SUMS] {
        [[F::zero(); 3]; MAX_SUMS]
    }

    /// Whether the step must be left out whole.
    fn refuse<F: Real>(&self, _totals: &[F]) -> bool {
        false
    }

    /// A tensor's decision, from the totals over everything and its own; with probes, from their slopes. Every tensor's call changes
    /// the memory in the same way.
    fn decide<F: Real>(
        &self,
        _h: &Self::Hyper<F>,
        _totals: &[F],
        _own: &[F],
        _memory: &mut Self::GlobalState<F>,
    ) -> Self::Decision<F> {
        Self::Decision::load(|_| F::zero())
    }

    /// The decision completed by the totals as they are once an integrator has been along.
    fn settle<F: Real>(
        &self,
        _h: &Self::Hyper<F>,
        _totals: &[F],
        _own: &[F],
        d: &Self::Decision<F>,
    ) -> Self::Decision<F> {
        *d
    }

    /// Whether the step leaves the count of applied steps where it is.
    fn hold<F: Real>(&self, _d: &Self::Decision<F>) -> bool {
        false
    }
}

/// A configured optimizer. Every configuration struct of this crate is one.
pub trait Rule: Debug + Send + Sync {
    /// The optimizer's name.
    fn name(&self) -> &'static str;
    /// All settings with their values.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    /// Sets one by name.
    ///
    /// # Errors
    /// The name is unknown or the value of the wrong kind; ranges are for [`check`](Self::check).
    fn set(&mut self, name: &str, value: &Value) -> Result<()>;
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that makes no sense, its value and its range.
    fn check(&self) -> Result<()>;
    /// The rule's WGSL.
    fn text(&self) -> &str;
    /// Where the WGSL comes from.
    #[doc(hidden)]
    fn origin(&self) -> Origin {
        Origin::default()
    }
    /// WGSL constants that the settings choose.
    fn flags(&self) -> Vec<(&'static str, bool)>;
    /// The members of `Hyper` at the `t`-th applied step, `t` counted from 1.
    fn scalars(&self, t: u64) -> Vec<Scalar>;
    /// The states, in the order of `State`.
    fn states(&self) -> Vec<StateSpec>;
    /// Where the rule is evaluated, if elsewhere than it is trained: θ plus so many times a state.
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        None
    }
    /// The sums the rule needs.
    fn sums(&self) -> Sums;
    /// What the sums depend on with these settings, of `p`, `g` and the states: the first half of a step must read these.
    fn sums_read(&self) -> &[&'static str];
    /// The names of the decision's members.
    fn decision(&self) -> &[&'static str];
    /// The names of what decisions remember.
    fn global_state(&self) -> &[&'static str] {
        &[]
    }
    /// What stands around the update of one element.
    fn procedure(&self) -> Procedure {
        Procedure::Plain
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
    /// Whether the rule has a form for the CPU. Without one [`cpu_f32`](Self::cpu_f32) and [`cpu_f64`](Self::cpu_f64) answer NaN.
    fn has_cpu(&self) -> bool {
        true
    }
    /// The rule on the CPU in f32.
    fn cpu_f32(&self) -> &dyn HostKernel<f32>;
    /// The rule on the CPU in f64.
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
    fn flags(&self) -> Vec<(&'static str, bool)> {
        ElementwiseRule::flags(self)
    }
    fn scalars(&self, t: u64) -> Vec<Scalar> {
        ElementwiseRule::scalars(self, t)
    }
    fn states(&self) -> Vec<StateSpec> {
        ElementwiseRule::states(self)
    }
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        ElementwiseRule::evaluation(self)
    }
    fn sums(&self) -> Sums {
        T::SUMS
    }
    fn sums_read(&self) -> &[&'static str] {
        ElementwiseRule::sums_read(self)
    }
    fn decision(&self) -> &[&'static str] {
        <T::Decision<f64> as Fields<f64>>::NAMES
    }
    fn global_state(&self) -> &[&'static str] {
        <T::GlobalState<f64> as Fields<f64>>::NAMES
    }
    fn procedure(&self) -> Procedure {
        ElementwiseRule::procedure(self)
    }
    fn common(&self) -> &[&'static str] {
        ElementwiseRule::common(self)
    }
    fn shares_rows(&self) -> bool {
        T::SHARES_ROWS
    }
    fn cpu_f32(&self) -> &dyn HostKernel<f32> {
        self
    }
    fn cpu_f64(&self) -> &dyn HostKernel<f64> {
        self
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

/// Whether two groups of one optimizer may hold these: the same mathematics, whatever the settings.
pub(crate) fn same_rule(a: &dyn Rule, b: &dyn Rule) -> bool {
    let scalars = |rule: &dyn Rule| rule.scalars(1).iter().map(|s| (s.name, s.depends)).collect::<Vec<_>>();
    let states = |rule: &dyn Rule| rule.states().iter().map(|s| s.name).collect::<Vec<_>>();
    a.name() == b.name()
        && a.text() == b.text()
        && a.sums() == b.sums()
        && a.procedure() == b.procedure()
        && scalars(a) == scalars(b)
        && states(a) == states(b)
}

/// Whether an optimizer that was built with `before` can go on with `after`.
pub(crate) fn goes_on(after: &dyn Rule, before: &dyn Rule) -> bool {
    after.states() == before.states() && after.flags() == before.flags() && after.procedure() == before.procedure()
}

/// Checks the settings that all groups must share.
pub(crate) fn check_common<'a>(groups: impl Iterator<Item = (&'a str, &'a dyn Rule)>) -> crate::Result<()> {
    let groups: Vec<_> = groups.collect();
    let [(first, rule), others @ ..] = groups.as_slice() else { return Ok(()) };
    let value = |rule: &dyn Rule, name: &str| rule.settings().into_iter().find(|(n, _)| *n == name).map(|(_, v)| v);
    for (group, other) in others {
        for name in rule.common() {
            if let (Some(a), Some(b)) = (value(*rule, name), value(*other, name))
                && a != b
            {
                return Err(crate::Error::Usage(format!(
                    "{name} is {a} in group `{first}` and {b} in group `{group}`; {} needs one for all groups",
                    rule.name()
                )));
            }
        }
    }
    Ok(())
}

/// What a rule squares with, where rows share nothing.
#[inline(always)]
pub(crate) fn own_square<F: Real>(weight: F, x: F) -> F {
    weight * x * x
}

/// Says so where a rule's columns cannot have rates: what it keeps goes the parameters' way at the rule's own rate.
pub(crate) fn need_one_rate(rule: &dyn Rule) -> Result<()> {
    if rule.evaluation().is_none() {
        return Ok(());
    }
    let problem = "keeps its average beside the parameters, which one rate must move: no column rates";
    Err(crate::Error::Usage(format!("{} {problem}", rule.name())))
}

/// Says so where rows cannot share a rule's second moment.
pub(crate) fn need_shared(rule: &dyn Rule) -> Result<()> {
    if rule.shares_rows() {
        return Ok(());
    }
    let names = super::ALL.iter().filter(|e| e.sample().shares_rows()).map(|e| e.name).collect::<Vec<_>>().join(", ");
    Err(crate::Error::Usage(format!("{} cannot share a second moment over rows; these can: {names}", rule.name())))
}

/// Says so where a rule cannot leave out rows or give columns rates: its procedure sees whole tensors.
pub(crate) fn need_rows(rule: &dyn Rule) -> Result<()> {
    if rule.procedure().steps_rows() {
        return Ok(());
    }
    let problem = "moves or mixes whole tensors inside its step: row sets and column rates are for the other rules";
    Err(crate::Error::Usage(format!("{} {problem}", rule.name())))
}

/// Says so where a rule cannot run on the CPU.
pub(crate) fn need_cpu(rule: &dyn Rule) -> Result<()> {
    if rule.has_cpu() {
        return Ok(());
    }
    Err(crate::Error::Usage(format!("{} has no CPU form: it runs on the GPU only", rule.name())))
}

/// 1 - β^t without cancellation.
pub(crate) fn bias_correction(beta: f64, t: u64) -> f64 {
    if beta == 0.0 { 1.0 } else { -(t as f64 * beta.ln()).exp_m1() }
}
