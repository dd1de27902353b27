//! Inverse kinematics of a planar arm.

use super::data;
use crate::Result;
use crate::optim::rule::Real;
use crate::optim::rule::settings::settings;
use crate::tools::objectives::full_batch::{FullBatch, Terms};
use crate::tools::objectives::normal::normal_tensors;
use crate::tools::objectives::problem::{Problem, Recipe};
use crate::tools::objectives::staged::{Frame, Use, When, join};
use crate::tools::objectives::{Measure, TensorSpec, check};
use std::path::Path;

settings! {
    /// A planar arm that follows a half circle (FlowAdam, arXiv 2604.06652, table V).
    ///
    /// Every joint turns relative to the joint before it, and every link has length 1. At waypoint k the arm's tip shall be at the k-th of
    /// evenly spaced targets on a half circle of radius `reach`·`joints`. The loss is Σ_k ‖tip(θ_k) - target_k‖² +
    /// `smoothness`·Σ_k ‖θ_k+1 - θ_k‖²; test is the root of the mean squared distance to the targets.
    Kinematics = "kinematics",
    /// Joints and links. Default 8, the authors'.
    joints: usize = 8, COUNT;
    /// Waypoints. Default 10, the authors'.
    waypoints: usize = 10, COUNT;
    /// The circle's radius as a share of the arm's length. Default 0.6, the authors'.
    reach: f64 = 0.6, NOT_NEGATIVE;
    /// The weight of the turns between waypoints. Default 1, the authors'.
    smoothness: f64 = 1.0, NOT_NEGATIVE;
    /// The angles' initial standard deviation. Default 0.5, the authors'.
    init: f64 = 0.5, NOT_NEGATIVE;
    /// The weight of ‖θ‖² in the loss. Default 0; the authors' FlowAdam runs have 1e-5.
    l2: f64 = 0.0, NOT_NEGATIVE;
}

impl Recipe for Kinematics {
    fn build(&self, _: Option<&Path>) -> Result<Box<dyn Problem>> {
        data::cells("kinematics", &[self.waypoints, self.joints])?;
        let radius = self.reach * self.joints as f64;
        let turn = |k: usize| std::f64::consts::PI * k as f64 / self.waypoints.saturating_sub(1).max(1) as f64;
        let target = |k| [(radius * turn(k).cos()) as f32, (radius * turn(k).sin()) as f32];
        let shape = vec![self.waypoints, self.joints];
        Ok(Box::new(Arm {
            tensors: vec![TensorSpec { name: "angles".to_owned(), shape }],
            targets: (0..self.waypoints).map(target).collect(),
            settings: *self,
        }))
    }
}

const KINEMATICS: &str = include_str!("../../../../shaders/objectives/kinematics.wgsl");
const SINCOS: &str = include_str!("../../../../shaders/objectives/sincos.wgsl");

pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![("kinematics", join(&[KINEMATICS, SINCOS]))]
}

struct Arm {
    tensors: Vec<TensorSpec>,
    targets: Vec<[f32; 2]>,
    settings: Kinematics,
}

impl FullBatch for Arm {
    fn name(&self) -> &'static str {
        "kinematics"
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        normal_tensors(&self.tensors, self.settings.init, seed)
    }

    fn l2(&self) -> f64 {
        self.settings.l2
    }

    fn terms<F: Real>(&self) -> impl Terms<F> + Send + 'static {
        Follow {
            joints: self.settings.joints,
            smoothness: F::from_f64(self.settings.smoothness),
            targets: self.targets.iter().map(|t| t.map(|x| F::from_f64(f64::from(x)))).collect(),
        }
    }

    fn term_count(&self) -> usize {
        self.settings.waypoints
    }

    fn record(&self, frame: &mut Frame<'_>) -> Result<()> {
        let Kinematics { joints, waypoints, smoothness, .. } = self.settings;
        check::loops("joints that a thread walks thrice", 3 * joints)?;
        let (point, slope, terms) = (frame.point.clone(), frame.slope.clone(), frame.terms.clone());
        let targets = frame.data("targets", self.targets.as_flattened())?;
        let uses = [Use::Read(&point), Use::Read(&targets), Use::Write(&slope), Use::Write(&terms)];
        let words = [joints as u32, waypoints as u32, (smoothness as f32).to_bits()];
        frame.stage(When::Always, ("kinematics", &join(&[KINEMATICS, SINCOS])), &words, &uses, waypoints)
    }

    fn measure(&self) -> Option<Measure> {
        Some(Measure::RMSE)
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        let off = |(angles, target): (&[f32], &[f32; 2])| {
            let angles: Vec<f64> = angles.iter().map(|a| f64::from(*a)).collect();
            let tip = tip(&angles);
            (tip[0] - f64::from(target[0])).powi(2) + (tip[1] - f64::from(target[1])).powi(2)
        };
        let squares: f64 = params[0].chunks_exact(self.settings.joints).zip(&self.targets).map(off).sum();
        Some((squares / self.targets.len() as f64).sqrt())
    }
}

/// The end of the arm.
fn tip<F: Real>(angles: &[F]) -> [F; 2] {
    let mut turned = F::zero();
    angles.iter().fold([F::zero(); 2], |tip, angle| {
        turned = turned + *angle;
        [tip[0] + turned.cos(), tip[1] + turned.sin()]
    })
}

/// The host's form in one float type.
struct Follow<F> {
    joints: usize,
    smoothness: F,
    targets: Vec<[F; 2]>,
}

impl<F: Real> Follow<F> {
    /// The slope of a waypoint's distance: each joint moves all links behind it, so the loop walks from the tip.
    fn turn(&self, angles: &[F], off: [F; 2], grad: &mut [F]) {
        let mut turned = angles.iter().fold(F::zero(), |sum, angle| sum + *angle);
        let mut arm = [F::zero(); 2];
        for (grad, angle) in grad.iter_mut().zip(angles).rev() {
            arm = [arm[0] + turned.cos(), arm[1] + turned.sin()];
            let along = off[1] * arm[0] - off[0] * arm[1];
            *grad = along + along;
            turned = turned - *angle;
        }
    }

    /// The smoothness of two waypoints, and its slopes.
    fn smooth(&self, angles: &[F], next: &[F], mut grads: Option<(&mut [F], &mut [F])>) -> F {
        let mut sum = F::zero();
        for (at, (a, b)) in angles.iter().zip(next).enumerate() {
            let turn = *b - *a;
            sum = sum + turn * turn;
            if let Some((grad, next)) = &mut grads {
                let slope = self.smoothness * (turn + turn);
                grad[at] = grad[at] - slope;
                next[at] = next[at] + slope;
            }
        }
        self.smoothness * sum
    }
}

impl<F: Real> Terms<F> for Follow<F> {
    fn rows(&self) -> usize {
        self.targets.len()
    }

    fn evaluate(&mut self, params: &[&[F]], grads: Option<&mut [&mut [F]]>) -> f64 {
        let mut grad = grads.map(|grads| &mut *grads[0]);
        let waypoints: Vec<&[F]> = params[0].chunks_exact(self.joints).collect();
        let mut loss = 0.0;
        for (k, (angles, target)) in waypoints.iter().zip(&self.targets).enumerate() {
            let tip = tip(angles);
            let off = [tip[0] - target[0], tip[1] - target[1]];
            loss += (off[0] * off[0] + off[1] * off[1]).to_f64();
            if let Some(grad) = &mut grad {
                self.turn(angles, off, &mut grad[k * self.joints..][..self.joints]);
            }
        }
        for (k, pair) in waypoints.windows(2).enumerate() {
            let grads = grad.as_mut().map(|grad| grad[k * self.joints..][..2 * self.joints].split_at_mut(self.joints));
            loss += self.smooth(pair[0], pair[1], grads).to_f64();
        }
        loss
    }
}
