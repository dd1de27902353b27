//! WarpAdam; the rule is `shaders/rules/warpadam.wgsl`, and the product with P is in `shaders/procedures/warp.wgsl`.

use std::sync::Arc;

use super::procedure::{Shared, Warp};
use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta};
use crate::optim::rule::settings::{Configured as _, choice, settings};
use crate::{Error, Result};

choice! {
    /// The change of WarpAdam's matrices.
    WarpMode {
        /// No change: P stays as the caller gave it; at first P is the identity, which makes the rule Adam.
        Frozen = "frozen",
        /// Along the derivative, with respect to P, of the loss after the step.
        Raw = "raw",
        /// Along the same derivative, with each block's factors normalised to length one.
        Normalised = "normalised",
    }
}

settings! {
    /// WarpAdam (arXiv 2409.04244): Adam on `P g` with a learned matrix `P`.
    ///
    /// The paper says only that P is meta-learned. **Our choice**: a tensor's P is block-diagonal over its elements in order, in blocks of
    /// `warp_block` (one block for smaller tensors). P starts as the identity. The caller writes P
    /// ([`Optimizer::write_warp`](crate::Optimizer::write_warp)), or the rule learns P by the one-step hypergradient
    /// `P ← P + κ (g_t ⊘ d) g_{t-1}ᵀ`, where `d = √v̂ + ε` of the previous step counts as constant. The paper's figures do not apply to
    /// this choice. With a constant diagonal P the rule is Adam with another ε.
    ///
    /// Memory: `warp_block` numbers per parameter for P, one for `P g`, and one for the last gradient if the rule learns P. An element of
    /// the gradient that is not finite makes its whole block not finite: the zeros of P do not hide it.
    ///
    /// The rule keeps `m` and `v` of `P g`.
    ///
    /// ```
    /// use wgpu_optim::{Rule, WarpAdam};
    ///
    /// let rule = WarpAdam { warp_block: 16, ..WarpAdam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    WarpAdam = "warpadam",
    /// η. Default 1e-3, Adam's.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// β1, in [0, 1). Default 0.9, Adam's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// β2, in [0, 1). Default 0.999, Adam's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, Adam's.
    eps: f64 = 1e-8, EPSILON;
    /// The change of P. Default normalised, our choice.
    warp: WarpMode = WarpMode::Normalised;
    /// η_P. Default 1e-3, our choice.
    warp_lr: f64 = 1e-3, NOT_NEGATIVE;
    /// λ_P: each step subtracts η_P λ_P of P - I, at most all of it. Default 0, our choice.
    warp_decay: f64 = 0.0, NOT_NEGATIVE;
    /// Rows and columns of a block: a power of two from 1 (a diagonal P) to 64. Default 32, our choice.
    warp_block: u32 = 32, BLOCK;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t) / (1-β1^t)
        step_size,
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
        /// ε
        eps,
        /// 1/(1-β2^(t-1)); 0 at the first step.
        unbias,
        /// κ, without the norms of the factors if `warp` is normalised; 0 at the first step.
        learn,
        /// 1 - η_P λ_P
        keep,
        /// η_P λ_P
        anchor,
    }
}

fields! {
    /// The states.
    State {
        /// First moment of P g.
        m,
        /// Second moment of P g.
        v,
    }
}

impl WarpAdam {
    /// κ without bias correction.
    fn learning(&self) -> f64 {
        match self.warp {
            WarpMode::Frozen => 0.0,
            WarpMode::Raw => self.warp_lr * self.lr * (1.0 - self.beta1),
            WarpMode::Normalised => self.warp_lr,
        }
    }
}

impl ElementwiseRule for WarpAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/warpadam.wgsl");
    /// Worst measured error: 1.17.
    const TOLERANCE: f64 = 4.0;

    fn procedure(&self) -> Shared {
        Some(Arc::new(Warp { block: self.warp_block as usize, learned: self.warp != WarpMode::Frozen }))
    }

    fn check_together(&self) -> Result<()> {
        if self.warp_block.is_power_of_two() {
            return Ok(());
        }
        Err(Error::Setting {
            optimizer: Self::NAME.to_owned(),
            setting: "warp_block".to_owned(),
            value: self.warp_block.to_string(),
            needs: "a power of two from 1 to 64".into(),
        })
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        // The first step has no previous step to learn from.
        let before = |beta: f64| if t > 1 { bias_correction(beta, t - 1).recip() } else { 0.0 };
        let seen = if t > 1 { 1.0 } else { 0.0 };
        let learn = match self.warp {
            WarpMode::Frozen => Scalar::both("learn", self.learning(), seen),
            WarpMode::Raw => Scalar::both("learn", self.learning(), before(self.beta1)),
            WarpMode::Normalised => Scalar::both("learn", self.learning(), seen),
        };
        let anchor = (self.warp_lr * self.warp_decay).min(1.0);
        vec![
            Scalar::both("step_size", self.lr, bc2.sqrt() / bc1),
            Scalar::count("eps_hat", self.eps * bc2.sqrt()),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("eps", self.eps),
            Scalar::count("unbias", before(self.beta2)),
            learn,
            Scalar::call("keep", 1.0 - anchor),
            Scalar::call("anchor", anchor),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_eps", self.eps),
            Scalar::call("own_learn", self.learning()),
            Scalar::call("own_ln_beta1", ln_beta(self.beta1)),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", true), StateSpec::zero("v", true).positive()]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("NORMALISED", self.warp == WarpMode::Normalised)]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let frozen = Self { warp: WarpMode::Frozen, ..Self::default() };
        vec![("frozen", frozen), ("diagonal", Self { warp_block: 1, ..frozen })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, _: F, w: F, s: &mut State<F>) -> F {
        let m = h.beta1 * s.m + h.one_minus_beta1 * w;
        let v = h.beta2 * s.v + h.one_minus_beta2 * w * w;
        s.m = m;
        s.v = v;
        -h.step_size * m / (v.sqrt() + h.eps_hat)
    }
}
