//! The rotated stiff quadratic.

use super::data::{self, Keys};
use crate::Result;
use crate::optim::rule::Real;
use crate::optim::rule::settings::{choice, settings};
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::staged::Frame;
use crate::tools::objectives::{TensorSpec, linear, random};
use std::path::Path;

choice! {
    /// The spectrum of a quadratic's curvatures.
    Spectrum {
        /// The first `stiff` are `condition`, the others 1: the same for every seed.
        Stiff = "stiff",
        /// The same numbers, in an order drawn from the seed.
        Shuffled = "shuffled",
        /// Drawn from the seed, uniform in their logarithm between 1 and `condition`.
        Spread = "spread",
    }
}

settings! {
    /// A quadratic with rotated axes: ½ (θ - θ*)ᵀ H (θ - θ*) with H = Qᵀ diag(λ) Q (FlowAdam, arXiv 2604.06652).
    ///
    /// Q is the orthonormal basis of a normal matrix drawn from `rotation`; λ and θ* come from `seed`. One `rotation` with several
    /// seeds is a family of tasks that share their axes. The authors' value of the factor before H is not known.
    Quadratic = "quadratic",
    /// Dimensions, at most 1024. Default 50, the authors'.
    size: usize = 50, COUNT;
    /// The largest curvature; the smallest is 1. Default 2000, the authors'.
    condition: f64 = 2000.0, NOT_NEGATIVE;
    /// The number of axes with the largest curvature. Default 2, the authors'.
    stiff: usize = 2, COUNT_OR_NONE;
    /// The spectrum of the curvatures. Default stiff, the authors'.
    spectrum: Spectrum = Spectrum::Stiff;
    /// The standard deviation of θ*. Default 0, the authors'.
    target: f64 = 0.0, NOT_NEGATIVE;
    /// The standard deviation of the initial values. Default 2, the authors'.
    init: f64 = 2.0, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0.
    l2: f64 = 0.0, NOT_NEGATIVE;
    /// The seed of Q. Default 42, the authors' (with another generator).
    rotation: u64 = 42, SEED;
    /// The seed of λ and θ*. Default 0.
    seed: u64 = 0, SEED;
}

const LARGEST: usize = 1024;

impl Recipe for Quadratic {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::at_most("quadratic", "size", self.size, LARGEST)?;
        data::at_most("quadratic", "stiff", self.stiff, self.size)?;
        let keys = Keys::new(self.seed);
        let rotation = data::rotation(Keys::new(self.rotation).of(0), self.size);
        let matrix: Vec<f32> = rotation.iter().map(|x| *x as f32).collect();
        let target: Vec<f64> = (0..self.size as u32).map(|i| self.target * random::normal(keys.of(0), i)).collect();
        let project = |axis: &[f32]| axis.iter().zip(&target).map(|(a, x)| f64::from(*a) * x).sum::<f64>() as f32;
        let targets = matrix.chunks_exact(self.size).map(project).collect();
        let weights = self.curvatures(keys.of(1)).into_iter().map(|c| (0.5 * c) as f32).collect();
        let tensors = vec![TensorSpec { name: "theta".to_owned(), shape: vec![self.size] }];
        let rows = linear::Rows { matrix, targets, weights };
        Ok(Box::new(Rotated { tensors, rows, l2: self.l2, init: self.init }))
    }
}

impl Quadratic {
    fn curvatures(&self, key: u32) -> Vec<f64> {
        let count = self.size as u32;
        let stiff = |place: u32| if (place as usize) < self.stiff { self.condition } else { 1.0 };
        let curvature = |axis| match self.spectrum {
            Spectrum::Stiff => stiff(axis),
            Spectrum::Shuffled => stiff(random::place(axis, count, key)),
            Spectrum::Spread => self.condition.powf(f64::from(random::unit(key, axis))),
        };
        (0..count).map(curvature).collect()
    }
}

struct Rotated {
    tensors: Vec<TensorSpec>,
    rows: linear::Rows,
    l2: f64,
    init: f64,
}

impl FullBatch for Rotated {
    fn name(&self) -> &'static str {
        "quadratic"
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        normal_tensors(&self.tensors, self.init, seed)
    }

    fn l2(&self) -> f64 {
        self.l2
    }

    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static {
        Axes(linear::Host::new(&self.rows))
    }

    fn term_count(&self) -> usize {
        self.rows.count()
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let (point, slope) = (frame.point.clone(), frame.slope.clone());
        linear::record(frame, &self.rows, &point, &slope)
    }
}

/// The host's form in one float type.
struct Axes<F>(linear::Host<F>);

impl<F: Real> Terms<F> for Axes<F> {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        self.0.evaluate(params[0], grads.map(|grads| &mut *grads[0]))
    }
}
