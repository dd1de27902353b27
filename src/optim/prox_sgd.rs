//! Proximal SGD; the rule is `shaders/rules/prox_sgd.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// SGD with momentum followed by the soft threshold `lr·l1`: the Prox-SGD of the comparison in S-Adam's paper (arXiv 2605.29547).
    ///
    /// `b ← μ b + g` (torch's buffer, without dampening), `z = θ - η b`, `θ ← sign(z) max(|z| - η l1, 0)`. Weights under the threshold
    /// become exactly 0. The threshold does not grow with the buffer, so the effective penalty at a minimum is (1-μ) l1 ‖θ‖₁.
    ///
    /// The rule keeps `b` (where μ > 0).
    ///
    /// ```
    /// use wgpu_optim::{ProxSgd, Rule};
    ///
    /// let rule = ProxSgd { l1: 1e-3, ..ProxSgd::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["b"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ProxSgd = "prox_sgd",
    /// Learning rate η. Default 1e-2, the experiments of S-Adam's authors.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// μ, in [0, 1]; at 0 no buffer is kept. Default 0.9, the experiments of S-Adam's authors.
    momentum: f64 = 0.9, SHARE;
    /// The weight of ‖θ‖₁. Default 1e-4, the experiments of S-Adam's authors.
    l1: f64 = 1e-4, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η
        step_size,
        /// η l1
        threshold,
        /// μ
        momentum,
    }
}

fields! {
    /// The states.
    State {
        /// The momentum buffer.
        b,
    }
}

impl ElementwiseRule for ProxSgd {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/prox_sgd.wgsl");
    /// Worst measured error: 0.78.
    const TOLERANCE: f64 = 2.5;

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("step_size", self.lr),
            Scalar::call("threshold", self.lr * self.l1),
            Scalar::call("momentum", self.momentum),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("b", self.momentum > 0.0)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self::default();
        vec![
            ("default", base),
            ("sparse", Self { lr: 0.1, l1: 5.0, ..base }),
            ("no_momentum", Self { momentum: 0.0, l1: 1.0, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        let b = h.momentum * s.b + g;
        s.b = b;
        let z = p - h.step_size * b;
        let k = if z > F::zero() { h.threshold } else { -h.threshold };
        if z.abs() <= h.threshold { -p } else { -h.step_size * b - k }
    }
}
