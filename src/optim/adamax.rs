//! Adamax; the rule is `shaders/rules/adamax.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Adamax (Kingma & Ba 2015, algorithm 2): Adam with the largest gradient, which decays, in place of the root of the second moment, and with
    /// decay as L2 regularisation, as `torch.optim.Adamax`.
    ///
    /// `g ← g + λθ`, `m ← β1 m + (1-β1) g`, `u ← max(β2 u, |g| + ε)`, `θ ← θ - η/(1-β1^t) · m/u`.
    ///
    /// The rule keeps `m` (where β1 > 0) and `u`.
    ///
    /// ```
    /// use wgpu_optim::{Adamax, Rule};
    ///
    /// let rule = Adamax { lr: 1e-3, ..Adamax::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "u"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adamax = "adamax",
    /// Learning rate η. Default 2e-3, torch's.
    lr: f64 = 2e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, torch's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the largest gradient, in [0, 1). Default 0.999, torch's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, added to each gradient's magnitude. Default 1e-8, torch's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η / (1-β1^t)
        step_size,
        /// ε
        eps,
        /// λ
        decay,
        /// β1
        beta1,
        /// 1-β1
        one_minus_beta1,
        /// β2
        beta2,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// The largest gradient, which decays.
        u,
    }
}

impl ElementwiseRule for Adamax {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adamax.wgsl");
    /// Worst measured error: 1.34.
    const TOLERANCE: f64 = 4.5;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        vec![
            Scalar::both("step_size", self.lr, 1.0 / bias_correction(self.beta1, t)),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0), StateSpec::zero("u", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("fast_decay", Self { beta2: 0.5, eps: 1e-3, ..base }),
            ("no_momentum", Self { beta1: 0.0, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let u = (h.beta2 * s.u).max(g.abs() + h.eps);
        s.m = m;
        s.u = u;
        -h.step_size * m / u
    }
}
