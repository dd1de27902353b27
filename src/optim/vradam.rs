//! VRAdam; the rule is `shaders/rules/vradam.wgsl`.

use super::rule::{
    ElementwiseRule, MAX_SUMS, Nothing, Real, Scalar, StateSpec, Sums, agreeing, bias_correction, caution, fields,
    ln_beta,
};
use crate::optim::rule::settings::{choice, settings};

choice! {
    /// The vector with the norm that lowers VRAdam's learning rate.
    NormOf {
        /// The first moment after this step's gradient, as in the authors' release.
        Velocity = "velocity",
        /// The gradient, as in the first version of the paper's code.
        Gradient = "gradient",
    }
}

settings! {
    /// VRAdam (arXiv 2505.13196, algorithm 1): AdamW with the rate `η = α0 / (1 + min(β3 ‖m‖², α1))`.
    ///
    /// The norm is that of the moments without bias correction, over all tensors of all groups. The decay is multiplied by the lowered rate η.
    ///
    /// The rule keeps `m` (where β1 > 0) and `v`.
    ///
    /// ```
    /// use wgpu_optim::{Rule, VRAdam};
    ///
    /// let rule = VRAdam { beta3: 0.5, ..VRAdam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    VRAdam = "vradam",
    /// α0, the learning rate if the norm is 0. Default 1e-3, the authors' release.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// β1 of the velocity, in [0, 1); at 0 the velocity is not kept. Default 0.9, the authors' release.
    beta1: f64 = 0.9, BELOW_ONE;
    /// β2 of the second moment, in [0, 1). Default 0.999, the authors' release.
    beta2: f64 = 0.999, BELOW_ONE;
    /// β3, the weight of the squared norm; at 0 the rule is AdamW. Default 1, the authors' release.
    beta3: f64 = 1.0, NOT_NEGATIVE;
    /// α1: the rate never falls below α0/(1+α1). Default 10, the authors' release.
    lr_cutoff: f64 = 10.0, NOT_NEGATIVE;
    /// ε, outside the root. Default 1e-8, the authors' release.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled: each step subtracts ηλθ with the lowered rate η. Default 1e-5, the authors' release.
    weight_decay: f64 = 1e-5, NOT_NEGATIVE;
    /// The vector with the norm that lowers the rate. Default velocity, the authors' release.
    norm_of: NormOf = NormOf::Velocity;
    /// Leaves elements whose step and gradient disagree in sign where they are, and multiplies the other steps by the tensor's number of elements
    /// over the number of those (by 1000 at most; arXiv 2411.16085); the norm and the decay stay as they are. Default false.
    cautious: bool = false;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// α0
        alpha0,
        /// α1
        alpha1,
        /// β3
        beta3,
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
        /// Weight of Σm² in S.
        w_mm,
        /// Weight of c Σmg in S.
        w_mg,
        /// Weight of c² Σg² in S.
        w_gg,
    }
}

fields! {
    /// The states.
    State {
        /// First moment, the paper's velocity v.
        m,
        /// Second moment, the paper's m.
        v,
    }
}

fields! {
    /// The decision from the norm.
    Decision {
        /// η
        eta,
        /// The factor of the elements that a cautious step moves.
        scale,
    }
}

#[inline(always)]
fn first_moment<F: Real>(h: &Hyper<F>, m: F, g: F) -> F {
    h.beta1 * m + h.one_minus_beta1 * g
}

impl ElementwiseRule for VRAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/vradam.wgsl");
    /// Worst measured error: 0.88.
    const TOLERANCE: f64 = 3.0;
    const SUMS: Sums = Sums { sums: 3, totals: 3, any_count: true, ..Sums::NONE };

    fn sums(&self) -> Sums {
        Sums { after_clip: self.cautious, ..Self::SUMS }
    }

    fn sums_read(&self) -> &'static [&'static str] {
        match self.norm_of {
            NormOf::Gradient if !self.cautious => &["g"],
            NormOf::Velocity | NormOf::Gradient => &["g", "m"],
        }
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        let (b, a) = (self.beta1, 1.0 - self.beta1);
        let (w_mm, w_mg, w_gg) = match self.norm_of {
            NormOf::Velocity => (b * b, 2.0 * b * a, a * a),
            NormOf::Gradient => (0.0, 0.0, 1.0),
        };
        vec![
            Scalar::call("alpha0", self.lr),
            Scalar::call("alpha1", self.lr_cutoff),
            Scalar::call("beta3", self.beta3),
            Scalar::call("lambda", self.weight_decay),
            Scalar::count("correction", bc2.sqrt() / bc1),
            Scalar::count("eps_hat", self.eps * bc2.sqrt()),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("w_mm", w_mm),
            Scalar::call("w_mg", w_mg),
            Scalar::call("w_gg", w_gg),
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

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("CAUTIOUS", self.cautious)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("gradient_norm", Self { norm_of: NormOf::Gradient, ..base }),
            ("free", Self { lr_cutoff: 1e6, beta3: 0.1, ..base }),
            ("cautious", Self { lr_cutoff: 1e6, beta3: 0.1, cautious: true, ..base }),
            ("cautious_gradient_norm", Self { norm_of: NormOf::Gradient, cautious: true, ..base }),
        ]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, _: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let mut terms = [F::zero(); MAX_SUMS];
        if self.cautious {
            let squares = h.w_mm * s.m * s.m + h.w_mg * s.m * g + h.w_gg * g * g;
            terms[..2].copy_from_slice(&[squares, agreeing(first_moment(h, s.m, g), g)]);
            return terms;
        }
        terms[..3].copy_from_slice(&[s.m * s.m, s.m * g, g * g]);
        terms
    }

    fn total<F: Real>(&self, h: &Hyper<F>, sums: &[F], elements: F) -> [[F; 3]; MAX_SUMS] {
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        if self.cautious {
            totals[0][0] = sums[0];
            totals[1][0] = sums[1];
            totals[2][0] = elements;
            return totals;
        }
        totals[0] = [h.w_mm * sums[0], h.w_mg * sums[1], h.w_gg * sums[2]];
        totals
    }

    #[allow(non_snake_case, reason = "the paper's letter")]
    fn decide<F: Real>(&self, h: &Hyper<F>, totals: &[F], own: &[F], _: &mut Nothing) -> Decision<F> {
        let S = totals[0].max(F::zero());
        Decision { eta: h.alpha0 / (F::one() + (h.beta3 * S).min(h.alpha1)), scale: caution(own[1], own[2]) }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let m = first_moment(h, s.m, g);
        let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
        s.m = m;
        s.v = v;
        let mut step = h.correction * m / (v.sqrt() + h.eps_hat);
        if self.cautious {
            step = step * (d.scale * agreeing(m, g));
        }
        -d.eta * (h.lambda * p + step)
    }
}
