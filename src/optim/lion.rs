//! Lion; the rule is `shaders/rules/lion.wgsl`.

use super::rule::{ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, agreeing, caution, fields};
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
    /// Leaves elements whose step and gradient disagree in sign where they are, and multiplies the other steps by the tensor's number of elements
    /// over the number of those (by 1000 at most; arXiv 2411.16085); the decay stays as it is. Default
    /// false.
    cautious: bool = false;
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

fields! {
    /// The decision of cautious steps.
    Decision {
        /// The factor of the elements that move.
        scale,
    }
}

#[inline(always)]
fn interpolated<F: Real>(h: &Hyper<F>, m: F, g: F) -> F {
    h.beta1 * m + h.one_minus_beta1 * g
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
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/lion.wgsl");
    /// Worst measured error: 0.79.
    const TOLERANCE: f64 = 2.5;
    const SUMS: Sums = Sums { sums: 1, totals: 2, after_clip: true, ..Sums::NONE };

    fn sums(&self) -> Sums {
        if self.cautious { Self::SUMS } else { Sums::NONE }
    }

    fn sums_read(&self) -> &'static [&'static str] {
        if self.cautious { &["g", "m"] } else { &[] }
    }

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

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("CAUTIOUS", self.cautious)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("no_momentum", Self { beta1: 0.0, ..base }),
            ("cautious", Self { cautious: true, ..base }),
        ]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, _: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let mut terms = [F::zero(); MAX_SUMS];
        terms[0] = agreeing(interpolated(h, s.m, g), g);
        terms
    }

    fn total<F: Real>(&self, _: &Hyper<F>, sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        totals[0][0] = sums[0];
        totals[1][0] = elements;
        totals
    }

    fn decide<F: Real>(&self, _: &Hyper<F>, _: &[F], own: &[F], _: &mut Nothing) -> Decision<F> {
        Decision { scale: caution(own[0], own[1]) }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let c = interpolated(h, s.m, g);
        s.m = h.beta2 * s.m + h.one_minus_beta2 * g;
        let mut step = h.step_size * sign(c);
        if self.cautious {
            step = step * (d.scale * agreeing(c, g));
        }
        -h.decay * p - step
    }
}
