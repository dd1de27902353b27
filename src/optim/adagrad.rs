//! Adagrad; the rule is `shaders/rules/adagrad.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use crate::optim::rule::settings::settings;

settings! {
    /// Adagrad (Duchi et al. 2011) with decay as L2 regularisation, as `torch.optim.Adagrad`.
    ///
    /// `g ← g + λθ`, `sum ← sum + g²`, `θ ← θ - η/(1 + (t-1) lr_decay) · g/(√sum + ε)`.
    ///
    /// The rule keeps the sum of squares.
    ///
    /// ```
    /// use wgpu_optim::{Adagrad, Rule};
    ///
    /// let rule = Adagrad { lr: 0.05, ..Adagrad::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["sum"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adagrad = "adagrad",
    /// Learning rate η. Default 1e-2, torch's.
    lr: f64 = 1e-2, NOT_NEGATIVE;
    /// The speed with which the learning rate falls as the step count grows. Default 0, torch's.
    lr_decay: f64 = 0.0, NOT_NEGATIVE;
    /// ε, outside the root. Default 1e-10, torch's.
    eps: f64 = 1e-10, EPSILON;
    /// The value of the sum of squares before the first step. Default 0, torch's.
    initial_accumulator_value: f64 = 0.0, NOT_NEGATIVE;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η / (1 + (t-1) lr_decay)
        step_size,
        /// ε
        eps,
        /// λ
        decay,
    }
}

fields! {
    /// The states.
    State {
        /// Sum of the squared gradients.
        sum,
    }
}

impl ElementwiseRule for Adagrad {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/adagrad.wgsl");
    /// Worst measured error: 1.29.
    const TOLERANCE: f64 = 4.0;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let before = t.saturating_sub(1) as f64;
        vec![
            Scalar::both("step_size", self.lr, 1.0 / (1.0 + before * self.lr_decay)),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.weight_decay),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![Scalar::call("own_lr", self.lr), Scalar::call("own_lr_decay", self.lr_decay)])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec { initial: self.initial_accumulator_value, ..StateSpec::zero("sum", true).positive() }]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("initial_and_lr_decay", Self { initial_accumulator_value: 0.1, lr_decay: 0.01, ..base }),
        ]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, gradient: F, s: &mut State<F>) -> F {
        let g = gradient + h.decay * p;
        let sum = s.sum + g * g;
        s.sum = sum;
        -h.step_size * g / (sum.sqrt() + h.eps)
    }
}
