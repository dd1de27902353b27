//! Two spirals.

use super::data::{self, Keys};
use super::perceptron::Classification;
use crate::Result;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::random;
use crate::tools::objectives::{Activation, Mlp, Samples, Split};
use std::path::Path;

settings! {
    /// Two spirals that wind around each other, told apart by a perceptron (FlowAdam, arXiv 2604.06652, section on ablations).
    ///
    /// A point of the first arm is (-n cos n + a, n sin n + b) with n = √u · `degrees`·2π/360, u of U(0, 1), a and b of
    /// U(0, `noise`); the second arm is the first negated. Both coordinates are standardised. The perceptron has three hidden
    /// layers of tanh units and one sigmoid; the loss is binary cross-entropy. Validation and test are fresh points, as many each.
    Spirals = "spirals",
    /// Points of each arm. Default 1000, the authors'.
    points: usize = 1000, COUNT;
    /// The angle by which an arm turns, in degrees. Default 1200, the authors'.
    degrees: f64 = 1200.0, NOT_NEGATIVE;
    /// The range of the noise. Default 0.1, the authors'.
    noise: f64 = 0.1, NOT_NEGATIVE;
    /// Units of each of the three hidden layers. Default 24, the authors'.
    hidden: usize = 24, COUNT;
    /// Rows per mini-batch; 0: all of them. Default 0, the authors'.
    batch: usize = 0, COUNT_OR_NONE;
    /// The seed of the points and of the order of the rows. Default 0.
    seed: u64 = 0, SEED;
}

impl Recipe for Spirals {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::at_most("spirals", "points", self.points, 30_000)?;
        let keys = Keys::new(self.seed);
        let [train, validation, test] = [0, 1, 2].map(|which| self.points(keys.of(which)));
        let norms = [0, 1].map(|axis| mean_and_deviation(train.iter().map(|p| p[axis])));
        let samples = |points: &[[f64; 2]]| {
            let scaled = |p: &[f64; 2]| [0, 1].map(|axis| ((p[axis] - norms[axis].0) / norms[axis].1) as f32);
            let labels = (0..points.len()).map(|at| u32::from(at >= self.points)).collect();
            Samples::new(2, 2, points.iter().flat_map(scaled).collect(), labels)
        };
        let widths = vec![2, self.hidden, self.hidden, self.hidden, 1];
        let spec = Mlp { widths, activation: Activation::Tanh, bits: None };
        let split = Split::new(samples(&train)?, samples(&validation)?)?;
        let batch = if self.batch == 0 { 2 * self.points } else { self.batch };
        Classification::boxed("spirals", spec, split, samples(&test)?, (batch, self.seed))
    }
}

impl Spirals {
    /// The first arm's points, then the second's.
    fn points(&self, key: u32) -> Vec<[f64; 2]> {
        let arm = |at: u32| {
            let unit = |which| f64::from(random::unit(key, 3 * at + which));
            let n = unit(0).sqrt() * self.degrees.to_radians();
            [-n.cos() * n + self.noise * unit(1), n.sin() * n + self.noise * unit(2)]
        };
        let points = self.points as u32;
        let second = (points..2 * points).map(arm).map(|p| p.map(|x| -x));
        (0..points).map(arm).chain(second).collect()
    }
}

fn mean_and_deviation(values: impl ExactSizeIterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    // Equal points are not scaled: their standard deviation is 0.
    (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })
}
