//! Schedule-free SGD and AdamW; the rule is `shaders/rules/schedule_free.wgsl`.

use super::rule::{Nothing, Real, Scalar, StateSpec, Twin, bias_correction, members};
use super::settings::settings;

settings! {
    /// Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.AdamWScheduleFree`: an average of the iterates takes
    /// the place of a schedule that must know when training ends.
    ///
    /// `z ← z - γu`, `x ← (1-c)x + cz`, `y = (1-β)z + βx` with `u` AdamW's direction at y. The parameters hold y while training goes on;
    /// [`Optimizer::to_evaluation`](crate::Optimizer::to_evaluation) makes them x and
    /// [`to_training`](crate::Optimizer::to_training) y again. The weights of the average follow the warm-up, for a rate γ that does not
    /// change; a rate set later scales the steps alone.
    AdamWScheduleFree = "adamw_schedule_free",
    /// Learning rate γ. Default 2.5e-3, the package's.
    lr: f64 = 2.5e-3, NOT_NEGATIVE;
    /// β: where y lies between z and x, in [1e-3, 1). Default 0.9, the package's.
    beta1: f64 = 0.9, BETWEEN;
    /// Decay rate β2 of the second moment, in [0, 1). Default 0.999, the package's.
    beta2: f64 = 0.999, BELOW_ONE;
    /// ε, outside the root. Default 1e-8, the package's.
    eps: f64 = 1e-8, EPSILON;
    /// λ, decoupled, taken at y. Default 0, the package's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// Steps over which the rate rises linearly to γ. Default 0, the package's.
    warmup_steps: u32 = 0, COUNT_OR_NONE;
    /// The t-th step weighs t^r in the average, in [0, 10]. Default 0, the package's.
    r: f64 = 0.0, POWER;
    /// The power of the largest rate so far in a step's weight, in [0, 10]. Default 2, the package's.
    weight_lr_power: f64 = 2.0, POWER;
}

settings! {
    /// Schedule-free SGD (Defazio et al. 2024, arXiv 2405.15682), as `schedulefree.SGDScheduleFree`: see [`AdamWScheduleFree`]; `u` is
    /// the gradient and λy.
    SgdScheduleFree = "sgd_schedule_free",
    /// Learning rate γ. Default 1, the package's.
    lr: f64 = 1.0, NOT_NEGATIVE;
    /// β: where y lies between z and x, in [1e-3, 1). Default 0.9, the package's.
    momentum: f64 = 0.9, BETWEEN;
    /// λ, taken at y. Default 0, the package's.
    weight_decay: f64 = 0.0, NOT_NEGATIVE;
    /// Steps over which the rate rises linearly to γ. Default 0, the package's.
    warmup_steps: u32 = 0, COUNT_OR_NONE;
    /// The t-th step weighs t^r in the average, in [0, 10]. Default 0, the package's.
    r: f64 = 0.0, POWER;
    /// The power of the largest rate so far in a step's weight, in [0, 10]. Default 2, the package's.
    weight_lr_power: f64 = 2.0, POWER;
}

members! {
    /// The scalars of a step.
    Hyper {
        /// c, the step's share of the average.
        average,
        /// 1-c
        keep,
        /// γ_t (1 - β(1-c))
        step_y,
        /// γ_t β(1-c)
        step_gap,
        /// √(1-β2^t); 1 with SGD
        correction,
        /// ε √(1-β2^t); 0 with SGD
        eps_hat,
        /// λ
        decay,
        /// β2; 0 with SGD
        beta2,
        /// 1-β2; 0 with SGD
        one_minus_beta2,
    }
}

members! {
    /// The states.
    State {
        /// z - y.
        gap,
        /// Second moment, of AdamW.
        v,
    }
}

/// The rule's numbers that both have.
#[derive(Clone, Copy)]
struct Average {
    beta: f64,
    warmup: u64,
    r: f64,
    power: f64,
}

impl Average {
    /// γ_t over γ.
    fn warm(self, t: u64) -> f64 {
        if t < self.warmup { t as f64 / self.warmup as f64 } else { 1.0 }
    }

    /// c: the weight of step t, which is t^r times a power of its rate, over those of all steps up to it.
    fn share(self, t: u64) -> f64 {
        let warming = t.min(self.warmup);
        let mut sum = power_sum(self.r, t) - power_sum(self.r, warming);
        if warming > 0 {
            sum += power_sum(self.r + self.power, warming) / (self.warmup as f64).powf(self.power);
        }
        (t as f64).powf(self.r) * self.warm(t).powf(self.power) / sum
    }

    fn scalars(self, t: u64, lr: f64) -> Vec<Scalar> {
        let (c, warm) = (self.share(t), self.warm(t));
        let toward = self.beta * (1.0 - c);
        vec![
            Scalar::count("average", c),
            Scalar::count("keep", 1.0 - c),
            Scalar::both("step_y", lr, warm * (1.0 - toward)),
            Scalar::both("step_gap", lr, warm * toward),
        ]
    }

    /// From y to x.
    fn evaluation(self) -> Option<(&'static str, f64)> {
        Some(("gap", 1.0 - 1.0 / self.beta))
    }
}

/// Σ_{i≤n} i^a in some hundred turns at most: the rest by Euler and Maclaurin, to f64's precision for the powers that are allowed.
fn power_sum(a: f64, n: u64) -> f64 {
    const PLAIN: u64 = 256;
    if a == 0.0 {
        return n as f64;
    }
    let plain: f64 = (1..=n.min(PLAIN)).map(|i| (i as f64).powf(a)).sum();
    if n <= PLAIN {
        return plain;
    }
    let antiderivative = |x: f64| x.powf(a + 1.0) / (a + 1.0);
    let derivatives = |x: f64| {
        let first = a * x.powf(a - 1.0);
        let third = first * (a - 1.0) * (a - 2.0) / (x * x);
        let fifth = third * (a - 3.0) * (a - 4.0) / (x * x);
        first / 12.0 - third / 720.0 + fifth / 30240.0
    };
    let (m, n) = (PLAIN as f64, n as f64);
    plain + antiderivative(n) - antiderivative(m) + (n.powf(a) - m.powf(a)) / 2.0 + derivatives(n) - derivatives(m)
}

/// What the parameters and the gap become once `u` is known.
#[inline(always)]
fn follow<F: Real>(h: &Hyper<F>, u: F, s: &mut State<F>) -> F {
    let gap = s.gap;
    s.gap = h.keep * gap - h.step_gap * u;
    h.average * gap - h.step_y * u
}

impl Twin for AdamWScheduleFree {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type Memory<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/schedule_free.wgsl");

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

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("gap", true), StateSpec::zero("v", true)]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("ADAPTIVE", true)]
    }

    fn evaluation(&self) -> Option<(&'static str, f64)> {
        self.average().evaluation()
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("warmup", Self { warmup_steps: 3, r: 1.0, beta1: 0.8, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        let v = h.beta2 * s.v + h.one_minus_beta2 * g * g;
        s.v = v;
        let u = h.correction * g / (v.sqrt() + h.eps_hat) + h.decay * p;
        follow(h, u, s)
    }
}

impl AdamWScheduleFree {
    const fn average(&self) -> Average {
        let Self { beta1: beta, warmup_steps, r, weight_lr_power: power, .. } = *self;
        Average { beta, warmup: warmup_steps as u64, r, power }
    }
}

impl Twin for SgdScheduleFree {
    type Hyper<F: Real> = Hyper<F>;
    type State<F: Real> = State<F>;
    type Decision<F: Real> = Nothing;
    type Memory<F: Real> = Nothing;
    const TEXT: &'static str = include_str!("../../shaders/rules/schedule_free.wgsl");

    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let mut scalars = self.average().scalars(t, self.lr);
        scalars.extend([
            Scalar::count("correction", 1.0),
            Scalar::count("eps_hat", 0.0),
            Scalar::call("decay", self.weight_decay),
            Scalar::call("beta2", 0.0),
            Scalar::call("one_minus_beta2", 0.0),
        ]);
        scalars
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zero("gap", true), StateSpec::zero("v", false)]
    }

    fn flags(&self) -> Vec<(&'static str, bool)> {
        vec![("ADAPTIVE", false)]
    }

    fn evaluation(&self) -> Option<(&'static str, f64)> {
        self.average().evaluation()
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let base = Self { lr: 0.01, weight_decay: 0.1, ..Self::default() };
        vec![("default", base), ("warmup", Self { warmup_steps: 3, momentum: 0.5, ..base })]
    }

    #[inline(always)]
    fn update<F: Real>(&self, h: &Hyper<F>, _: &Nothing, p: F, g: F, s: &mut State<F>) -> F {
        follow(h, g + h.decay * p, s)
    }
}

impl SgdScheduleFree {
    const fn average(&self) -> Average {
        let Self { momentum: beta, warmup_steps, r, weight_lr_power: power, .. } = *self;
        Average { beta, warmup: warmup_steps as u64, r, power }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_plain_sums() {
        for (warmup, r, power) in [(0, 0.0, 2.0), (700, 0.0, 2.0), (3, 1.0, 1.5), (500, 2.5, 3.0), (10, 10.0, 10.0)] {
            let average = Average { beta: 0.9, warmup, r, power };
            let mut sum = 0.0;
            for t in 1..=5000 {
                let weight = (t as f64).powf(r) * average.warm(t).powf(power);
                sum += weight;
                let (ours, plain) = (average.share(t), weight / sum);
                assert!((ours - plain).abs() <= 1e-12 * plain, "{warmup} {r} {power} t {t}: {ours:e} {plain:e}");
            }
            let far = average.share(1 << 40);
            assert!(far > 0.0 && far < 1e-10, "{far:e}");
        }
    }
}
