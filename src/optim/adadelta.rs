//! Adadelta; the rule is `shaders/rules/adadelta.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Adadelta (Zeiler 2012) with decay as L2 regularisation, as `torch.optim.Adadelta`: the step has the size of the steps before.
    ///
    /// `g ← g + λθ`, `v ← ρ v + (1-ρ) g²`, `δ = g √(a + ε)/√(v + ε)`, `a ← ρ a + (1-ρ) δ²`, `θ ← θ - η δ`.
    ///
    /// The rule keeps `v`, the mean of the squared gradients, and `a`, the mean of the squared steps.
    ///
    /// ```
    /// use wgpu_optim::{Adadelta, Rule};
    ///
    /// let rule = Adadelta { rho: 0.95, ..Adadelta::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["v", "a"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adadelta = "adadelta",
    /// Learning rate η, a factor of the step without a unit. Default 1, torch's.
    lr: f64 = 1.0, NOT_NEGATIVE;
    /// Decay rate ρ of both means, in [0, 1). Default 0.9, torch's.
    rho: f64 = 0.9, BELOW_ONE;
    /// ε, inside both roots. The first steps are about √ε. Default 1e-6, torch's.
    eps: f64 = 1e-6, EPSILON;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η
        step_size,
        /// ε
        eps,
        /// λ
        decay,
        /// ρ
        rho,
        /// 1-ρ
        one_minus_rho,
    }
}

fields! {
    /// The states.
    State {
        /// Mean of the squared gradients.
        v,
        /// Mean of the squared steps.
        a,
    }
}

impl ElementwiseRule for Adadelta {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adadelta.wgsl");
    /// Worst measured error: 2.64.
    const TOLERANCE: f64 = 8.0;

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("step_size", self.lr),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("rho", self.rho),
            Scalar::call("one_minus_rho", 1.0 - self.rho),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("v", true).positive(), StateSpec::zero("a", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("large_eps", Self { rho: 0.5, eps: 1e-2, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let v = h.rho * s.v + h.one_minus_rho * g * g;
        let change = g * ((s.a + h.eps).sqrt() / (v + h.eps).sqrt());
        let square = g * g / (v + h.eps) * (s.a + h.eps);
        s.v = v;
        s.a = h.rho * s.a + h.one_minus_rho * square;
        -h.step_size * change
    }
}
