//! A run on the host, in f32 on the fast path or in f64 on the oracle.

use super::super::controls::{Treatment, random_damping};
use super::super::heat::Track;
use super::super::schedule::{rate, setting};
use super::{Advance, Course, Run};
use crate::cpu::{Number, Optimizer, TensorSpec};
use crate::objective::{CpuObjective, Problem};
use crate::optim::Rule;
use crate::{Error, Evaluation, Evaluations, Result, Schedule};

pub(super) struct Host<'a, F> {
    run: &'a Run<'a>,
    objective: Box<dyn CpuObjective<F> + Send>,
    optimizer: Optimizer<F>,
    params: Vec<Vec<F>>,
    grads: Vec<Vec<F>>,
    /// Batches behind, over all epochs.
    batch: usize,
}

impl<'a, F: Objective> Host<'a, F> {
    pub(super) fn new(run: &'a Run<'a>, problem: &dyn Problem) -> Result<Self> {
        let params = Track::initial(problem, run.seed);
        Ok(Self {
            run,
            objective: F::objective(problem)?,
            optimizer: optimizer(run, problem)?,
            grads: params.iter().map(|p| vec![F::zero(); p.len()]).collect(),
            params: params.iter().map(|p| p.iter().map(|x| F::of(f64::from(*x))).collect()).collect(),
            batch: 0,
        })
    }

    /// One step on the next mini-batch.
    fn step(&mut self) -> Result<Advance> {
        let batches = self.objective.batches();
        let batch = self.batch % batches;
        if batch == 0 {
            self.objective.set_epoch((self.batch / batches) as u32);
        }
        self.batch += 1;
        let before = (self.run.entrant.treatment == Treatment::Stay).then(|| self.params.clone());
        let (loss, evaluations) = self.evaluated_step(batch)?;
        let seen = Seen::of(&self.optimizer);
        if let (Some(before), Some(true)) = (before, seen.triggered) {
            self.params = before;
        }
        Ok(Advance {
            steps: 1,
            gradients: evaluations.gradients,
            losses: evaluations.losses,
            loss,
            triggers: seen.triggered.map(u64::from),
            damping: seen.damping,
        })
    }

    /// The loss at the step's start, or a number that is not finite where an evaluation gave one, and how often it was evaluated.
    fn evaluated_step(&mut self, batch: usize) -> Result<(f64, Evaluations)> {
        let Self { objective, optimizer, params, grads, .. } = self;
        let (mut first, mut astray) = (None, None);
        let before = optimizer.evaluations();
        let stepped = optimizer.step_with(&mut slices_mut(params), &mut slices_mut(grads), |evaluation, params, grads| {
            let loss = match evaluation {
                Evaluation::Gradient => objective.gradient(params, batch, grads)?.loss,
                Evaluation::Loss(_) => objective.loss(params, batch)?.loss,
            };
            first.get_or_insert(loss);
            astray = astray.or((!loss.is_finite()).then_some(loss));
            Ok(loss)
        });
        let after = optimizer.evaluations();
        let evaluations = Evaluations {
            gradients: after.gradients - before.gradients,
            losses: after.losses - before.losses,
        };
        match (astray, first) {
            // What the optimizer says of it is the run's end, not the race's.
            (Some(astray), _) => Ok((astray, evaluations)),
            (None, first) => stepped.map(|()| (first.unwrap_or(f64::NAN), evaluations)),
        }
    }
}

impl<F: Objective> Course for Host<'_, F> {
    fn advance(&mut self, _: u64) -> Result<Advance> {
        self.step()
    }

    fn loss(&mut self) -> Result<f64> {
        let params = slices(&self.params);
        let (mut sum, mut rows) = (0.0, 0.0);
        for batch in 0..self.objective.batches() {
            let outcome = self.objective.loss(&params, batch)?;
            let weight = f64::from(outcome.rows.max(1));
            sum += weight * outcome.loss;
            rows += weight;
        }
        Ok(sum / rows)
    }

    fn params(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(self.params.iter().map(|p| p.iter().map(|x| x.wide() as f32).collect()).collect())
    }
}

/// The number types of the host's objectives.
pub(super) trait Objective: Number {
    fn objective(problem: &dyn Problem) -> Result<Box<dyn CpuObjective<Self> + Send>>;
}

impl Objective for f32 {
    fn objective(problem: &dyn Problem) -> Result<Box<dyn CpuObjective<Self> + Send>> {
        problem.cpu_f32()
    }
}

impl Objective for f64 {
    fn objective(problem: &dyn Problem) -> Result<Box<dyn CpuObjective<Self> + Send>> {
        problem.cpu_f64()
    }
}

/// What the last step decided.
struct Seen {
    triggered: Option<bool>,
    damping: Option<f64>,
}

impl Seen {
    fn of<F: Number>(optimizer: &Optimizer<F>) -> Self {
        let decision = |name| optimizer.decision(0, name).map(F::wide);
        // VRAdam decides a rate, S-Adam a factor.
        let factor = || Some(decision("eta")? / rate(optimizer.rule(0))?);
        Self { triggered: decision("flow").map(|flow| flow != 0.0), damping: decision("damp").or_else(factor) }
    }
}

fn optimizer<F: Objective>(run: &Run<'_>, problem: &dyn Problem) -> Result<Optimizer<F>> {
    let spec = |t: &crate::objective::TensorSpec| TensorSpec { name: t.name.clone(), group: 0, elements: t.elements() };
    let tensors = problem.tensors().iter().map(spec).collect();
    let mut optimizer = Optimizer::<F>::new(vec![("default".to_owned(), run.rule.clone())], tensors)?;
    match run.entrant.treatment {
        Treatment::None | Treatment::Stay => {}
        Treatment::RandomDamping { probes, lambda } => {
            for (setting, schedule) in random_schedules(run.rule.as_ref(), probes, lambda, run.seed)? {
                optimizer.schedule_setting(0, setting, schedule)?;
            }
        }
    }
    Ok(optimizer)
}

/// Schedules that damp the rate at random and leave the strength of a decoupled decay.
fn random_schedules(rule: &dyn Rule, probes: u32, lambda: f64, seed: u64) -> Result<Vec<(&'static str, Schedule)>> {
    let lr =
        rate(rule).ok_or_else(|| Error::Usage(format!("{}: random damping needs a learning rate", rule.name())))?;
    let damping = move |t| random_damping(probes, lambda, seed, t);
    let mut schedules = vec![("lr", Schedule::custom(move |t| lr * damping(t)))];
    if let Some(decay) = setting(rule, "weight_decay") {
        schedules.push(("weight_decay", Schedule::custom(move |t| decay / damping(t))));
    }
    Ok(schedules)
}

fn slices<F>(tensors: &[Vec<F>]) -> Vec<&[F]> {
    tensors.iter().map(Vec::as_slice).collect()
}

fn slices_mut<F>(tensors: &mut [Vec<F>]) -> Vec<&mut [F]> {
    tensors.iter_mut().map(Vec::as_mut_slice).collect()
}
