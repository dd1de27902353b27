//! ASGD; the rule is `shaders/rules/asgd.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Averaged stochastic gradient descent (Polyak & Juditsky 1992) as `torch.optim.ASGD`: SGD with a rate that falls, and the mean of the
    /// parameters from step `t0` on.
    ///
    /// `g ← g + λθ`, `θ ← θ - η(lambd θ + g)`, `ax ← ax + μ(θ - ax)` with `μ = 1/max(1, t - 1 - t0)`. The rate of the next step is
    /// `η = lr/(1 + lambd lr t)^alpha`; the first step's rate is `lr`. As in torch, a learning rate that changes acts one step later.
    ///
    /// The rule keeps the mean `ax`, which the caller reads as a state, and the rate `eta` of the next step, which is -1 before the first. Both stay
    /// f32 under every storage: the mean moves by little, and a rate that is rounded would be another rate.
    ///
    /// ```
    /// use wgpu_optim::{Asgd, Rule};
    ///
    /// let rule = Asgd { t0: 1000.0, ..Asgd::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["ax", "eta"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Asgd = "asgd",
    /// Learning rate, of the first step and from which the rate falls. Default 1e-2, torch's.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// How fast the rate falls, and a decay: each step subtracts η lambd θ. Default 1e-4, torch's.
    lambd: f64 = 1e-4, NOT_NEGATIVE;
    /// The power with which the rate falls, in [0, 10]. Default 0.75, torch's.
    alpha: f64 = 0.75, POWER;
    /// The number of steps before the mean begins. Default 1e6, torch's.
    t0: f64 = 1e6, NOT_NEGATIVE;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// The learning rate.
        lr,
        /// lambd
        lambd,
        /// α
        alpha,
        /// λ
        decay,
        /// t
        steps,
        /// μ
        mu,
    }
}

fields! {
    /// The states.
    State {
        /// The mean of the parameters.
        ax,
        /// The rate of the next step.
        eta,
    }
}

impl ElementwiseRule for Asgd {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/asgd.wgsl");
    /// Worst measured error: 1.86.
    const TOLERANCE: f64 = 6.0;
    const NEEDS_ONE_RATE: bool = true;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let before = t.saturating_sub(1) as f64;
        vec![
            Scalar::call("lr", self.lr),
            Scalar::call("lambd", self.lambd),
            Scalar::call("alpha", self.alpha),
            Scalar::call("decay", self.weight_decay),
            Scalar::count("steps", t as f64),
            Scalar::count("mu", 1.0 / (before - self.t0).max(1.0)),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        let none = StateSpec { initial: -1.0, ..StateSpec::zero("eta", true) };
        vec![StateSpec::zero("ax", true).exact(), none.exact()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("averages", Self { lambd: 0.1, t0: 1.0, ..base }),
            ("other_power", Self { lambd: 3.0, alpha: 2.0, t0: 0.0, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let eta = if s.eta < F::zero() { h.lr } else { s.eta };
        let change = -eta * (h.lambd * p + g);
        let next = p + change;
        s.ax = if h.mu == F::one() { next } else { s.ax + h.mu * (next - s.ax) };
        s.eta = h.lr / (F::one() + h.lambd * h.lr * h.steps).powf(h.alpha);
        change
    }
}
