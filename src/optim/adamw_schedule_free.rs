//! Schedule-free AdamW; the rule is `shaders/rules/adamw_schedule_free.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, bias_correction, fields, ln_beta};
use super::schedule_free::{self, Average, Decision, Weighing};
use crate::optim::rule::settings::settings;

settings! {
    /// Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682, algorithm 1), as `schedulefree.AdamWScheduleFree`: an average of the
    /// iterates replaces a schedule that must know when training ends.
    ///
    /// `z ← z - γu`, `x ← (1-c)x + cz`, `y = (1-β)z + βx` where `u` is AdamW's direction at y. During training the parameters hold y;
    /// [`Optimizer::to_eval_params`](crate::Optimizer::to_eval_params) turns them into x and
    /// [`to_train_params`](crate::Optimizer::to_train_params) back into y. As in the package, the t-th step has the weight
    /// `t^r γ_max^weight_lr_power` in the average, with the largest rate so far; steps at a rate of 0 before all others have none. If `r` or
    /// `weight_lr_power` change later, the sum of the weights stays as it was in units of the last step's weight.
    ///
    /// The rule keeps `gap` = z - y and `v`.
    ///
    /// ```
    /// use wgpu_optim::{AdamWScheduleFree, Rule};
    ///
    /// let rule = AdamWScheduleFree { warmup_steps: 1000, ..AdamWScheduleFree::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["gap", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    AdamWScheduleFree = "adamw_schedule_free",
    /// Learning rate γ. Default 2.5e-3, the package's.
    lr: f64 = 2.5e-3, NOT_NEGATIVE;
    /// β: the position of y between z and x, in [1e-3, 1). Default 0.9, the package's.
    beta1: f64 = 0.9, BETWEEN;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, the package's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, the package's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled, applied at y. Default 0, the package's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// Steps over which the rate rises linearly to γ. Default 0, the package's.
    warmup_steps: u32 = 0, COUNT_OR_NONE;
    /// The t-th step weighs t^r in the average, in [0, 10]. Default 0, the package's.
    r: f64 = 0.0, POWER;
    /// The exponent of the largest rate so far in a step's weight, in [0, 10]. Default 2, the package's.
    weight_lr_power: f64 = 2.0, POWER;
}

fields! {
    /// The scalars of a step.
    Hyper {
        /// γ_t
        rate,
        /// ((t-1)/t)^r
        carry,
        /// weight_lr_power
        power,
        /// β
        beta,
        /// 1-β
        one_minus_beta,
        /// √(1-β2^t)
        correction,
        /// ε √(1-β2^t)
        eps_hat,
        /// λ
        decay,
        /// β2
        beta2,
        /// 1-β2
        one_minus_beta2,
    }
}

fields! {
    /// The states.
    State {
        /// z - y.
        gap,
        /// Second moment.
        v,
    }
}

impl ElementwiseRule for AdamWScheduleFree {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = concat!(
        include_str!("../../shaders/rules/adamw_schedule_free.wgsl"),
        include_str!("../../shaders/rules/parts/schedule_free.wgsl")
    );
    /// Worst measured error: 1.70.
    const TOLERANCE: f64 = 5.5;

    const PROGRESS: &'static [&'static str] = schedule_free::PROGRESS;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let root = bias_correction(self.beta2, t).sqrt();
        let mut scalars = self.average().scalars(t, self.lr);
        scalars.extend([
            Scalar::count("correction", root),
            Scalar::count("eps_hat", self.eps * root),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("beta2", self.beta2),
            Scalar::call("one_minus_beta2", 1.0 - self.beta2),
        ]);
        scalars
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_warmup_steps", f64::from(self.warmup_steps)),
            Scalar::call("own_r", self.r),
            Scalar::call("own_eps", self.eps),
            Scalar::call("own_ln_beta2", ln_beta(self.beta2)),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("gap", true).exact(), StateSpec::zero("v", true).positive()]
    }

    fn progress_after(&self, t: u64) -> Vec<f64> {
        self.average().progress(t, self.lr)
    }

    fn proceed<F: Real>(&self, h: &Hyper<F>, progress: &mut [F]) -> Decision<F> {
        let Hyper { rate, carry, power, beta, one_minus_beta, .. } = *h;
        schedule_free::proceed(&Weighing { rate, carry, power, beta, one_minus_beta }, progress)
    }

    fn evaluation(&self) -> Option<(&'static str, f64)> {
        self.average().evaluation()
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("warmup", Self { warmup_steps: 3, r: 1.0, beta1: 0.8, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
        s.v = v;
        let u = h.correction * g / (v.sqrt() + h.eps_hat) + h.decay * p;
        let gap = s.gap;
        s.gap = d.keep * gap - d.step_size_gap * u;
        d.average * gap - d.step_size_y * u
    }
}

impl AdamWScheduleFree {
    const fn average(&self) -> Average {
        let Self { beta1: beta, warmup_steps, r, weight_lr_power, .. } = *self;
        Average { beta, warmup_steps, r, weight_lr_power }
    }
}
