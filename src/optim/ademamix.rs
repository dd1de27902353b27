//! AdEMAMix; the rule is `shaders/rules/ademamix.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, own_square};
use crate::optim::rule::settings::settings;

settings! {
    /// AdEMAMix (arXiv 2409.03137): AdamW with a second, slow average of the gradients beside the first moment.
    ///
    /// The moments of [`Adam`](crate::Adam), `n ← β3_t n + (1-β3_t) g`, `θ ← θ - ηλθ - η (m̂ + α_t n)/(√v̂ + ε)`. Over `warmup` steps `α_t` rises
    /// in a line to α, and `β3_t` rises from β1 to β3 so that the half-life of the average rises in a line; without a warm-up they are α and β3.
    ///
    /// The rule keeps `m` (where β1 > 0), `v` and the slow average `n`. `n` stays f32 under every storage: a step adds a part in 10,000 to it.
    ///
    /// ```
    /// use wgpu_optim::{AdEMAMix, Rule};
    ///
    /// let rule = AdEMAMix { lr: 3e-4, weight_decay: 0.1, warmup: 10_000.0, ..AdEMAMix::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "n"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    AdEMAMix = "ademamix",
    /// Learning rate η. Default 1e-3, optax's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, the paper's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, the paper's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// Decay rate β3 of the slow average, in [0, 1). Default 0.9999, the paper's.
    beta3: f64 = 0.9999, BELOW_ONE;
    /// α, the weight of the slow average. Default 5, the authors' code.
    alpha: f64 = 5.0, NOT_NEGATIVE;
    /// ε, outside the root. Default 1e-8, the paper's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled: each step subtracts ηλθ. Default 0, the authors' code.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// The number of steps over which `α_t` and `β3_t` rise; 0: no warm-up. The paper takes the number of steps of the training. Default 0,
    /// the authors' code.
    warmup: f64 = 0.0, STEPS;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t) / (1-β1^t)
        step_size,
        /// α_t (1-β1^t)
        slow,
        /// ε √(1-β2^t)
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
        /// β3_t
        beta3,
        /// 1-β3_t
        one_minus_beta3,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// Second moment.
        v,
        /// The slow average of the gradients.
        n,
    }
}

impl AdEMAMix {
    /// The share of the warm-up that is over at step `t`.
    fn warmed(&self, t: u64) -> f64 {
        if self.warmup == 0.0 { 1.0 } else { (t as f64 / self.warmup).min(1.0) }
    }

    /// ln β3_t. An average with the decay rate β has a half-life of ln ½ / ln β, and the half-life rises in a line.
    fn log_beta3(&self, t: u64) -> f64 {
        let x = self.warmed(t);
        let log = 1.0 / ((1.0 - x) / self.beta1.ln() + x / self.beta3.ln());
        if x == 1.0 { self.beta3.ln() } else { log.min(self.beta3.ln()) }
    }
}

impl ElementwiseRule for AdEMAMix {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/ademamix.wgsl");
    /// Worst measured error: 1.43.
    const TOLERANCE: f64 = 4.5;
    const SHARES_ROWS: bool = true;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, root) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t).sqrt());
        let log_beta3 = self.log_beta3(t);
        vec![
            Scalar::both("step_size", self.lr, root / bc1),
            Scalar::count("slow", self.alpha * self.warmed(t) * bc1),
            Scalar::count("eps_hat", self.eps * root),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::count("beta3", log_beta3.exp()),
            Scalar::count("one_minus_beta3", -log_beta3.exp_m1()),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![
            StateSpec::zero("m", self.beta1 > 0.0),
            StateSpec::zero("v", true).positive(),
            StateSpec::zero("n", true).exact(),
        ]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("warmup", Self { warmup: 20.0, ..base }),
            ("no_momentum", Self { beta1: 0.0, beta3: 0.99, warmup: 20.0, ..base }),
        ]
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
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let v = h.beta2 * s.v + square(h.one_minus_beta2, g);
        let n = h.beta3 * s.n + h.one_minus_beta3 * g;
        s.m = m;
        s.v = v;
        s.n = n;
        -h.decay * p - h.step_size * (m + h.slow * n) / (v.sqrt() + h.eps_hat)
    }
}
