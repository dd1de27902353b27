//! NAdam; the rule is `shaders/rules/nadam.wgsl`.

#[cfg(feature = "checkpoint")]
use super::Rule as _;
use super::rule::{
    ElementwiseRule, LEAST_LN, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta, own_square,
};
#[cfg(feature = "checkpoint")]
use crate::Result;
#[cfg(feature = "checkpoint")]
use crate::optim::Value;
#[cfg(feature = "checkpoint")]
use crate::optim::rule::settings::Configured;
use crate::optim::rule::settings::settings;

settings! {
    /// NAdam (Dozat 2016): Adam with Nesterov's momentum, and with decay as L2 regularisation, as `torch.optim.NAdam`.
    ///
    /// The moments of Adam, `μ_t = β1 (1 - ½ 0.96^{tψ})`, `θ ← θ - η (μ_{t+1} m/(1-Π_{i≤t+1} μ_i) + (1-μ_t) g/(1-Π_{i≤t} μ_i)) / (√v̂ + ε)`.
    ///
    /// The rule keeps `v` and, where β1 > 0, `m` and `q` = 1 - Π μ_i. As in torch, each μ_i comes from the settings at step i, so that a
    /// later change of β1 does not change the earlier factors.
    ///
    /// ```
    /// use wgpu_optim::{NAdam, Rule};
    ///
    /// let rule = NAdam { lr: 1e-3, ..NAdam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "q"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    NAdam = "nadam",
    /// Learning rate η. Default 2e-3, torch's.
    lr: f64 = 2e-3, NOT_NEGATIVE;
    /// Decay rate β1 of the first moment, in [0, 1); at 0 the moment is not kept. Default 0.9, torch's.
    beta1: f64 = 0.9, BELOW_ONE;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, torch's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, torch's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, added to the gradient as λθ. Default 0, torch's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// ψ, how fast μ rises from β1/2 to β1. Default 4e-3, torch's.
    momentum_decay: f64 = 4e-3, NOT_NEGATIVE;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^t)
        step_size,
        /// μ_t
        mu,
        /// 1-μ_t
        one_minus_mu,
        /// μ_{t+1}
        next,
        /// 1-μ_{t+1}
        one_minus_next,
        /// ε √(1-β2^t)
        eps_hat,
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
        /// 1 - Π μ_i
        q,
    }
}

#[cfg(feature = "checkpoint")]
impl NAdam {
    /// The name of the optimizer in files.
    pub(crate) const NAME: &'static str = <Self as Configured>::NAME;
    /// The state of the first moment.
    pub(crate) const FIRST: &'static str = "m";
    /// The state that holds 1 - Π μ_i.
    pub(crate) const LEFT: &'static str = "q";
}

impl NAdam {
    /// ½ 0.96^{iψ}
    fn fade(&self, i: u64) -> f64 {
        0.5 * 0.96_f64.powf(i as f64 * self.momentum_decay)
    }

    fn mu(&self, i: u64) -> f64 {
        self.beta1 * (1.0 - self.fade(i))
    }

    /// Π_{i≤t} μ_i if these settings held for all `t` steps: torch's `mu_product`.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn mu_product<'a>(settings: impl Iterator<Item = (&'a str, &'a Value)>, t: u64) -> Result<f64> {
        let mut rule = Self::default();
        for (name, value) in settings {
            Configured::set(&mut rule, name, value)?;
        }
        rule.check()?;
        Ok(rule.product(t))
    }

    /// Π_{i≤t} μ_i. The loop takes a few thousand turns at most for any t. If ψ is small, the product soon vanishes beside 1. If ψ is
    /// large, the other factors are a power of β1.
    #[cfg(feature = "checkpoint")]
    fn product(&self, t: u64) -> f64 {
        let mut product = 1.0;
        for i in 1..=t {
            if self.fade(i) < 1e-17 {
                return product * self.beta1.powf((t - i + 1) as f64);
            }
            product *= self.mu(i);
            if product < 1e-18 {
                return 0.0;
            }
        }
        product
    }
}

impl ElementwiseRule for NAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/nadam.wgsl");
    /// Worst measured error: 1.38.
    const TOLERANCE: f64 = 4.5;
    const SHARES_ROWS: bool = true;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (mu, next) = (self.mu(t), self.mu(t + 1));
        let root = bias_correction(self.beta2, t).sqrt();
        vec![
            Scalar::both("step_size", self.lr, root),
            Scalar::count("mu", mu),
            Scalar::count("one_minus_mu", 1.0 - mu),
            Scalar::count("next", next),
            Scalar::count("one_minus_next", 1.0 - next),
            Scalar::count("eps_hat", self.eps * root),
            Scalar::call("decay", self.weight_decay),
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
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
            Scalar::call("own_fade", (self.momentum_decay * 0.96_f64.ln()).max(LEAST_LN)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        let momentum = self.beta1 > 0.0;
        vec![
            StateSpec::zero("m", momentum),
            StateSpec::zero("v", true).positive(),
            StateSpec::zero("q", momentum).exact(),
        ]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![
            ("default", base),
            ("constant_mu", Self { momentum_decay: 0.0, ..base }),
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
        let q = h.one_minus_mu + h.mu * s.q;
        s.m = m;
        s.v = v;
        s.q = q;
        let ahead = h.next * m / (h.one_minus_next + h.next * q) + h.one_minus_mu * g / q;
        -h.step_size * ahead / (v.sqrt() + h.eps_hat)
    }
}

#[cfg(all(test, feature = "checkpoint"))]
mod tests {
    use super::*;

    fn plain_product(rule: &NAdam, t: u64) -> f64 {
        (1..=t).map(|i| rule.mu(i)).product()
    }

    #[test]
    fn product_agrees_with_the_plain_one() {
        for beta1 in [0.0, 0.5, 0.9, 0.9999, 1.0 - 1e-9] {
            for momentum_decay in [0.0, 1e-6, 4e-3, 0.3, 1.0, 100.0, 1e30] {
                let rule = NAdam { beta1, momentum_decay, ..NAdam::default() };
                for t in [1, 2, 10, 100, 5000] {
                    let (fast, plain) = (rule.product(t), plain_product(&rule, t));
                    assert!((fast - plain).abs() <= 1e-13 * plain + 1e-17, "{rule:?} t {t}: {fast:e} {plain:e}");
                }
            }
        }
    }

    #[test]
    fn product_is_cheap_for_any_count() {
        // A loop over all steps would not end for the last count.
        for beta1 in [0.9, 1.0 - 1e-12] {
            for momentum_decay in [0.0, 1e-12, 4e-3, 0.1, 0.35, 1.0, 1e6] {
                for t in [1_000_000, u64::from(u32::MAX), 1 << 60] {
                    let rule = NAdam { beta1, momentum_decay, ..NAdam::default() };
                    assert!((0.0..1.0).contains(&rule.product(t)), "{rule:?}");
                }
            }
        }
    }
}
