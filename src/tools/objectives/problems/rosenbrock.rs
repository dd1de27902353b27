//! Rosenbrock's valley, smooth and with kinks.

use crate::Result;
use crate::optim::rule::Real;
use crate::optim::rule::settings::{choice, settings};
use crate::tools::objectives::TensorSpec;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::staged::{Frame, Use, When, join};
use crate::tools::objectives::vector::sign;
use std::path::Path;

choice! {
    /// The valley's form.
    Valley {
        /// (1 - x)² + 100 (y - x²)²
        Smooth = "smooth",
        /// |1 - x| + 10 |y - x²|; its slope at a kink is taken as 0.
        Kinked = "kinked",
    }
}

settings! {
    /// Rosenbrock's valley with the lowest point (1, 1): smooth as in FlowAdam's paper (arXiv 2604.06652), kinked as in S-Adam's
    /// (arXiv 2605.29547). With more than two dimensions the terms of all neighbours are added.
    ///
    /// Initial values are (`x`, `y`, `x`, `y`, …), moved by `spread`·N(0, 1).
    Rosenbrock = "rosenbrock",
    /// Dimensions, at least 2. Default 2, the papers'.
    size: usize = 2, COUNT;
    /// The valley's form. Default smooth.
    form: Valley = Valley::Smooth;
    /// The first coordinate of the start. Default -1.5, both papers'.
    x: f64 = -1.5, ANY;
    /// The second coordinate of the start. Default 1.5, FlowAdam's; S-Adam's is 2.
    y: f64 = 1.5, ANY;
    /// The standard deviation by which a seed moves the start. Default 0: every seed starts at the papers' point.
    spread: f64 = 0.0, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0.
    l2: f64 = 0.0, NOT_NEGATIVE;
}

impl Recipe for Rosenbrock {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        super::data::at_least("rosenbrock", "size", self.size, 2)?;
        let tensors = vec![TensorSpec { name: "theta".to_owned(), shape: vec![self.size] }];
        Ok(Box::new(Chain { tensors, settings: *self }))
    }
}

struct Chain {
    tensors: Vec<TensorSpec>,
    settings: Rosenbrock,
}

const ROSENBROCK: &str = include_str!("../../../../shaders/objectives/rosenbrock.wgsl");
const SMOOTH: &str = include_str!("../../../../shaders/objectives/valley_smooth.wgsl");
const KINKED: &str = include_str!("../../../../shaders/objectives/valley_kinked.wgsl");

impl Valley {
    fn text(self) -> String {
        let own = match self {
            Self::Smooth => SMOOTH,
            Self::Kinked => KINKED,
        };
        join(&[ROSENBROCK, own])
    }
}

pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![("rosenbrock-smooth", Valley::Smooth.text()), ("rosenbrock-kinked", Valley::Kinked.text())]
}

impl FullBatch for Chain {
    fn name(&self) -> &'static str {
        "rosenbrock"
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        let Rosenbrock { x, y, spread, .. } = self.settings;
        let mut values = normal_tensors(&self.tensors, spread, seed);
        for (value, start) in values[0].iter_mut().zip([x, y].into_iter().cycle()) {
            *value += start as f32;
        }
        values
    }

    fn l2(&self) -> f64 {
        self.settings.l2
    }

    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static {
        Pairs { size: self.settings.size, form: self.settings.form }
    }

    fn term_count(&self) -> usize {
        self.settings.size
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let Rosenbrock { size, form, .. } = self.settings;
        let (point, slope, terms) = (frame.point.clone(), frame.slope.clone(), frame.terms.clone());
        let uses = [Use::Read(&point), Use::Write(&slope), Use::Write(&terms)];
        frame.stage(When::Always, ("rosenbrock", &form.text()), &[size as u32], &uses, size)
    }
}

/// The host's form.
struct Pairs {
    size: usize,
    form: Valley,
}

impl Valley {
    /// The term of two neighbours, and its slopes by them.
    fn pair<F: Real>(self, x: F, y: F) -> (F, F, F) {
        let (one, two, ten, hundred) = (F::one(), F::from_f64(2.0), F::from_f64(10.0), F::from_f64(100.0));
        let (left, up) = (one - x, y - x * x);
        match self {
            Self::Smooth => {
                let steep = two * hundred * up;
                (left * left + hundred * up * up, -two * left - steep * two * x, steep)
            }
            Self::Kinked => {
                let steep = ten * sign(up);
                (left.abs() + ten * up.abs(), -sign(left) - steep * two * x, steep)
            }
        }
    }
}

impl<F: Real> Terms<F> for Pairs {
    fn rows(&self) -> usize {
        self.size - 1
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        let mut grad = grads.map(|grads| &mut *grads[0]);
        if let Some(grad) = &mut grad {
            grad.fill(F::zero());
        }
        let mut loss = 0.0;
        for (at, pair) in params[0].windows(2).enumerate() {
            let (term, by_x, by_y) = self.form.pair(pair[0], pair[1]);
            loss += term.to_f64();
            if let Some(grad) = &mut grad {
                grad[at] = grad[at] + by_x;
                grad[at + 1] = by_y;
            }
        }
        loss
    }
}
