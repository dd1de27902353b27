//! The average that the two schedule-free rules share, and the weight of each step in this average.

use super::Scalar;
use super::rule::{Real, fields};

/// The members of the progress: the sum of the weights in units of the last step's weight, and the largest rate so far.
pub(super) const PROGRESS: &[&str] = &["weights", "largest"];

fields! {
    /// The decision from the progress.
    Decision {
        /// c, the step's share of the average.
        average,
        /// 1-c
        keep,
        /// γ_t (1 - β(1-c))
        step_size_y,
        /// γ_t β(1-c)
        step_size_gap,
    }
}

/// The members of `Hyper` that [`proceed`] reads.
pub(super) struct Weighing<F> {
    pub(super) rate: F,
    pub(super) carry: F,
    pub(super) power: F,
    pub(super) beta: F,
    pub(super) one_minus_beta: F,
}

/// Counts a step in the progress, and returns its share of the average with the step sizes.
pub(super) fn proceed<F: Real>(h: &Weighing<F>, progress: &mut [F]) -> Decision<F> {
    let [weights, largest_before] = progress else { return Decision::nan() };
    let before = *largest_before;
    let largest = before.max(h.rate);
    let mut past = h.carry * *weights;
    if largest > before {
        past = past * (before / largest).powf(h.power);
    }
    // A rate that is 0 so far gives its step no weight.
    let weighs = largest > F::zero() || h.power == F::zero();
    let all = F::one() + past;
    let (sum, c, keep) = if weighs { (all, F::one() / all, past / all) } else { (F::zero(), F::zero(), F::one()) };
    (*weights, *largest_before) = (sum, largest);
    Decision {
        average: c,
        keep,
        step_size_y: h.rate * (h.one_minus_beta + h.beta * c),
        step_size_gap: h.rate * h.beta * keep,
    }
}

impl<F: Real> Decision<F> {
    /// The decision of a progress with another count of numbers, which no caller has.
    fn nan() -> Self {
        Self { average: F::nan(), keep: F::nan(), step_size_y: F::nan(), step_size_gap: F::nan() }
    }
}

/// The settings that decide the weights of the average.
#[derive(Clone, Copy)]
pub(super) struct Average {
    /// β: the position of y between z and x.
    pub(super) beta: f64,
    pub(super) warmup_steps: u32,
    pub(super) r: f64,
    pub(super) weight_lr_power: f64,
}

impl Average {
    /// γ_t / γ.
    fn warm(self, t: u64) -> f64 {
        if t < u64::from(self.warmup_steps) { t as f64 / f64::from(self.warmup_steps) } else { 1.0 }
    }

    /// c at a constant rate: the weight of step t, divided by the sum of the weights of steps 1 to t. The weight of a step is t^r times a
    /// power of its rate.
    fn share(self, t: u64) -> f64 {
        let warming = t.min(u64::from(self.warmup_steps));
        let mut sum = power_sum(self.r, t) - power_sum(self.r, warming);
        if warming > 0 {
            sum += power_sum(self.r + self.weight_lr_power, warming)
                / f64::from(self.warmup_steps).powf(self.weight_lr_power);
        }
        (t as f64).powf(self.r) * self.warm(t).powf(self.weight_lr_power) / sum
    }

    /// The progress after `t` steps at the rate `lr`.
    pub(super) fn progress(self, t: u64, lr: f64) -> Vec<f64> {
        if t == 0 {
            return vec![0.0; PROGRESS.len()];
        }
        let weighs = lr > 0.0 || self.weight_lr_power == 0.0;
        vec![if weighs { self.share(t).recip() } else { 0.0 }, lr * self.warm(t)]
    }

    /// The members of `Hyper` that both rules begin with.
    pub(super) fn scalars(self, t: u64, lr: f64) -> Vec<Scalar> {
        vec![
            Scalar::both("rate", lr, self.warm(t)),
            Scalar::count("carry", ((t - 1) as f64 / t as f64).powf(self.r)),
            Scalar::call("power", self.weight_lr_power),
            Scalar::call("beta", self.beta),
            Scalar::call("one_minus_beta", 1.0 - self.beta),
        ]
    }

    /// The state, and the factor with which it leads from y to x.
    pub(super) fn evaluation(self) -> Option<(&'static str, f64)> {
        Some(("gap", 1.0 - 1.0 / self.beta))
    }
}

/// Σ_{i≤n} i^a. A loop adds the first terms, a few hundred at most; the formula of Euler and Maclaurin gives the other terms, to f64's
/// precision for the allowed powers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_plain_sums() {
        for (warmup, r, power) in [(0, 0.0, 2.0), (700, 0.0, 2.0), (3, 1.0, 1.5), (500, 2.5, 3.0), (10, 10.0, 10.0)] {
            let average = Average { beta: 0.9, warmup_steps: warmup, r, weight_lr_power: power };
            let mut sum = 0.0;
            for t in 1..=5000 {
                let weight = (t as f64).powf(r) * average.warm(t).powf(power);
                sum += weight;
                let (closed, plain) = (average.share(t), weight / sum);
                assert!((closed - plain).abs() <= 1e-12 * plain, "{warmup} {r} {power} t {t}: {closed:e} {plain:e}");
            }
            let far = average.share(1 << 40);
            assert!(far > 0.0 && far < 1e-10, "{far:e}");
        }
    }
}
