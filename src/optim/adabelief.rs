//! AdaBelief; the rule is `shaders/rules/adabelief.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta};
use crate::optim::rule::settings::settings;

settings! {
    /// AdaBelief (Zhuang et al. 2020, algorithm 2), as `optax.adabelief`: Adam that divides by the deviation of the gradient from its average.
    ///
    /// `m ← β1 m + (1-β1) g`, `s ← β2 s + (1-β2) (g-m)² + ε_root`, `θ ← θ - ηλθ - η m̂/(√ŝ + ε)`.
    ///
    /// The rule keeps `m` (where β1 > 0) and `s`.
    ///
    /// ```
    /// use wgpu_optim::{AdaBelief, Rule};
    ///
    /// let rule = AdaBelief { lr: 3e-4, eps: 1e-12, ..AdaBelief::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "s"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    AdaBelief = "adabelief",
    /// Learning rate η. Default 1e-3, the authors' code; optax has none.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, optax's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the squared deviation, in [0, 1). Default 0.999, optax's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-16, optax's.
    eps: f64 = 1e-16, EPSILON;
    /// ε_root, added to the squared deviation at every step. Default 1e-16, optax's.
    eps_root: f64 = 1e-16, NOT_NEGATIVE;
    /// λ, decoupled: each step subtracts ηλθ. Default 0: optax leaves decay to `add_decayed_weights`.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t) / (1-β1^t)
        step_size,
        /// ε √(1-β2^t)
        eps_hat,
        /// ε_root
        eps_root,
        /// ηλ
        decay,
        /// β1
        beta1,
        /// 1-β1
        one_minus_beta1,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// Average of the squared deviation.
        s,
    }
}

impl ElementwiseRule for AdaBelief {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adabelief.wgsl");
    /// Worst measured error: 1.22.
    const TOLERANCE: f64 = 4.0;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        vec![
            Scalar::both("step_size", self.lr, bc2.sqrt() / bc1),
            Scalar::count("eps_hat", self.eps * bc2.sqrt()),
            Scalar::call("eps_root", self.eps_root),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_eps", self.eps),
            Scalar::call("own_ln_beta1", ln_beta(self.beta1)),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0), StateSpec::zero("s", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("large_eps", Self { eps: 1e-3, eps_root: 1e-4, beta2: 0.9, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, state: &mut State<F>) -> F {
        let m = h.beta1 * state.m + h.one_minus_beta1 * g;
        let s = h.beta2 * state.s + h.one_minus_beta2 * (g - m) * (g - m) + h.eps_root;
        state.m = m;
        state.s = s;
        -h.decay * p - h.step_size * m / (s.sqrt() + h.eps_hat)
    }
}
