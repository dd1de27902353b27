//! Rprop; the rule is `shaders/rules/rprop.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::Result;
use crate::optim::Value;
use crate::optim::rule::settings::{refused, settings};

settings! {
    /// Rprop (Riedmiller & Braun 1993) as `torch.optim.Rprop`: each element has a step of its own, which grows while the gradient keeps its sign
    /// and shrinks where the sign changes. It is made for gradients of the whole data: noise in a sign shrinks the step.
    ///
    /// `σ = sign(g q)`, `s ← clamp(s · (η⁺ where σ > 0, η⁻ where σ < 0, else 1), step_min, step_max)`, `g ← 0` where σ < 0, `θ ← θ - s sign(g)`,
    /// `q ← g`.
    ///
    /// The rule keeps `q`, the sign of the last gradient, and the step `s`, in θ's unit. Under every storage `s` stays f32: the factors η⁺ and η⁻
    /// act on numbers of many magnitudes. Only the sign of `q` counts, which eight bits hold too.
    ///
    /// ```
    /// use wgpu_optim::{Rprop, Rule};
    ///
    /// let rule = Rprop { lr: 1e-3, ..Rprop::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["q", "s"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Rprop = "rprop",
    /// The first step of an element, in θ's unit. A change after an element's first step does not change its step. Default 1e-2, torch's.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// η⁻, the factor where the gradient's sign changes, in [1e-3, 1). Default 0.5, torch's.
    eta_minus: f64 = 0.5, BETWEEN;
    /// η⁺, the factor where the gradient's sign stays, at least 1. Default 1.2, torch's.
    eta_plus: f64 = 1.2, AT_LEAST_ONE;
    /// The smallest step, in θ's unit, at most `step_max`. Default 1e-6, torch's.
    step_min: f64 = 1e-6, EPSILON;
    /// The largest step, in θ's unit. Default 50, torch's.
    step_max: f64 = 50.0, EPSILON;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// The first step.
        first,
        /// η⁻
        eta_minus,
        /// η⁺
        eta_plus,
        /// The smallest step.
        step_min,
        /// The largest step.
        step_max,
    }
}

fields! {
    /// The states.
    State {
        /// The sign of the last gradient; 0 where the sign had changed.
        q,
        /// The step; 0 before the first.
        s,
    }
}

/// The sign, 0 at 0. A NaN stays a NaN.
#[inline(always)]
fn direction<F: Real>(g: F) -> F {
    if g > F::zero() {
        F::one()
    } else if g < F::zero() {
        -F::one()
    } else if g == F::zero() {
        F::zero()
    } else {
        g
    }
}

impl ElementwiseRule for Rprop {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/rprop.wgsl");
    /// Worst measured error: 0.37.
    const TOLERANCE: f64 = 1.5;

    fn check_together(&self) -> Result<()> {
        if self.step_min <= self.step_max {
            return Ok(());
        }
        let needs = format!("at most step_max, which is {}", Value::Number(self.step_max));
        Err(refused("rprop", "step_min", &Value::Number(self.step_min), needs.into()))
    }

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("first", self.lr),
            Scalar::call("eta_minus", self.eta_minus),
            Scalar::call("eta_plus", self.eta_plus),
            Scalar::call("step_min", self.step_min),
            Scalar::call("step_max", self.step_max),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("q", true), StateSpec::zero("s", true).exact()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self::default();
        vec![("default", base), ("clamped", Self { eta_plus: 3.0, step_min: 6e-3, step_max: 2e-2, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, _: F, g: F, state: &mut State<F>) -> F {
        let now = direction(g);
        let agrees = now * state.q;
        let s = if state.s == F::zero() { h.first } else { state.s };
        let falls = if agrees < F::zero() { h.eta_minus } else { F::one() };
        let factor = if agrees > F::zero() { h.eta_plus } else { falls };
        let next = (s * factor).max(h.step_min).min(h.step_max);
        let q = if agrees < F::zero() { F::zero() } else { now };
        state.q = q;
        state.s = next;
        -next * q
    }
}
