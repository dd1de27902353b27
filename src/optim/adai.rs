//! Adai and AdaiW; the rule is `shaders/rules/adai.wgsl`.

use super::rule::{
    ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, bias_correction, fields, ln_beta,
};
use crate::optim::rule::settings::settings;

settings! {
    /// Adai (Xie et al., arXiv 2006.15815): momentum with an inertia that adapts to each element, with decay as L2 regularisation.
    ///
    /// `g ← g + λθ`, `v ← β2 v + (1-β2) g²`, `1-β1 = clamp(β0 v̂/v̄, ε, 1)`, `m ← β1 m + (1-β1) g`, `θ ← θ - η m/(1 - Πβ1)`. The mean v̄
    /// runs over all tensors of all groups; if v̄ is 0, the step is skipped and not counted. The learning rate is that of SGD
    /// without momentum.
    ///
    /// The rule keeps `m`, `v` and `q` = 1 - Πβ1.
    ///
    /// ```
    /// use wgpu_optim::{Adai, Rule};
    ///
    /// let rule = Adai { weight_decay: 5e-4, ..Adai::new(0.5) };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "q"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adai = "adai",
    required {
        /// Learning rate η. No default, as in the authors' code.
        lr: f64, NOT_NEGATIVE;
    }
    /// β0, the value of 1-β1 for an element with v̂ = v̄. Default 0.1, the authors' code.
    beta0: f64 = 0.1, NOT_NEGATIVE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.99, the authors' code.
    beta2: f64 = 0.99, BELOW_ONE;
    /// ε, the lower bound of 1-β1, which bounds the inertia from above. Default 1e-3, the authors' code.
    eps: f64 = 1e-3, POSITIVE_SHARE;
    /// λ, added to the gradient as λθ. Default 0, the authors' code.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// d of AdaiV2, in [0, 1]: `1-β1 = clamp(β0 (v̂/v̄)^{1/(3-2d)}, ε, 1)`, `m ← β1 m + (1-β1)^d g`, `θ ← θ - η β0^{1-d} m/(1 - Πβ1)`.
    /// Default 1, the authors' code; with 1 the three formulas are those above.
    dampening: f64 = 1.0, SHARE;
}

settings! {
    /// AdaiW (Xie et al., arXiv 2006.15815): [`Adai`] with decoupled decay, `θ ← θ - ηλθ - η m/(1 - Πβ1)`.
    ///
    /// The rule keeps `m`, `v` and `q` = 1 - Πβ1.
    ///
    /// ```
    /// use wgpu_optim::{AdaiW, Rule};
    ///
    /// let rule = AdaiW { weight_decay: 5e-4, ..AdaiW::new(0.5) };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "q"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    AdaiW = "adaiw",
    required {
        /// Learning rate η. No default, as in the authors' code.
        lr: f64, NOT_NEGATIVE;
    }
    /// β0, the value of 1-β1 for an element with v̂ = v̄. Default 0.1, the authors' code.
    beta0: f64 = 0.1, NOT_NEGATIVE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.99, the authors' code.
    beta2: f64 = 0.99, BELOW_ONE;
    /// ε, the lower bound of 1-β1, which bounds the inertia from above. Default 1e-3, the authors' code.
    eps: f64 = 1e-3, POSITIVE_SHARE;
    /// λ, decoupled: each step subtracts ηλθ. Default 0, the authors' code.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// d of AdaiV2, in [0, 1], as for [`Adai`]. Default 1, the authors' code.
    dampening: f64 = 1.0, SHARE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η β0^{1-d}
        step_size,
        /// λ (Adai) or ηλ (AdaiW)
        decay,
        /// β0
        beta0,
        /// ε
        eps,
        /// d
        dampening,
        /// 1/(3-2d)
        exponent,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
        /// 1-β2^t
        correction,
        /// Weight of Σv in Σv̂.
        w_v,
        /// Weight of Σp² in Σv̂.
        w_pp,
        /// Weight of c Σpg in Σv̂.
        w_pg,
        /// Weight of c² Σg² in Σv̂.
        w_gg,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// Second moment.
        v,
        /// 1 - Πβ1.
        q,
    }
}

fields! {
    /// The decision from the mean.
    Decision {
        /// (1-β2^t) v̄
        mean,
    }
}

#[inline(always)]
fn update<F: Real>(decoupled: bool, h: &Hyper<F>, d: &Decision<F>, p: F, gradient: F, s: &mut State<F>) -> F {
    let g = if decoupled { gradient } else { gradient + h.decay * p };
    let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
    let mut r = v / d.mean;
    if h.dampening != F::one() {
        r = r.powf(h.exponent);
    }
    let b = (h.beta0 * r).max(h.eps).min(F::one());
    let mut gain = b;
    if h.dampening != F::one() {
        gain = b.powf(h.dampening);
    }
    let m = (F::one() - b) * s.m + gain * g;
    let q = b + (F::one() - b) * s.q;
    s.m = m;
    s.v = v;
    s.q = q;
    let shrink = if decoupled { h.decay * p } else { F::zero() };
    -shrink - h.step_size * m / q
}

#[inline(always)]
fn contribute<F: Real>(decoupled: bool, p: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
    let mut terms = [F::zero(); MAX_SUMS];
    if decoupled {
        terms[..4].copy_from_slice(&[s.v, F::zero(), F::zero(), g * g]);
        return terms;
    }
    terms[..4].copy_from_slice(&[s.v, p * p, p * g, g * g]);
    terms
}

/// Where decay and gradient nearly balance, the large terms cancel and the sum is mostly rounding error. The part from the previous v is a
/// lower bound of the sum.
fn sum_of_v<F: Real>(totals: &[F]) -> F {
    totals[0].max(totals[1])
}

/// Adai and AdaiW differ in one constant, in the meaning of `decay` and in whether the decay enters the sums.
macro_rules! adai {
    ($name:ident, $decoupled:literal, $tolerance:literal) => {
        impl ElementwiseRule for $name {
            type Hyper<F: Real> = Hyper<F>;
            type State<F: Real> = State<F>;
            type Decision<F: Real> = Decision<F>;
            type GlobalState<F: Real> = Nothing;
            const TEXT: &'static str = include_str!("../../shaders/rules/adai.wgsl");
            const TOLERANCE: f64 = $tolerance;
            const SUMS: Sums = Sums { sums: 4, totals: 3, may_refuse: true, ..Sums::NONE };

            fn sums_read(&self) -> &'static [&'static str] {
                if $decoupled || self.weight_decay == 0.0 { &["g", "v"] } else { &["p", "g", "v"] }
            }

            fn scalars(&self, t: u64) -> Vec<Scalar> {
                let bc2 = bias_correction(self.beta2, t);
                let (a, lambda) = (1.0 - self.beta2, self.weight_decay);
                let (decay, l2) = if $decoupled { (self.lr * lambda, 0.0) } else { (lambda, lambda) };
                vec![
                    Scalar::call("step_size", self.lr * self.beta0.powf(1.0 - self.dampening)),
                    Scalar::call("decay", decay),
                    Scalar::call("beta0", self.beta0),
                    Scalar::call("eps", self.eps),
                    Scalar::call("dampening", self.dampening),
                    Scalar::call("exponent", 1.0 / (3.0 - 2.0 * self.dampening)),
                    Scalar::call("beta2", self.beta2),
                    Scalar::call("one_minus_beta2", a),
                    Scalar::count("correction", bc2),
                    Scalar::both("w_v", self.beta2, 1.0 / bc2),
                    Scalar::both("w_pp", a * l2 * l2, 1.0 / bc2),
                    Scalar::both("w_pg", 2.0 * a * l2, 1.0 / bc2),
                    Scalar::both("w_gg", a, 1.0 / bc2),
                ]
            }

            fn own_count(&self) -> Option<Vec<Scalar>> {
                let a = 1.0 - self.beta2;
                let l2 = if $decoupled { 0.0 } else { self.weight_decay };
                Some(vec![
                    Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
                    Scalar::call("own_w_v", self.beta2),
                    Scalar::call("own_w_pp", a * l2 * l2),
                    Scalar::call("own_w_pg", 2.0 * a * l2),
                    Scalar::call("own_w_gg", a),
                ])
            }

            fn states(&self) -> Vec<StateSpec> {
                vec![
                    StateSpec::zero("m", true),
                    StateSpec::zero("v", true).positive(),
                    StateSpec::zero("q", true).exact(),
                ]
            }

            fn flags(&self) -> Vec<(&'static str, bool)> {
                vec![("DECOUPLED", $decoupled)]
            }

            fn variants() -> Vec<(&'static str, Self)> {
                let base = Self { weight_decay: 0.1, ..Self::new(0.1) };
                vec![
                    ("default", base),
                    ("dampening", Self { dampening: 0.5, ..base }),
                    ("clamped", Self { beta0: 0.9, eps: 0.2, ..base }),
                ]
            }

            #[inline(always)]
            fn contribute<F: Real>(&self, _: &Hyper<F>, p: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
                contribute($decoupled, p, g, s)
            }

            fn total<F: Real>(&self, h: &Hyper<F>, sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
                let past = h.w_v * sums[0];
                let mut totals = [[F::zero(); 3]; MAX_SUMS];
                totals[0] = [past + h.w_pp * sums[1], h.w_pg * sums[2], h.w_gg * sums[3]];
                totals[1][0] = past;
                totals[2][0] = elements;
                totals
            }

            fn refuse<F: Real>(&self, totals: &[F]) -> bool {
                sum_of_v(totals) <= F::zero()
            }

            fn decide<F: Real>(&self, h: &Hyper<F>, totals: &[F], _: &[F], _: &mut Nothing) -> Decision<F> {
                Decision { mean: h.correction * sum_of_v(totals) / totals[2] }
            }

            #[inline(always)]
            fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
                update($decoupled, h, d, p, g, s)
            }
        }
    };
}

// Worst measured error: 1.50.
adai!(Adai, false, 4.5);
// Worst measured error: 1.44.
adai!(AdaiW, true, 4.5);
