//! Probes: the loss along random directions, as `shaders/procedures/probe.wgsl` on the GPU.

use crate::cpu::number::Number;
use crate::cpu::objective::Evaluate;
use crate::cpu::part::Part;
use crate::cpu::tensor::TensorState;
use crate::optim::Scalar;
use crate::optim::procedure::evaluation::EvalRequest;
use crate::optim::procedure::{Directions, Probe, Shared};
use crate::options::random::{self, Stream};
use crate::options::schedule::scalars_at;
use crate::{Error, Result};

/// The number that S-Adam's authors add to the norm of a direction before they divide by it.
const NORM_EPS: f64 = 1e-12;

/// The results of the last probes, and the directions of the next probes.
#[derive(Debug)]
pub(crate) struct Probes<F> {
    /// The slopes of the last probes; zeros before the first probes, empty for rules that do not probe.
    pub(crate) slopes: Vec<F>,
    /// The losses of the last probes: at the parameters, then at each probe.
    losses: Vec<f64>,
    /// Whether probes were made, or the caller gave their losses.
    pub(crate) probed: bool,
    /// The directions that the caller gave: per probe, per tensor, per element.
    pub(crate) given: Option<Vec<Vec<Vec<F>>>>,
}

impl<F: Number> Probes<F> {
    pub(crate) fn new(procedure: &Shared) -> Self {
        let losses = procedure.as_ref().map_or(0, |procedure| procedure.losses());
        let count = losses.saturating_sub(1);
        Self { slopes: vec![F::zero(); count], losses: vec![0.0; losses], probed: false, given: None }
    }
}

impl<F: Number> Part<F> {
    /// Sets the directions of the next steps' probes: for each probe, one number per element of each tensor.
    pub(crate) fn set_directions(&mut self, directions: Option<Vec<Vec<Vec<F>>>>) -> Result<()> {
        let Some(directions) = directions else {
            self.probes.given = None;
            return Ok(());
        };
        let probes = self.probes.slopes.len();
        if probes == 0 || directions.len() != probes {
            return Err(Error::Usage(format!("{} directions were given, the rule probes {probes}", directions.len())));
        }
        for direction in &directions {
            self.check_count("tensors of a direction", direction.len())?;
            for (t, part) in direction.iter().enumerate() {
                self.check_length(t, "direction", part.len())?;
            }
        }
        self.probes.given = Some(directions);
        Ok(())
    }

    /// Sets the losses of probes, for callers that evaluate them on their own: first the loss at the parameters.
    pub(crate) fn set_losses(&mut self, losses: &[f64]) -> Result<()> {
        let probes = self.probes.slopes.len();
        if probes == 0 || losses.len() != probes + 1 {
            return Err(Error::Usage(format!(
                "{} losses were given, the rule probes {probes} directions",
                losses.len()
            )));
        }
        let sigma = self.sigma()?;
        self.probes.losses.copy_from_slice(losses);
        for (slope, loss) in self.probes.slopes.iter_mut().zip(&losses[1..]) {
            *slope = F::from_f64((loss - losses[0]) / sigma);
        }
        self.probes.probed = true;
        Ok(())
    }

    /// The losses of the last probes, first the loss at the parameters.
    pub(crate) fn losses(&self) -> &[f64] {
        &self.probes.losses
    }

    /// Probes the loss around the parameters, and restores the parameters.
    pub(crate) fn probe(
        &mut self,
        probe: Probe,
        loss: f64,
        params: &mut [&mut [F]],
        grads: &mut [&mut [F]],
        evaluate: &mut dyn Evaluate<F>,
    ) -> Result<()> {
        let sigma = self.sigma()?;
        let mut losses = vec![loss];
        let base: Vec<Vec<F>> = params.iter().map(|p| p.to_vec()).collect();
        for j in 0..probe.count {
            for ((p, base), u) in params.iter_mut().zip(&base).zip(self.direction(probe, j)) {
                for ((p, base), u) in p.iter_mut().zip(base).zip(u) {
                    *p = *base + F::from_f64(sigma) * u;
                }
            }
            let evaluated = evaluate(EvalRequest::Loss(j + 1), params, grads);
            for (p, base) in params.iter_mut().zip(&base) {
                p.copy_from_slice(base);
            }
            losses.push(evaluated?);
        }
        if let Some(j) = losses.iter().position(|loss| !loss.is_finite()) {
            let problem = format!("the loss of slot {j} is {}: nothing was changed", losses[j]);
            return Err(Error::Usage(problem));
        }
        self.set_losses(&losses)
    }

    /// The sigma of the first group. The builder checks that all groups have the same sigma.
    fn sigma(&self) -> Result<f64> {
        let group = &self.spec.groups[0];
        let scalars = scalars_at(group.rule.as_ref(), &group.scheduled, &group.name, self.step_count + 1)?;
        Ok(scalars.iter().find(|s| s.name == "sigma").map_or(0.0, Scalar::value))
    }

    /// The direction of a probe, per tensor.
    fn direction(&self, probe: Probe, j: usize) -> Vec<Vec<F>> {
        let mut direction = match &self.probes.given {
            Some(given) => {
                given[j].iter().zip(&self.tensors).map(|(part, tensor)| tensor.live(part).to_vec()).collect()
            }
            None => self.random_direction(j),
        };
        // A row that the step leaves as it is takes no part in a probe either.
        direction.iter_mut().enumerate().for_each(|(t, u)| self.rows.clear_unflagged(t, u));
        let squares: Vec<f64> = direction.iter().map(|u| u.iter().map(|u| u.to_f64() * u.to_f64()).sum()).collect();
        let all: f64 = squares.iter().sum();
        for (u, square) in direction.iter_mut().zip(squares) {
            let square = if probe.directions == Directions::Global { all } else { square };
            let norm = F::from_f64(square.sqrt() + NORM_EPS);
            u.iter_mut().for_each(|u| *u = *u / norm);
        }
        direction
    }

    fn random_direction(&self, j: usize) -> Vec<Vec<F>> {
        let key = random::key(self.spec.seed, Stream::Probe);
        let key = random::draw(random::draw(key, self.step_count as u32), j as u32);
        let tensor = |(t, tensor): (usize, &TensorState<F>)| {
            let mut numbers = vec![0.0; tensor.spec.elements];
            random::fill_normals(random::draw(key, t as u32), &mut numbers);
            numbers.into_iter().map(|x| F::from_f64(f64::from(x))).collect()
        };
        self.tensors.iter().enumerate().map(tensor).collect()
    }
}
