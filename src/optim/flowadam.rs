//! FlowAdam; the rule is `shaders/rules/flowadam.wgsl`.

use std::sync::Arc;

use super::procedure::{Scheme, Shared};
use super::rule::{ElementwiseRule, MAX_SUMS, Real, Scalar, StateSpec, Sums, bias_correction, fields, ln_beta};
use crate::optim::rule::settings::{choice, settings};

choice! {
    /// The source of the FlowAdam thresholds that the caller did not set.
    Mode {
        /// The authors' "stochastic neural networks": α_s 0.4, α_c 3, τ 2.
        A = "a",
        /// The authors' "scientific, full batch": α_s 0.9, α_c 0.1, τ 0.5.
        B = "b",
    }
}

impl Mode {
    /// α_s, α_c and τ.
    const fn presets(self) -> (f64, f64, f64) {
        match self {
            Self::A => (0.4, 3.0, 2.0),
            Self::B => (0.9, 0.1, 0.5),
        }
    }
}

choice! {
    /// The method with which FlowAdam follows the flow.
    Integrator {
        /// One step of Euler's method with the step's own gradient: no evaluation.
        Euler = "euler",
        /// The classical fourth-order method in one step: three more gradients.
        Rk4 = "rk4",
        /// Dormand–Prince 5(4) with torchdiffeq's step control, as in the authors' code: usually eight more gradients. The host reads one
        /// number per attempt.
        Dopri5 = "dopri5",
    }
}

choice! {
    /// The first moment after a flow.
    Injection {
        /// The old moment mixed with the flow's displacement, which has weight γ and a cap on its norm.
        Soft = "soft",
        /// The flow's displacement alone: the authors' ablation.
        Hard = "hard",
    }
}

settings! {
    /// FlowAdam (arXiv 2604.06652, in the form of the authors' code): Adam that follows the gradient's flow on plateaus and where the
    /// gradient changes much, and mixes the flow's displacement into its momentum.
    ///
    /// Norms run over all tensors of all groups. Flow steps do not count: only Adam steps change v and the bias corrections. The rule has
    /// no weight decay: add the decay to the loss.
    ///
    /// The rule keeps `m`, `v`, `g_prev`, and `displacement` with an integrator other than Euler's.
    ///
    /// ```
    /// use wgpu_optim::optim::{FlowAdam, Integrator, Rule};
    ///
    /// let rule = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["m", "v", "g_prev", "displacement"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    FlowAdam = "flowadam",
    /// η. Default 1e-3, the authors' code.
    lr: f64 = 1e-3, NOT_NEGATIVE;
    /// β1, in [0, 1). Default 0.9, the authors' code.
    beta1: f64 = 0.9, BELOW_ONE;
    /// β2, in [0, 1). Default 0.999, the authors' code.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root and not corrected for bias. Default 1e-8, the authors' code.
    eps: f64 = 1e-8, EPSILON;
    /// The source of the next three settings if they are not set. Default b, the authors' code.
    mode: Mode = Mode::B;
    /// α_s: the step follows the flow if ‖g‖ is below α_s times its average. Default: the mode's.
    switch_sensitivity: Option<f64> = None, NOT_NEGATIVE;
    /// α_c: the step follows the flow if ‖g - g_prev‖ exceeds α_c times its average. Default: the mode's.
    curvature_sensitivity: Option<f64> = None, NOT_NEGATIVE;
    /// τ: the step follows the flow for the time ητ, which is rounded to f32 as in the authors' code. Default: the mode's.
    ode_t_scale: Option<f64> = None, NOT_NEGATIVE;
    /// γ, the flow's share in the momentum, in [0, 1]. Default 0.5, the authors' code.
    momentum_blend_gamma: f64 = 0.5, SHARE;
    /// The method of integration. Default euler, because every benchmark of the paper amounts to Euler's method; the authors' default is dopri5.
    integrator: Integrator = Integrator::Euler;
    /// Relative and absolute tolerance of dopri5. Default 1e-4, the authors' code.
    ode_tol: f64 = 1e-4, EPSILON;
    /// The way in which the flow enters the momentum. Default soft, the paper's.
    injection: Injection = Injection::Soft;
    /// In each tensor the injection's norm is at most `injection_cap` times the moment's norm. Default 5, the authors' code.
    injection_cap: f64 = 5.0, NOT_NEGATIVE;
    /// Each element of the flow's gradients is clamped to ± `gradient_clip`. Default 1, the authors' code.
    gradient_clip: f64 = 1.0, NOT_NEGATIVE;
    /// Decay rate of the norms' averages, in [0, 1). Default 0.9, the authors' code.
    statistics_beta: f64 = 0.9, BELOW_ONE;
    /// Steps before the first step that may follow the flow. Default 11, the authors' code.
    warmup: u32 = 11, STEPS;
}

impl FlowAdam {
    /// α_s, α_c and τ: the settings, or the mode's values.
    fn thresholds(&self) -> (f64, f64, f64) {
        let (alpha_s, alpha_c, tau) = self.mode.presets();
        (
            self.switch_sensitivity.unwrap_or(alpha_s),
            self.curvature_sensitivity.unwrap_or(alpha_c),
            self.ode_t_scale.unwrap_or(tau),
        )
    }

    fn is_staged(&self) -> bool {
        self.integrator != Integrator::Euler
    }
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// η √(1-β2^s) / (1-β1^s)
        step_size,
        /// ε
        eps,
        /// β1
        beta1,
        /// 1-β1
        one_minus_beta1,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
        /// T = ητ
        horizon,
        /// 1/η, or 0
        inverse_rate,
        /// The clamp's bound.
        limit,
        /// γ
        gamma,
        /// 1-γ
        one_minus_gamma,
        /// The injection's cap, 0 for none.
        cap,
        /// α_s
        alpha_s,
        /// α_c
        alpha_c,
        /// β_s of the averages.
        beta_s,
        /// 1-β_s
        one_minus_beta_s,
        /// Steps before the first flow.
        warmup,
    }
}

fields! {
    /// The states.
    State {
        /// First moment.
        m,
        /// Second moment.
        v,
        /// The gradient at the start of the last step.
        g_prev,
        /// The displacement that an integrator found; Euler's method does not use it.
        displacement,
    }
}

fields! {
    /// The decision from the norms.
    Decision {
        /// 1 if the step follows the flow, else 0.
        flow,
        /// The factor of the injection.
        r,
    }
}

fields! {
    /// The global state.
    GlobalState {
        /// Steps so far, of either kind.
        outer,
        /// N̄
        norm,
        /// K̄
        curvature,
        /// Steps that followed the flow.
        triggers,
    }
}

fn displaced<F: Real>(staged: bool, h: &Hyper<F>, g: F, s: &State<F>) -> F {
    // A NaN stays a NaN.
    if staged { s.displacement } else { -h.horizon * g.clamp(-h.limit, h.limit) }
}

impl ElementwiseRule for FlowAdam {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = GlobalState<F>;
    const TEXT: &'static str = include_str!("../../shaders/rules/flowadam.wgsl");
    /// Worst measured error: 1.35.
    const TOLERANCE: f64 = 4.5;
    const SUMS: Sums = Sums { sums: 4, totals: 4, after_clip: true, may_hold: true, any_count: true, ..Sums::NONE };

    fn procedure(&self) -> Shared {
        match self.integrator {
            Integrator::Euler => None,
            Integrator::Rk4 => Some(Arc::new(Scheme::Rk4)),
            Integrator::Dopri5 => Some(Arc::new(Scheme::Dopri5 { tolerance: self.ode_tol })),
        }
    }

    fn common(&self) -> &'static [&'static str] {
        const TRIGGER: &[&str] = &[
            "mode",
            "switch_sensitivity",
            "curvature_sensitivity",
            "statistics_beta",
            "warmup",
            "integrator",
            // With dopri5, one integration over one time covers all tensors.
            "lr",
            "ode_t_scale",
            "ode_tol",
        ];
        if self.integrator == Integrator::Dopri5 { TRIGGER } else { &TRIGGER[..6] }
    }

    fn sums_read(&self) -> &'static [&'static str] {
        &["g", "g_prev", "m"]
    }

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let (bc1, bc2) = (bias_correction(self.beta1, t), bias_correction(self.beta2, t));
        let (alpha_s, alpha_c, tau) = self.thresholds();
        let (gamma, cap) = match self.injection {
            Injection::Soft => (self.momentum_blend_gamma, self.injection_cap),
            Injection::Hard => (1.0, 0.0),
        };
        let horizon = f64::from((self.lr * tau) as f32);
        // If a schedule lowers the learning rate toward 0, the reciprocal of the rate is beyond f32's range.
        let inverse_rate = if (self.lr.recip() as f32).is_finite() { self.lr.recip() } else { 0.0 };
        vec![
            Scalar::both("step_size", self.lr, bc2.sqrt() / bc1),
            Scalar::call("eps", self.eps),
            Scalar::call("beta1", self.beta1),
            Scalar::call("one_minus_beta1", 1.0 - self.beta1),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
            Scalar::call("horizon", horizon),
            Scalar::call("inverse_rate", inverse_rate),
            Scalar::call("limit", self.gradient_clip),
            Scalar::call("gamma", gamma),
            Scalar::call("one_minus_gamma", 1.0 - gamma),
            Scalar::call("cap", cap),
            Scalar::call("alpha_s", alpha_s),
            Scalar::call("alpha_c", alpha_c),
            Scalar::call("beta_s", self.statistics_beta),
            Scalar::call("one_minus_beta_s", 1.0 - self.statistics_beta),
            Scalar::call("warmup", f64::from(self.warmup)),
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
        vec![
            StateSpec::zero("m", true),
            StateSpec::zero("v", true).positive(),
            StateSpec::zero("g_prev", true).exact(),
            StateSpec::zero("displacement", self.is_staged()).exact(),
        ]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("STAGED", self.is_staged())]
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let always = Self { switch_sensitivity: Some(1e6), warmup: 2, ode_t_scale: Some(3.0), ..Self::default() };
        vec![
            ("default", Self::default()),
            ("flow", always),
            ("hard", Self { injection: Injection::Hard, ..always }),
            (
                "stiff",
                Self {
                    mode: Mode::A,
                    switch_sensitivity: Some(0.0),
                    curvature_sensitivity: Some(0.5),
                    warmup: 2,
                    ..Self::default()
                },
            ),
        ]
    }

    #[inline(always)]
    fn contribute<F: Real>(&self, h: &Hyper<F>, _: F, g: F, s: &State<F>) -> [F; MAX_SUMS] {
        let change = g - s.g_prev;
        let q = h.inverse_rate * displaced(self.is_staged(), h, g, s);
        let mut terms = [F::zero(); MAX_SUMS];
        terms[..4].copy_from_slice(&[g * g, change * change, s.m * s.m, q * q]);
        terms
    }

    fn total<F: Real>(&self, _: &Hyper<F>, sums: &[F], _: F) -> [[F; 3]; MAX_SUMS] {
        let mut totals = [[F::zero(); 3]; MAX_SUMS];
        for (total, sum) in totals.iter_mut().zip(&sums[..4]) {
            total[0] = *sum;
        }
        totals
    }

    fn decide<F: Real>(&self, h: &Hyper<F>, totals: &[F], own: &[F], state: &mut GlobalState<F>) -> Decision<F> {
        let norm = totals[0].sqrt();
        let curvature = totals[1].sqrt();
        let before = *state;
        let first = before.outer == F::zero();
        let average = |before: F, now: F| if first { now } else { h.beta_s * before + h.one_minus_beta_s * now };
        let norm_average = average(before.norm, norm);
        let curvature_average = average(before.curvature, curvature);
        let wanted = norm < h.alpha_s * norm_average || curvature > h.alpha_c * curvature_average;
        let flow = if wanted && before.outer + F::from_f64(0.5) > h.warmup { F::one() } else { F::zero() };
        *state = GlobalState {
            outer: before.outer + F::one(),
            norm: norm_average,
            curvature: curvature_average,
            triggers: before.triggers + flow,
        };
        let decision = Decision { flow, r: F::one() };
        // The displacement in the state belongs to an earlier step until the integrator has run.
        if self.is_staged() { decision } else { self.settle(h, totals, own, &decision) }
    }

    fn settle<F: Real>(&self, h: &Hyper<F>, totals: &[F], own: &[F], d: &Decision<F>) -> Decision<F> {
        let m = h.cap * own[2].sqrt();
        let q = own[3].sqrt();
        let r = if h.cap > F::zero() && q > m { m / (q + F::from_f64(1e-8)) } else { F::one() };
        let flow = if totals[3].is_finite() { d.flow } else { F::zero() };
        Decision { flow, r }
    }

    fn hold<F: Real>(&self, d: &Decision<F>) -> bool {
        d.flow != F::zero()
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, _: F, gradient: F, s: &mut State<F>) -> F {
        let staged = self.is_staged();
        let g = if staged { s.g_prev } else { gradient };
        let displacement = displaced(staged, h, g, s);
        s.g_prev = g;
        if d.flow != F::zero() {
            let q = -h.inverse_rate * displacement;
            s.m = h.one_minus_gamma * s.m + h.gamma * d.r * q;
            return displacement;
        }
        let m = h.beta1 * s.m + h.one_minus_beta1 * g;
        let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
        s.m = m;
        s.v = v;
        -h.step_size * m / (v.sqrt() + h.eps)
    }
}
