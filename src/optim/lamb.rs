//! LAMB; the rule is `shaders/rules/lamb.wgsl`.

use super::rule::{
    ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, bias_correction, fields, ln_beta,
};
use crate::optim::rule::settings::settings;

settings! {
    /// LAMB (You et al. 2020, algorithm 2): Adam with its step in each tensor scaled to the tensor's norm, as `optax.lamb`.
    ///
    /// `u = m̂/(√v̂ + ε) + λθ` with the moments of Adam, `θ ← θ - η ‖θ‖/‖u‖ u`; the ratio is 1 if a norm is 0; it has no bounds.
    ///
    /// The rule keeps `m` (where β1 > 0) and `v`.
    ///
    /// ```
    /// use wgpu_optim::{Lamb, Rule};
    ///
    /// let rule = Lamb { lr: 2e-3, weight_decay: 0.01, ..Lamb::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Lamb = "lamb",
    /// Learning rate η. Default 1e-3, Apex's; optax has none.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, optax's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, optax's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-6, optax's.
    eps: f64 = 1e-6, EPSILON;
    /// λ, added to the direction as λθ. Default 0, optax's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η
        step_size,
        /// λ
        lambda,
        /// √(1-β2^t) / (1-β1^t)
        correction,
        /// ε √(1-β2^t)
        eps_hat,
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
        /// Second moment.
        v,
    }
}

fields! {
    /// The decision from the norms.
    Decision {
        /// ‖θ‖ / ‖u‖
        ratio,
    }
}

/// Stores the next moments, and returns u, which follows from them.
#[inline(always)]
fn direction<F: Real>(h: &Hyper<F>, p: F, g: F, s: &mut State<F>) -> F {
    let m = h.beta1 * s.m + h.one_minus_beta1 * g;
    let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
    s.m = m;
    s.v = v;
    h.correction * m / (v.sqrt() + h.eps_hat) + h.lambda * p
}

impl ElementwiseRule for Lamb {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/lamb.wgsl");
    /// Worst measured error: 0.88.
    const TOLERANCE: f64 = 3.0;
    const SUMS: Sums = Sums { sums: 2, totals: 2, after_clip: true, any_count: true, ..Sums::NONE };

    fn sums_read(&self) -> &'static [&'static str] {
        &["p", "g", "m", "v"]
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        vec![
            Scalar::call("step_size", self.lr),
            Scalar::call("lambda", self.weight_decay),
            Scalar::count("correction", bc2.sqrt() / bc1),
            Scalar::count("eps_hat", self.eps * bc2.sqrt()),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_eps", self.eps),
            Scalar::call("own_ln_beta1", ln_beta(self.beta1)),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0), StateSpec::zero("v", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("no_momentum", Self { beta1: 0.0, ..base })]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, p: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let mut next = *s;
        let u = direction(h, p, g, &mut next);
        let mut terms = [F::zero(); MAX_SUMS];
        terms[..2].copy_from_slice(&[p * p, u * u]);
        terms
    }

    fn total<F: Real>(&self, _: &Hyper<F>, sums: &[F], _: F) -> [[F; 3]; MAX_SUMS] {
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        totals[0][0] = sums[0];
        totals[1][0] = sums[1];
        totals
    }

    fn decide<F: Real>(&self, _: &Hyper<F>, _: &[F], own: &[F], _: &mut Nothing) -> Decision<F> {
        if own[0] > F::zero() && own[1] > F::zero() {
            return Decision { ratio: own[0].sqrt() / own[1].sqrt() };
        }
        Decision { ratio: F::one() }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        -h.step_size * d.ratio * direction(h, p, g, s)
    }
}
