//! Schedule-free SGD; the rule is `shaders/rules/sgd_schedule_free.wgsl`.

use super::rule::{ElementwiseRule, Nothing, Real, Scalar, StateSpec, fields};
use super::schedule_free::{self, Average, Decision, Weighing};
use crate::optim::rule::settings::settings;

settings! {
    /// Schedule-free SGD (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.SGDScheduleFree`: the formulas of
    /// [`AdamWScheduleFree`](super::AdamWScheduleFree), where `u` is the gradient plus λy.
    ///
    /// The rule keeps `gap` = z - y.
    ///
    /// ```
    /// use wgpu_optim::{Rule, SgdScheduleFree};
    ///
    /// let rule = SgdScheduleFree { lr: 0.5, warmup_steps: 1000, ..SgdScheduleFree::default() };
    /// rule.check()?;
    /// let kept: Vec<_> = rule.states().into_iter().filter(|state| state.used).map(|state| state.name).collect();
    /// assert_eq!(kept, ["gap"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    SgdScheduleFree = "sgd_schedule_free",
    /// Learning rate γ. Default 1, the package's.
    lr: f64 = 1.0, NOT_NEGATIVE;
    /// β: the position of y between z and x, in [1e-3, 1). Default 0.9, the package's.
    momentum: f64 = 0.9, BETWEEN;
    /// λ, applied at y. Default 0, the package's.
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
        /// λ
        decay,
    }
}

fields! {
    /// The states.
    State {
        /// z - y.
        gap,
    }
}

impl ElementwiseRule for SgdScheduleFree {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Decision<F>;
    type GlobalState<F: Real> = Nothing;
    const TEXT: &'static str = concat!(
        include_str!("../../shaders/rules/sgd_schedule_free.wgsl"),
        include_str!("../../shaders/rules/parts/schedule_free.wgsl")
    );
    /// Worst measured error: 1.28.
    const TOLERANCE: f64 = 4.0;

    const PROGRESS: &'static [&'static str] = schedule_free::PROGRESS;

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let mut scalars = self.average().scalars(t, self.lr);
        scalars.push(Scalar::call("decay", self.weight_decay));
        scalars
    }

    fn own_count(&self) -> Option<Vec<Scalar>> {
        Some(vec![
            Scalar::call("own_lr", self.lr),
            Scalar::call("own_warmup_steps", f64::from(self.warmup_steps)),
            Scalar::call("own_r", self.r),
        ])
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("gap", true).exact()]
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
        let base = Self { lr: 0.01, weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("warmup", Self { warmup_steps: 3, momentum: 0.5, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, d: &Decision<F>, p: F, g: F, s: &mut State<F>) -> F {
        let u = g + h.decay * p;
        let gap = s.gap;
        s.gap = d.keep * gap - d.step_size_gap * u;
        d.average * gap - d.step_size_y * u
    }
}

impl SgdScheduleFree {
    const fn average(&self) -> Average {
        let Self { momentum: beta, warmup_steps, r, weight_lr_power, .. } = *self;
        Average { beta, warmup_steps, r, weight_lr_power }
    }
}
