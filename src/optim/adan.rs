//! Adan; the rule is `shaders/rules/adan.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, own_square};
use crate::optim::rule::settings::settings;

settings! {
    /// Adan (arXiv 2208.06677) as in the authors' code: Nesterov's momentum, estimated from the differences of gradients, with proximal decay.
    ///
    /// `δ = g - q`, which is 0 at an element's first step, `m ← β1 m + (1-β1) g`, `v ← β2 v + (1-β2) δ`, `n ← β3 n + (1-β3)(g + β2 δ)²`,
    /// `θ ← (θ - η (m̂ + β2 v̂)/(√n̂ + ε))/(1 + ηλ)`, `q ← g`. The β are decay rates, which the paper calls 1-β.
    ///
    /// The rule keeps `m`, `v`, `n` and the last gradient `q`. `q` stays f32 under every storage: δ is a small difference of large numbers.
    ///
    /// ```
    /// use wgpu_optim::{Adan, Rule};
    ///
    /// let rule = Adan { weight_decay: 0.02, ..Adan::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "n", "q"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adan = "adan",
    /// Learning rate η. Default 1e-3, the authors' code.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1). Default 0.98, the authors' code.
    beta1: f64 = 0.98, BELOW_ONE;
    /// Decay rate β2 of the mean of the differences, and the weight of that mean, in [0, 1). Default 0.92, the authors' code.
    beta2: f64 = 0.92, BELOW_ONE;
    /// Decay rate β3 of the second moment, in [0, 1). Default 0.99, the authors' code.
    beta3: f64 = 0.99, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, the authors' code.
    eps: f64 = 1e-8, EPSILON;
    /// λ, proximal: each step divides θ by 1 + ηλ. Default 0, the authors' code.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β3^t) / (1-β1^t)
        step_m,
        /// η β2 √(1-β3^t) / (1-β2^t)
        step_v,
        /// ε √(1-β3^t)
        eps_hat,
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
        /// β3
        beta3,
        /// 1-β3
        one_minus_beta3,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// Mean of the differences of gradients.
        v,
        /// Second moment.
        n,
        /// The last gradient; [`NO_GRADIENT`] before the first.
        q,
    }
}

/// The largest number of f32.
const NO_GRADIENT: f64 = f32::MAX as f64;
/// Numbers from here on say that there was no gradient, so that a rounding of [`NO_GRADIENT`] says it too.
const LEAST: f64 = 3e38;

impl ElementwiseRule for Adan {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adan.wgsl");
    /// Worst measured error: 1.09.
    const TOLERANCE: f64 = 3.5;
    const SHARES_ROWS: bool = true;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let [bc1, bc2, bc3] = [self.beta1, self.beta2, self.beta3].map(|beta| bias_correction(beta, t));
        vec![
            Scalar::both("step_m", self.lr, bc3.sqrt() / bc1),
            Scalar::both("step_v", self.lr * self.beta2, bc3.sqrt() / bc2),
            Scalar::count("eps_hat", self.eps * bc3.sqrt()),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("beta3", self.beta3),
            Scalar::call("one_minus_beta3", 1.0 - self.beta3),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        let none = StateSpec { initial: NO_GRADIENT, ..StateSpec::zero("q", true) };
        vec![
            StateSpec::zero("m", true),
            StateSpec::zero("v", true),
            StateSpec::zero("n", true).positive(),
            none.exact(),
        ]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("large_rate", Self { lr: 0.1, beta2: 0.5, weight_decay: 3.0, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        self.update_squaring(h, d, p, g, s, own_square)
    }

    #[inline(always)]
    fn update_squaring<F: Real>(
        &self,
        h: &Hyper<F>,
        _: &Nothing,
        p: F,
        g: F,
        s: &mut State<F>,
        mut square: impl FnMut(F, F) -> F,
    ) -> F {
        let change = if s.q >= F::from_f64(LEAST) { F::zero() } else { g - s.q };
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let v = h.beta2 * s.v + h.one_minus_beta2 * change;
        let n = h.beta3 * s.n + square(h.one_minus_beta3, g + h.beta2 * change);
        s.m = m;
        s.v = v;
        s.n = n;
        s.q = g;
        let step = (h.step_m * m + h.step_v * v) / (n.sqrt() + h.eps_hat);
        -(step + h.decay * p) / (F::one() + h.decay)
    }
}
