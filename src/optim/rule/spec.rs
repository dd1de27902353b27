//! The description of a rule: its scalars, its states, its sums and the origin of its WGSL. Plain data.

/// The most sums, totals or decision members a rule may have.
pub const MAX_SUMS: usize = 8;

/// The dependence of a member of `Hyper`, which decides which table carries the member to the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depends {
    /// Settings, which may change at every call.
    Call,
    /// The step count, and settings that may change only while every recorded step is finished.
    Count,
    /// A product of both.
    Both,
}

/// One member of `Hyper` for one step, in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar {
    /// The member's name.
    pub name: &'static str,
    /// The dependence: the same at every step and for all settings.
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

/// A state: one number per parameter, kept from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateSpec {
    /// The member of `State`, and the name in checkpoints and trajectories.
    pub name: &'static str,
    /// Its value before the first step.
    pub initial: f64,
    /// Whether the settings need it. An unused state loads as 0 and is neither kept nor stored.
    pub used: bool,
    /// The kind of the state's numbers, which decides how they may be stored.
    pub kind: Kind,
    /// Whether its content is undefined between steps: the procedure of the rule makes it before each update. Such a state is in no
    /// checkpoint.
    pub scratch: bool,
}

/// The kinds of numbers in a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of both signs that may lose one part in a hundred: first moments.
    #[default]
    Signed,
    /// Numbers of at least 0 that the rule divides by: second moments. Rounding never turns another number into 0.
    Positive,
    /// Numbers that must be exact, because the rule adds little to them each step or moves parameters along them. Always f32.
    Exact,
}

impl StateSpec {
    pub(crate) const fn zero(name: &'static str, used: bool) -> Self {
        Self { name, initial: 0.0, used, kind: Kind::Signed, scratch: false }
    }

    pub(crate) const fn positive(self) -> Self {
        Self { kind: Kind::Positive, ..self }
    }

    pub(crate) const fn exact(self) -> Self {
        Self { kind: Kind::Exact, ..self }
    }

    pub(crate) const fn scratch(self) -> Self {
        Self { scratch: true, ..self }
    }
}

/// The sums a rule needs over each tensor and over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The number of products that are summed over the elements; 0: the rule needs no sums.
    pub sums: usize,
    /// The number of totals from these sums.
    pub totals: usize,
    /// The sums are not a polynomial in the clip factor, so that the clip factor must be known before the sums.
    pub after_clip: bool,
    /// The rule may skip a step.
    pub may_refuse: bool,
    /// A step may leave the step count, and with it the bias corrections, unchanged.
    pub may_hold: bool,
    /// Neither totals nor decisions depend on the step count, so that they may run over elements with different step counts.
    pub any_count: bool,
}

impl Sums {
    pub(crate) const NONE: Self =
        Self { sums: 0, totals: 0, after_clip: false, may_refuse: false, may_hold: false, any_count: false };
}

/// Whether a rule's WGSL belongs to this crate. The loops of the crate's WGSL are known to end; other WGSL runs with all checks of wgpu on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    own: bool,
}

impl Origin {
    pub(crate) const CRATE: Self = Self { own: true };

    /// Whether the WGSL belongs to this crate.
    pub(crate) const fn is_own(self) -> bool {
        self.own
    }
}
