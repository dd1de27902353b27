//! The average that the two schedule-free rules share, and the weight of each step in this average.

use super::Scalar;

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

    /// c: the weight of step t, divided by the sum of the weights of steps 1 to t. The weight of a step is t^r times a power of its rate.
    fn share(self, t: u64) -> f64 {
        let warming = t.min(u64::from(self.warmup_steps));
        let mut sum = power_sum(self.r, t) - power_sum(self.r, warming);
        if warming > 0 {
            sum += power_sum(self.r + self.weight_lr_power, warming)
                / f64::from(self.warmup_steps).powf(self.weight_lr_power);
        }
        (t as f64).powf(self.r) * self.warm(t).powf(self.weight_lr_power) / sum
    }

    /// The members of `Hyper` that both rules begin with.
    pub(super) fn scalars(self, t: u64, lr: f64) -> Vec<Scalar> {
        let (c, warm) = (self.share(t), self.warm(t));
        let toward = self.beta * (1.0 - c);
        vec![
            Scalar::count("average", c),
            Scalar::count("keep", 1.0 - c),
            Scalar::both("step_size_y", lr, warm * (1.0 - toward)),
            Scalar::both("step_size_gap", lr, warm * toward),
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
