//! RAdam; the rule is `shaders/rules/radam.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta, own_square};
use crate::optim::rule::settings::settings;

settings! {
    /// RAdam (Liu et al. 2020, algorithm 2): Adam with a rectified rate while the second moment is still uncertain, with decay as L2
    /// regularisation, as `torch.optim.RAdam`.
    ///
    /// The moments of Adam; `θ ← θ - η r m̂ √(1-β2^t)/(√v + ε)` once `ρ_t > 5`, before that `θ ← θ - η m̂`.
    ///
    /// The rule keeps `m` (where β1 > 0) and `v`.
    ///
    /// ```
    /// use wgpu_optim::{RAdam, Rule};
    ///
    /// let rule = RAdam { weight_decay: 1e-4, ..RAdam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    RAdam = "radam",
    /// Learning rate η. Default 1e-3, torch's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, torch's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, torch's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, added to the root of the uncorrected second moment. Default 1e-8, torch's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η r √(1-β2^t) / (1-β1^t) where ρ_t > 5, else 0
        rectified,
        /// η / (1-β1^t) where ρ_t ≤ 5, else 0
        plain,
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

/// r at step t; `None` if ρ_t ≤ 5.
fn rectifier(beta2: f64, t: u64) -> Option<f64> {
    let t_beta2 = t as f64 * beta2.powf(t as f64);
    let limit = 2.0 / (1.0 - beta2) - 1.0;
    let rho = limit - 2.0 * t_beta2 / bias_correction(beta2, t);
    let r = || ((rho - 4.0) * (rho - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * rho)).sqrt();
    (rho > 5.0).then(r)
}

impl ElementwiseRule for RAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/radam.wgsl");
    /// Worst measured error: 1.19.
    const TOLERANCE: f64 = 4.0;
    const SHARES_ROWS: bool = true;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        let (rectified, plain) = rectifier(self.beta2, t).map_or((0.0, 1.0), |r| (r * bc2.sqrt(), 0.0));
        vec![
            Scalar::both("rectified", self.lr, rectified / bc1),
            Scalar::both("plain", self.lr, plain / bc1),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        let limit = 2.0 / (1.0 - self.beta2) - 1.0;
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_ln_beta1", ln_beta(self.beta1)),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
            Scalar::call("own_limit", limit),
            Scalar::call("own_rest", limit + 2.0 / ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0), StateSpec::zero("v", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        // With β2 = 0.5, ρ never passes 5. With β2 = 0.999, ρ passes 5 at the sixth step.
        vec![
            ("default", base),
            ("never_rectified", Self { beta2: 0.5, ..base }),
            ("no_momentum", Self { beta1: 0.0, ..base }),
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
        gradient: F,
        s: &mut State<F>,
        mut square: impl FnMut(F, F) -> F,
    ) -> F {
        let g = gradient + h.decay * p;
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let v = h.beta2 * s.v + square(h.one_minus_beta2, g);
        s.m = m;
        s.v = v;
        -(h.rectified * m / (v.sqrt() + h.eps) + h.plain * m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectified_from_the_sixth_step_on() {
        let plain: Vec<bool> = (1..9).map(|t| rectifier(0.999, t).is_none()).collect();
        assert_eq!(plain, [true, true, true, true, true, false, false, false]);
    }

    #[test]
    fn rectifier_tends_to_one() {
        assert_eq!(rectifier(0.5, 1000), None);
        assert!((rectifier(0.999, 1_000_000).unwrap_or_default() - 1.0).abs() < 1e-15);
    }
}
