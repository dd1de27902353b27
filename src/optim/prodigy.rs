//! Prodigy; the rule is `shaders/rules/prodigy.wgsl`.

use std::borrow::Cow;

use super::rule::{
    ElementwiseRule, LEAST_LN, MAX_SUMS, Real, Scalar, StateSpec, Sums, bias_correction, fields, ln_beta,
};
use crate::optim::Value;
use crate::optim::rule::settings::{Range, Ranged, Setting, settings};

/// β3 of [`Prodigy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beta3 {
    /// √β2; the word `root` in files.
    Root,
    /// A decay rate in [0, 1).
    Rate(f64),
}

const ROOT: &str = "root";
const OR_ROOT: &str = "or `root` for the square root of beta2";

impl Setting for Beta3 {
    fn value(&self) -> Value {
        match self {
            Self::Root => Value::Word(ROOT.to_owned()),
            Self::Rate(rate) => Value::Number(*rate),
        }
    }
    fn from_value(value: &Value) -> Result<Self, Cow<'static, str>> {
        match value {
            Value::Number(x) => Ok(Self::Rate(*x)),
            Value::Word(word) if word == ROOT => Ok(Self::Root),
            _ => Err(format!("a number, {OR_ROOT}").into()),
        }
    }
}

impl Ranged for Beta3 {
    fn accepts(range: Range) -> Cow<'static, str> {
        format!("{}, {OR_ROOT}", <f64 as Ranged>::accepts(range)).into()
    }
    fn check(&self, range: Range) -> Result<(), Cow<'static, str>> {
        if let Self::Rate(rate) = self { Ranged::check(rate, range) } else { Ok(()) }
    }
}

settings! {
    /// Prodigy (Mishchenko & Defazio, arXiv 2306.06101) as in the authors' package: AdamW that finds its own rate. An estimate `d` of the distance
    /// from the start to the solution, over all tensors of all groups, takes the place of the learning rate; `lr` is a factor, which schedules
    /// drive.
    ///
    /// `δ = d lr`, `N ← β3 N + (d²/d0) lr Σ g(θ0 - θ)`, `s ← β3 s + (d²/d0) lr g`, `d̂ = d_coef N/Σ|s|`, from which `d` grows; then AdamW's moments
    /// of `d g` and `θ ← θ - δλθ - δ m/(√v + dε)`. Before the first gradient that is not 0, a step is skipped and not counted.
    ///
    /// All groups share one `d`. A group may have an `lr` of its own, which multiplies `d` in the group; the authors' package refuses that.
    ///
    /// The rule keeps `m` (where β1 > 0), `v`, `z` = s d0/d² and `p0`, the parameters at the start. `z` and `p0` stay f32 under every storage:
    /// a step adds little to `z`, and θ0 - θ is a small difference. The global state is `d`, its largest estimate `d_max`, and `n` = N d0/d².
    ///
    /// ```
    /// use wgpu_optim::{Prodigy, Rule};
    ///
    /// let rule = Prodigy { weight_decay: 0.01, ..Prodigy::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "z", "p0"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Prodigy = "prodigy",
    /// The factor of d, without a unit. Default 1, the authors' package; schedules go from 1 to 0.
    lr: f64 = 1.0, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, the authors' package.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1); one value for all groups. Default 0.999, the authors' package.
    beta2: f64 = 0.999, BELOW_ONE;
    /// Decay rate β3 of N and s, in [0, 1); one value for all groups. Default `root`, √β2, the authors' package.
    beta3: Beta3 = Beta3::Root, BELOW_ONE;
    /// ε, outside the root, times d. Default 1e-8, the authors' package.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled: each step subtracts δλθ. Default 0, the authors' package.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// The first d, in θ's unit, far below the distance; one value for all groups. Default 1e-6, the authors' package.
    d0: f64 = 1e-6, EPSILON;
    /// The factor of each estimate of d; one value for all groups. Default 1, the authors' package.
    d_coef: f64 = 1.0, NOT_NEGATIVE;
    /// The largest factor by which d grows in a step, in [1, 1e30]; one value for all groups. Default 1e30, which limits nothing, as ∞ in the
    /// authors' package.
    growth_rate: f64 = 1e30, GROWTH;
    /// Corrects δ for the bias of the moments. Default false, the authors' package.
    bias_correction: bool = false;
    /// Leaves `lr` out of s, so that a warm-up of `lr` does not make d too large. Default false, the authors' package.
    safeguard_warmup: bool = false;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// k
        rate,
        /// k'
        gain,
        /// λ
        lambda,
        /// ε
        eps,
        /// β1
        beta1,
        /// 1-β1
        one_minus_beta1,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
        /// β3
        beta3,
        /// The first d.
        d0,
        /// The factor of each estimate.
        d_coef,
        /// The largest factor of d.
        growth_rate,
    }
}

fields! {
    /// The states.
    State {
        /// First moment of d g.
        m,
        /// Second moment of d g.
        v,
        /// s d0/d²
        z,
        /// The parameter at the start; [`NOT_BEGUN`] before the first step.
        p0,
    }
}

fields! {
    /// The decision from the sums.
    Decision {
        /// d of this step.
        d,
        /// d of the next step.
        next,
        /// (d/next)²
        shrink,
    }
}

fields! {
    /// What decisions keep.
    GlobalState {
        /// d of the next step; 0 before the first.
        d,
        /// The largest estimate.
        d_max,
        /// N d0/d²
        n,
    }
}

/// The largest number of f32.
const NOT_BEGUN: f64 = f32::MAX as f64;
/// Numbers from here on say that an element has not begun, so that a rounding of [`NOT_BEGUN`] says it too.
const LEAST: f64 = 3e38;

#[inline(always)]
fn start<F: Real>(p: F, s: &State<F>) -> F {
    if s.p0 >= F::from_f64(LEAST) { p } else { s.p0 }
}

#[inline(always)]
fn direction<F: Real>(h: &Hyper<F>, g: F, s: &State<F>) -> F {
    h.beta3 * s.z + h.gain * g
}

impl ElementwiseRule for Prodigy {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = GlobalState<F>;
    const TEXT: &'static str = include_str!("../../shaders/rules/prodigy.wgsl");
    /// Worst measured error: 0.85.
    const TOLERANCE: f64 = 3.0;
    const SUMS: Sums = Sums { sums: 2, totals: 2, after_clip: true, may_refuse: true, ..Sums::NONE };
    const FINDS_RATE: bool = true;

    fn sums_read(&self) -> &'static [&'static str] {
        &["p", "g", "z", "p0"]
    }

    fn common(&self) -> &'static [&'static str] {
        &["beta2", "beta3", "d0", "d_coef", "growth_rate", "bias_correction", "safeguard_warmup"]
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let corrected = bias_correction(self.beta2, t).sqrt() / bias_correction(self.beta1, t);
        let correction = if self.bias_correction { corrected } else { 1.0 };
        let (lr, of_lr) = if self.safeguard_warmup { (1.0, 1.0) } else { (self.lr, correction) };
        let beta3 = if let Beta3::Rate(rate) = self.beta3 { rate } else { self.beta2.sqrt() };
        vec![
            Scalar::both("rate", self.lr, correction),
            Scalar::both("gain", lr, of_lr),
            Scalar::call("lambda", self.weight_decay),
            Scalar::call("eps", self.eps),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("beta3", beta3),
            Scalar::call("d0", self.d0),
            Scalar::call("d_coef", self.d_coef),
            Scalar::call("growth_rate", self.growth_rate),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        // Without bias correction every power is 0.
        let of = |beta| if self.bias_correction { ln_beta(beta) } else { LEAST_LN };
        let (ln_beta1, ln_beta2) = (of(self.beta1), of(self.beta2));
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_safeguard", f64::from(u8::from(self.safeguard_warmup))),
            Scalar::call("own_ln_beta1", ln_beta1),
            Scalar::call("own_ln_beta2", ln_beta2),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        let none = StateSpec { initial: NOT_BEGUN, ..StateSpec::zero("p0", true) };
        vec![
            StateSpec::zero("m", self.beta1 > 0.0),
            StateSpec::zero("v", true).positive(),
            StateSpec::zero("z", true).exact(),
            none.exact(),
        ]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        // With the default d0 the first steps are below the rounding of most parameters in f32, and θ0 - θ is mostly rounding.
        let base = Self { weight_decay: 0.1, d0: 1e-2, ..Self::default() };
        vec![
            ("default", base),
            ("small_d0", Self { d0: 1e-6, ..base }),
            ("large_d0", Self { d0: 0.3, beta2: 0.9, bias_correction: true, ..base }),
            (
                "slow_growth",
                Self { lr: 0.4, d0: 1e-3, growth_rate: 1.02, d_coef: 0.5, beta3: Beta3::Rate(0.5), ..base },
            ),
            ("safeguard", Self { lr: 0.5, beta1: 0.0, safeguard_warmup: true, ..base }),
        ]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, p: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let mut terms = [F::zero(); MAX_SUMS];
        terms[..2].copy_from_slice(&[g * (start(p, s) - p), direction(h, g, s).abs()]);
        terms
    }

    fn total<F: Real>(&self, h: &Hyper<F>, sums: &[F], _: F) -> [[F; 3]; MAX_SUMS] {
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        totals[0][0] = h.rate * sums[0];
        totals[1][0] = sums[1];
        totals
    }

    fn refuse<F: Real>(&self, totals: &[F]) -> bool {
        totals[1] <= F::zero()
    }

    fn decide<F: Real>(&self, h: &Hyper<F>, totals: &[F], _: &[F], state: &mut GlobalState<F>) -> Decision<F> {
        let before = *state;
        let begins = before.d == F::zero();
        let d = if begins { h.d0 } else { before.d };
        let n = h.beta3 * before.n + totals[0];
        let estimate = h.d_coef * n / totals[1];
        let d_max = (if begins { h.d0 } else { before.d_max }).max(estimate);
        let grown = if d <= F::from_f64(1.00001) * h.d0 { d.max(estimate) } else { d };
        let next = d_max.min(grown * h.growth_rate);
        let share = d / next;
        *state = GlobalState { d: next, d_max, n: share * share * n };
        Decision { d, next, shrink: share * share }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let scaled = d.d * g;
        let m = h.beta1 * s.m + h.one_minus_beta1 * scaled;
        let v = h.beta2 * s.v + h.one_minus_beta2 * scaled * scaled;
        let z = d.shrink * direction(h, g, s);
        let p0 = start(p, s);
        s.m = m;
        s.v = v;
        s.z = z;
        s.p0 = p0;
        -(h.rate * d.d) * (h.lambda * p + m / (v.sqrt() + d.next * h.eps))
    }
}
