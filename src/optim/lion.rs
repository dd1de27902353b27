//! Lion; the rule is `shaders/rules/lion.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Lion (Chen et al. 2023, algorithm 2), the sign of an interpolated momentum with decoupled decay, as `optax.lion`.
    ///
    /// `c = β1 m + (1-β1) g`, `θ ← θ - ηλθ - η sign(c)`, `m ← β2 m + (1-β2) g`.
    ///
    /// The rule keeps `m` (where β1 > 0).
    ///
    /// ```
    /// use wgpu_optim::{Lion, Rule};
    ///
    /// let rule = Lion { weight_decay: 0.1, ..Lion::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Lion = "lion",
    /// Learning rate η. Default 1e-4, the authors' code; optax has none.
    lr: f64 = 1e-4, NOT_NEGATIVE;
    /// β1, the weight of the momentum in the step, in [0, 1); at 0 the momentum is not kept. Default 0.9, optax's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the momentum, in [0, 1). Default 0.99, optax's.
    beta2: f64 = 0.99, BELOW_ONE;
    /// λ, decoupled: each step subtracts ηλθ. Default 1e-3, optax's.
    weight_decay: f64 = 1e-3, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η
        step_size,
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
        /// The momentum.
        m,
    }
}

/// WGSL's sign, which is 0 at 0.
#[inline(always)]
fn sign<F: Real>(x: F) -> F {
    if x > F::zero() {
        F::one()
    } else if x < F::zero() {
        -F::one()
    } else {
        F::zero()
    }
}

impl ElementwiseRule for Lion {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/lion.wgsl");
    /// Worst measured error: 0.79.
    const TOLERANCE: f64 = 2.5;

    fn scalars(&self, _: u64) -> Vec<Scalar> {
        vec![
            Scalar::call("step_size", self.lr),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
        ]
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("no_momentum", Self { beta1: 0.0, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        let c = h.beta1 * s.m + h.one_minus_beta1 * g;
        s.m = h.beta2 * s.m + h.one_minus_beta2 * g;
        -h.decay * p - h.step_size * sign(c)
    }
}
