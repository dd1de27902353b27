//! RMSprop; the rule is `shaders/rules/rmsprop.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// RMSprop (Tieleman & Hinton 2012), plain, centered (Graves 2013, section 4.2) or with momentum, as `torch.optim.RMSprop`.
    ///
    /// `g ← g + λθ`, `v ← α v + (1-α) g²`, if centered also `ḡ ← α ḡ + (1-α) g`, `b ← μ b + g/(√(v - ḡ²) + ε)`, `θ ← θ - η b`.
    ///
    /// The rule keeps `v`, `g_mean` if centered, and `b` (where μ > 0).
    ///
    /// ```
    /// use wgpu_optim::{RmsProp, Rule};
    ///
    /// let rule = RmsProp { momentum: 0.9, centered: true, ..RmsProp::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["v", "g_mean", "b"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    RmsProp = "rmsprop",
    /// Learning rate η. Default 1e-2, torch's.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// Decay rate α of the averages, in [0, 1). Default 0.99, torch's.
    alpha: f64 = 0.99, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, torch's.
    eps: f64 = 1e-8, EPSILON;
    /// μ, in [0, 1]; at 0 no buffer is kept. Default 0, torch's.
    momentum: f64 = 0.0, SHARE;
    /// Divides by the deviation about the mean gradient in place of the root mean square. Default false, torch's.
    centered: bool = false;
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
        /// μ
        momentum,
        /// α
        alpha,
        /// 1-α
        one_minus_alpha,
        /// 1-α if centered, else 0
        mean_gain,
    }
}

fields! {
    /// The states.
    State {
        /// Average of the squared gradient.
        v,
        /// Average of the gradient, kept if centered.
        g_mean,
        /// The momentum buffer.
        b,
    }
}

impl ElementwiseRule for RmsProp {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/rmsprop.wgsl");
    /// Worst measured error: 2.46, with momentum.
    const TOLERANCE: f64 = 7.5;

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("step_size", self.lr),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("momentum", self.momentum),
            Scalar::call("alpha", self.alpha),
            Scalar::call("one_minus_alpha", 1.0 - self.alpha),
            Scalar::call("mean_gain", if self.centered { 1.0 - self.alpha } else { 0.0 }),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        let (v, g_mean) = (StateSpec::zero("v", true), StateSpec::zero("g_mean", self.centered));
        vec![
            // The rule needs the difference v - ḡ² exactly: if storage rounded both terms, it could be negative.
            if self.centered { v.exact() } else { v.positive() },
            g_mean.exact(),
            StateSpec::zero("b", self.momentum > 0.0),
        ]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("momentum", Self { momentum: 0.9, ..base }),
            ("centered", Self { centered: true, alpha: 0.9, ..base }),
            ("centered_momentum", Self { centered: true, momentum: 0.5, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let v = h.alpha * s.v + h.one_minus_alpha * g * g;
        let g_mean = h.alpha * s.g_mean + h.mean_gain * g;
        let spread = (v - g_mean * g_mean).max(F::zero());
        let b = h.momentum * s.b + g / (spread.sqrt() + h.eps);
        s.v = v;
        s.g_mean = g_mean;
        s.b = b;
        -h.step_size * b
    }
}
