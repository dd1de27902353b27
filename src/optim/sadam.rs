//! S-Adam; the rule is `shaders/rules/sadam.wgsl`.

use std::sync::Arc;

use super::procedure::{Directions, Probe, Shared};
use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta};
use crate::optim::rule::settings::settings;

settings! {
    /// S-Adam (arXiv 2605.29547, in the form of the authors' release): AdamW with its step multiplied by `exp(-λ LGI)`, where LGI is
    /// the variance of the loss's slopes along `k` random directions, divided by their mean square.
    ///
    /// A step evaluates the loss `k + 1` times beside the gradient: see [`Optimizer::begin_step`](crate::Optimizer::begin_step). The last
    /// measured slopes damp plain steps; before the first measurement plain steps are an error, unless
    /// [`Builder::undamped_steps`](crate::Builder::undamped_steps) allows them. A step with a loss that is not finite is
    /// skipped. All groups share one LGI.
    ///
    /// The rule keeps `m` (where β1 > 0) and `v`.
    ///
    /// ```
    /// use wgpu_optim::{Rule, SAdam};
    ///
    /// let rule = SAdam { lr: 3e-4, ..SAdam::paper() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    SAdam = "sadam",
    /// η. Default 1e-3, the authors' release.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// β1, in [0, 1). Default 0.9, the authors' release.
    beta1: f64 = 0.9, BELOW_ONE;
    /// β2, in [0, 1). Default 0.999, the authors' release.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root and not corrected for bias. Default 1e-8, the authors' release.
    eps: f64 = 1e-8, EPSILON;
    /// The decoupled weight decay, which is multiplied by the learning rate and not damped. Default 1e-2, the authors' release.
    weight_decay: f64 = 1e-2, NOT_NEGATIVE;
    /// Probes per step, 1 to 8. Default 2, the authors' release; their experiments use 8: [`SAdam::paper`].
    k: u32 = 2, PROBES;
    /// σ (the paper's δ), the probes' length. Default 0.01, the authors' release.
    sigma: f64 = 0.01, EPSILON;
    /// λ. Default 2, the authors' release.
    lgi_lambda: f64 = 2.0, NOT_NEGATIVE;
    /// ζ, added to the mean square. Default 1e-6, the authors' release.
    stabilize_eps: f64 = 1e-6, EPSILON;
    /// The upper bound of LGI. Default 10, the authors' release.
    lgi_cap: f64 = 10.0, NOT_NEGATIVE;
    /// The part of a direction that has length one: the part in each tensor, or the whole. Default tensor, the authors' release; the paper
    /// has global.
    directions: Directions = Directions::Tensor;
}

impl SAdam {
    /// The settings of the authors' experiments: eight probes.
    #[must_use]
    pub const fn paper() -> Self {
        let mut paper = Self::new();
        paper.k = 8;
        paper
    }
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t) / (1-β1^t)
        step_size,
        /// ε
        eps,
        /// η times the decay.
        decay,
        /// β1
        beta1,
        /// 1-β1
        one_minus_beta1,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
        /// σ
        sigma,
        /// λ
        lambda,
        /// ζ
        zeta,
        /// The upper bound of LGI.
        cap,
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
    /// The decision from the slopes.
    Decision {
        /// exp(-λ LGI)
        damp,
        /// LGI
        lgi,
    }
}

impl ElementwiseRule for SAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/sadam.wgsl");
    /// Worst measured error: 1.46.
    const TOLERANCE: f64 = 4.5;

    fn procedure(&self) -> Shared {
        Some(Arc::new(Probe { count: self.k as usize, directions: self.directions }))
    }

    fn common(&self) -> &'static [&'static str] {
        &["k", "sigma", "stabilize_eps", "directions"]
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        vec![
            Scalar::both("step_size", self.lr, bc2.sqrt() / bc1),
            Scalar::call("eps", self.eps),
            Scalar::call("decay", self.lr * self.weight_decay),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("sigma", self.sigma),
            Scalar::call("lambda", self.lgi_lambda),
            Scalar::call("zeta", self.stabilize_eps),
            Scalar::call("cap", self.lgi_cap),
        ]
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_ln_beta1", ln_beta(self.beta1)),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("m", self.beta1 > 0.0), StateSpec::zero("v", true).positive()]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("paper", Self { k: 8, directions: Directions::Global, ..base }),
            ("one_probe", Self { k: 1, beta1: 0.0, ..base }),
        ]
    }

    fn decide<F: Real>(&self, h: &Hyper<F>, slopes: &[F], _: &[F], _: &mut Nothing) -> Decision<F> {
        let k = F::from_f64(slopes.len() as f64);
        let (mut sum, mut squares) = (F::zero(), F::zero());
        for d in slopes {
            sum = sum + *d;
            squares = squares + *d * *d;
        }
        let mean = sum / k;
        let mut deviations = F::zero();
        for d in slopes {
            deviations = deviations + (*d - mean) * (*d - mean);
        }
        let lgi = deviations / (k - F::one()).max(F::one()) / (squares / k + h.zeta);
        let bounded = if lgi.is_finite() && lgi < h.cap { lgi } else { h.cap };
        Decision { damp: (-h.lambda * bounded).exp(), lgi }
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
        s.m = m;
        s.v = v;
        -h.decay * p - h.step_size * d.damp * m / (v.sqrt() + h.eps)
    }
}
