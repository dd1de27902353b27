//! SGD with momentum; the rule is `shaders/rules/sgd.wgsl`.

use super::Value;
use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::{Configured, refused, settings};

settings! {
    /// Stochastic gradient descent with momentum, dampening and Nesterov's form, as `torch.optim.SGD`.
    ///
    /// `g ← g + λθ`, `b ← μ b + (1-τ) g` (at the first step `b ← g`), `θ ← θ - η b`, or with `nesterov` `θ ← θ - η (g + μ b)`.
    ///
    /// The rule keeps `b` (where μ > 0).
    ///
    /// ```
    /// use wgpu_optim::{Rule, Sgd};
    ///
    /// let rule = Sgd { lr: 0.1, momentum: 0.9, nesterov: true, ..Sgd::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["b"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Sgd = "sgd",
    /// Learning rate η. Default 1e-3, torch's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// μ, in [0, 1]; at 0 no buffer is kept. Default 0, torch's.
    momentum: f64 = 0.0, SHARE;
    /// τ, in [0, 1]: from the second step on the gradient enters the buffer times 1-τ. Default 0, torch's.
    dampening: f64 = 0.0, SHARE;
    /// Nesterov's form, which needs momentum above 0 and dampening 0. Default false, torch's.
    nesterov: bool = false;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η, or ημ with Nesterov's form
        step_size_b,
        /// 0, or η with Nesterov's form
        step_size_g,
        /// λ
        decay,
        /// μ
        momentum,
        /// 1-τ; 1 at the first step and without momentum
        gain,
    }
}

fields! {
    /// The states.
    State {
        /// The momentum buffer.
        b,
    }
}

impl ElementwiseRule for Sgd {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/sgd.wgsl");
    /// Worst measured error: 0.96.
    const TOLERANCE: f64 = 3.0;

    fn check_together(&self) -> crate::Result<()> {
        let needs = |setting, value: f64, needs: &'static str| {
            Err(refused(Self::NAME, setting, &Value::Number(value), needs.into()))
        };
        match self {
            Self { nesterov: true, momentum: 0.0, .. } => needs("momentum", 0.0, "to be above 0 with nesterov"),
            Self { nesterov: true, dampening, .. } if *dampening != 0.0 => {
                needs("dampening", *dampening, "to be 0 with nesterov")
            }
            _ => Ok(()),
        }
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (step_size_b, step_size_g) =
            if self.nesterov { (self.lr * self.momentum, self.lr) } else { (self.lr, 0.0) };
        let damped = t > 1 && self.momentum > 0.0;
        vec![
            Scalar::call("step_size_b", step_size_b),
            Scalar::call("step_size_g", step_size_g),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("momentum", self.momentum),
            Scalar::count("gain", if damped { 1.0 - self.dampening } else { 1.0 }),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![Scalar::call("own_gain", if self.momentum > 0.0 { 1.0 - self.dampening } else { 1.0 })])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("b", self.momentum > 0.0)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("momentum", Self { momentum: 0.9, dampening: 0.1, ..base }),
            ("nesterov", Self { momentum: 0.9, nesterov: true, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let b = h.momentum * s.b + h.gain * g;
        s.b = b;
        -(h.step_size_b * b + h.step_size_g * g)
    }
}
