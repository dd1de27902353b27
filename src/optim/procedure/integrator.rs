//! Runge–Kutta methods as rows of weights on the derivatives, and torchdiffeq's step control for the method of Dormand and Prince. Nothing
//! here depends on the place of the derivatives.

/// The largest number of derivatives that a method keeps.
pub(crate) const STAGES: usize = 7;

/// A weight for each derivative.
pub(crate) type Weights = [f64; STAGES];

/// The classical method: the positions of the second, third and fourth derivative, and the step.
pub(crate) const RK4: [Weights; 4] = [
    [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0, 0.0, 0.0, 0.0],
];

/// Dormand and Prince's method: the positions of the second to seventh derivative. The last row is the step.
pub(crate) const DOPRI5: [Weights; 6] = [
    [1.0 / 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [3.0 / 40.0, 9.0 / 40.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0, 0.0, 0.0, 0.0, 0.0],
    [19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0, 0.0, 0.0, 0.0],
    [9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0, 0.0, 0.0],
    [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0, 0.0],
];

/// The step minus the embedded step of fourth order.
const ERROR: Weights = [
    35.0 / 384.0 - 1951.0 / 21600.0,
    0.0,
    500.0 / 1113.0 - 22642.0 / 50085.0,
    125.0 / 192.0 - 451.0 / 720.0,
    -2187.0 / 6784.0 + 12231.0 / 42400.0,
    11.0 / 84.0 - 649.0 / 6300.0,
    -1.0 / 60.0,
];

/// The displacement to the middle of the step.
const MIDDLE: Weights = [
    0.5 * 6_025_192_743.0 / 30_085_553_152.0,
    0.0,
    0.5 * 51_252_292_925.0 / 65_400_821_598.0,
    0.5 * -2_691_868_925.0 / 45_128_329_728.0,
    0.5 * 187_940_372_067.0 / 1_594_534_317_056.0,
    0.5 * -1_776_094_331.0 / 19_743_644_256.0,
    0.5 * 11_237_099.0 / 235_043_384.0,
];

/// An integration stops after this many attempts.
const MOST_ATTEMPTS: u32 = 1000;

/// The judgement of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Repeat from the same position with a smaller step.
    Again,
    /// Accept the step; its seventh derivative is the first of the next step.
    Onward(Weights),
    /// The end lies within the step: the displacement to the end.
    Arrived(Weights),
    /// The integration failed.
    Failed,
}

/// The step control of Dormand and Prince's method over the time from 0 to `horizon`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    horizon: f64,
    time: f64,
    step: f64,
    attempts: u32,
}

impl Control {
    /// Begins with the step that [`first_step`] and [`second_step`] found.
    pub(crate) const fn new(horizon: f64, step: f64) -> Self {
        Self { horizon, time: 0.0, step, attempts: 0 }
    }

    /// Weights of a stage's position in the current attempt.
    pub(crate) fn position(&self, stage: usize) -> Weights {
        DOPRI5[stage].map(|w| self.step * w)
    }

    /// Weights of the current attempt's error.
    pub(crate) fn error(&self) -> Weights {
        ERROR.map(|w| self.step * w)
    }

    /// Judges an attempt by its error: the root mean square over all parameters, in units of the tolerance.
    pub(crate) fn judge(&mut self, error: f64) -> Verdict {
        self.attempts += 1;
        if !error.is_finite() || self.attempts > MOST_ATTEMPTS || self.time + self.step <= self.time {
            return Verdict::Failed;
        }
        let (start, step) = (self.time, self.step);
        let least = if error < 1.0 { 1.0 } else { 0.2 };
        self.step *= if error == 0.0 { 10.0 } else { (0.9 / error.powf(0.2)).max(least).min(10.0) };
        if error > 1.0 {
            return Verdict::Again;
        }
        self.time = start + step;
        if self.time < self.horizon {
            return Verdict::Onward(DOPRI5[5].map(|w| step * w));
        }
        Verdict::Arrived(within(step, (self.horizon - start) / step))
    }
}

/// The first guess at a step, from the norms of the position and of its derivative.
pub(crate) fn first_step(position: f64, derivative: f64) -> f64 {
    if position < 1e-5 || derivative < 1e-5 { 1e-6 } else { 0.01 * position / derivative }
}

/// The first step, from the first guess, the norm of the derivative and the norm of its change over the guess.
pub(crate) fn second_step(guess: f64, derivative: f64, change: f64) -> f64 {
    let change = change / guess;
    let step = if derivative <= 1e-15 && change <= 1e-15 {
        (guess * 1e-3).max(1e-6)
    } else {
        (0.01 / derivative.max(change)).powf(0.2)
    };
    step.min(100.0 * guess)
}

/// Weights of the displacement at the share `x` of a step: the quartic through both ends, their derivatives and the middle. All terms of
/// the quartic are derivatives, so that no positions cancel.
fn within(step: f64, x: f64) -> Weights {
    std::array::from_fn(|j| {
        let (first, last) = (f64::from(u8::from(j == 0)), f64::from(u8::from(j == 6)));
        let (end, middle) = (DOPRI5[5][j], MIDDLE[j]);
        let a = 2.0 * (last - first) - 8.0 * end + 16.0 * middle;
        let b = 5.0 * first - 3.0 * last + 14.0 * end - 32.0 * middle;
        let c = last - 4.0 * first - 5.0 * end + 16.0 * middle;
        step * x * (first + x * (c + x * (b + x * a)))
    })
}
