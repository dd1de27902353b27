//! Adam, AMSGrad and AdamW; the rule is `shaders/rules/adam.wgsl`.

use super::rule::{
    ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, agreeing, bias_correction, caution, fields,
    ln_beta, own_square,
};
use crate::optim::rule::settings::settings;

settings! {
    /// Adam (Kingma & Ba 2015, algorithm 1) with decay as L2 regularisation, as `torch.optim.Adam`.
    ///
    /// `g ← g + λθ`, `m ← β1 m + (1-β1) g`, `v ← β2 v + (1-β2) g²`, `θ ← θ - η m̂/(√v̂ + ε)`.
    ///
    /// The rule keeps `m` (where β1 > 0), `v`, and `v_max` with `amsgrad`.
    ///
    /// ```
    /// use wgpu_optim::{Adam, Rule};
    ///
    /// let rule = Adam { lr: 3e-4, amsgrad: true, ..Adam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "v_max"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    Adam = "adam",
    /// Learning rate η. Default 1e-3, the paper's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, the paper's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, the paper's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, the paper's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// Keeps the running maximum of the uncorrected second moment (Reddi et al. 2018, algorithm 2, in torch's form). Default false, torch's.
    amsgrad: bool = false;
    /// Leaves elements whose step and gradient disagree in sign where they are, and multiplies the other steps by the tensor's number of elements
    /// over the number of those (by 1000 at most), as the authors' C-AdamW (arXiv 2411.16085); the decay stays as it is. Default
    /// false.
    cautious: bool = false;
}

settings! {
    /// AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam with decoupled decay, as `torch.optim.AdamW`.
    ///
    /// `θ ← θ - ηλθ - η m̂/(√v̂ + ε)`, with the moments of [`Adam`].
    ///
    /// The rule keeps `m` (where β1 > 0), `v`, and `v_max` with `amsgrad`.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Rule};
    ///
    /// let rule = AdamW { lr: 3e-4, weight_decay: 0.1, ..AdamW::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    AdamW = "adamw",
    /// Learning rate η. Default 1e-3, torch's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, torch's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, torch's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, torch's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled: each step subtracts ηλθ. Default 1e-2, torch's.
    weight_decay: f64 = 1e-2, NOT_NEGATIVE;
    /// Keeps the running maximum of the uncorrected second moment (Reddi et al. 2018, algorithm 2, in torch's form). Default false, torch's.
    amsgrad: bool = false;
    /// Leaves elements whose step and gradient disagree in sign where they are, and multiplies the other steps by the tensor's number of elements
    /// over the number of those (by 1000 at most), as the authors' C-AdamW (arXiv 2411.16085); the decay stays as it is. Default
    /// false.
    cautious: bool = false;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t) / (1-β1^t)
        step_size,
        /// ε √(1-β2^t)
        eps_hat,
        /// λ (Adam) or ηλ (AdamW)
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
        /// Running maximum of `v`, kept by AMSGrad only.
        v_max,
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
fn decayed<F: Real>(decoupled: bool, h: &Hyper<F>, p: F, gradient: F) -> F {
    if decoupled { gradient } else { gradient + h.decay * p }
}

#[inline(always)]
fn first_moment<F: Real>(h: &Hyper<F>, m: F, g: F) -> F {
    h.beta1 * m + h.one_minus_beta1 * g
}

#[inline(always)]
fn update<F: Real>(
    [decoupled, cautious]: [bool; 2],
    h: &Hyper<F>,
    d: &Decision<F>,
    p: F,
    gradient: F,
    s: &mut State<F>,
    mut square: impl FnMut(F, F) -> F,
) -> F {
    let g = decayed(decoupled, h, p, gradient);
    let m = first_moment(h, s.m, g);
    let v = h.beta2 * s.v + square(h.one_minus_beta2, g);
    let v_max = s.v_max.max(v);
    s.m = m;
    s.v = v;
    s.v_max = v_max;
    let shrink = if decoupled { h.decay * p } else { F::zero() };
    let mut step = h.step_size * m / (v_max.sqrt() + h.eps_hat);
    if cautious {
        step = step * (d.scale * agreeing(m, g));
    }
    -shrink - step
}

/// Adam and AdamW differ in one constant and in the meaning of `decay`.
macro_rules! adam {
    ($name:ident, $decoupled:literal, $tolerance:literal) => {
        impl ElementwiseRule for $name {
            type Hyper<F: Real> = Hyper<F>;
            type State<F: Real> = State<F>;
            type Decision<F: Real> = Decision<F>;
            type GlobalState<F: Real> = Nothing;
            const TEXT: &'static str = include_str!("../../shaders/rules/adam.wgsl");
            const TOLERANCE: f64 = $tolerance;
            const SHARES_ROWS: bool = true;
            const SUMS: Sums = Sums { sums: 1, totals: 2, after_clip: true, any_count: true, ..Sums::NONE };

            fn sums(&self) -> Sums {
                if self.cautious { Self::SUMS } else { Sums::NONE }
            }

            fn sums_read(&self) -> &'static [&'static str] {
                let decays = !$decoupled && self.weight_decay != 0.0;
                match (self.cautious, decays) {
                    (false, _) => &[],
                    (true, false) => &["g", "m"],
                    (true, true) => &["p", "g", "m"],
                }
            }

            fn scalars(&self, t: u64) -> Vec<Scalar> {
                let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
                let decay = if $decoupled { self.lr * self.weight_decay } else { self.weight_decay };
                vec![
                    Scalar::both("step_size", self.lr, bc2.sqrt() / bc1),
                    Scalar::count("eps_hat", self.eps * bc2.sqrt()),
                    Scalar::call("decay", decay),
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
                vec![
                    StateSpec::zero("m", self.beta1 > 0.0),
                    StateSpec::zero("v", true).positive(),
                    StateSpec::zero("v_max", self.amsgrad).positive(),
                ]
            }

            fn flags(&self) -> Vec<(&'static str, bool)> {
                vec![("DECOUPLED", $decoupled), ("CAUTIOUS", self.cautious)]
            }

            fn variants() -> Vec<(&'static str, Self)> {
                let base = Self { weight_decay: 0.1, ..Self::default() };
                vec![
                    ("default", base),
                    ("amsgrad", Self { amsgrad: true, beta2: 0.9, ..base }),
                    ("no_momentum", Self { beta1: 0.0, ..base }),
                    ("cautious", Self { cautious: true, ..base }),
                ]
            }

            #[inline(always)]
            fn contribute<F: Real>(&self, h: &Hyper<F>, p: F, gradient: F, s: &State<F>) -> [F; MAX_SUMS] {
                let g = decayed($decoupled, h, p, gradient);
                let mut terms = [F::zero(); MAX_SUMS];
                terms[0] = agreeing(first_moment(h, s.m, g), g);
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
                update([$decoupled, self.cautious], h, d, p, g, s, own_square)
            }

            #[inline(always)]
            fn update_squaring<F: Real>(
                &self,
                h: &Hyper<F>,
                d: &Decision<F>,
                p: F,
                g: F,
                s: &mut State<F>,
                square: impl FnMut(F, F) -> F,
            ) -> F {
                update([$decoupled, self.cautious], h, d, p, g, s, square)
            }
        }
    };
}

// Worst measured error: 1.27.
adam!(Adam, false, 4.0);
// Worst measured error: 1.35.
adam!(AdamW, true, 4.5);
