//! What a rule says of itself: its scalars, its states, its sums and where its WGSL comes from. Plain data.

/// The most sums, totals or decision members a rule may have.
pub const MAX_SUMS: usize = 8;

/// What a member of `Hyper` depends on. It decides which table carries it to the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depends {
    /// Settings, which may change at every call.
    Call,
    /// The step count, and settings that may change only while no step is under way.
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

/// A state: one number per parameter, kept from step to step.
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
    /// The rule may skip a step.
    pub may_refuse: bool,
    /// A step may leave the step count, and with it the bias corrections, where it is.
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
