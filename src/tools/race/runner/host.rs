//! A run on the host, in f32 on the fast path or in f64 on the oracle.

use crate::cpu::{Number, Optimizer};
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::Group;
use crate::optim::{Rule, Value};
use crate::tools::objectives::{CpuObjective, Problem};
use crate::tools::race::controls::Treatment;
use crate::tools::race::heat::Track;
use crate::tools::race::rates::rate;
use crate::tools::race::runner::damping::random_schedules;
use crate::tools::race::runner::run::{Advance, Course, Run};
use crate::{EvalRequest, Evaluations, Result, Tensor};

/// The first of the seeds that no race uses.
const UNSEEN: u64 = 1_000_000_000;

pub(super) struct Host<'a, F> {
    run: &'a Run<'a>,
    objective: Box<dyn CpuObjective<F> + Send>,
    optimizer: Optimizer<F>,
    params: Vec<Vec<F>>,
    grads: Vec<Vec<F>>,
    /// The number of batches so far, over all epochs.
    batch: usize,
}

impl<'a, F: Objective> Host<'a, F> {
    /// The start of a run, with its treatment.
    pub(super) fn new(run: &'a Run<'a>, problem: &dyn Problem) -> Result<Self> {
        match run.entrant.treatment {
            Treatment::None | Treatment::Stay => Self::untreated(run, problem, run.rule.clone(), run.seed),
            Treatment::RandomDamping { probes, lambda } => {
                let mut builder = run.builder(problem, run.rule.clone());
                for (setting, schedule) in random_schedules(run.rule.as_ref(), probes, lambda, run.seed)? {
                    builder.schedule_setting(Group::DEFAULT, setting, schedule);
                }
                Self::started(run, problem, &builder, run.seed)
            }
            Treatment::LearnedWarp { tasks } => {
                let matrices = learn(run, tasks)?;
                let mut frozen = run.rule.clone();
                frozen.set("warp", &Value::Word("frozen".to_owned()))?;
                let mut host = Self::untreated(run, problem, frozen, run.seed)?;
                host.set_matrices(&matrices)?;
                Ok(host)
            }
        }
    }

    fn untreated(run: &'a Run<'a>, problem: &dyn Problem, rule: Box<dyn Rule>, seed: u64) -> Result<Self> {
        Self::started(run, problem, &run.builder(problem, rule), seed)
    }

    fn started(run: &'a Run<'a>, problem: &dyn Problem, builder: &Builder, seed: u64) -> Result<Self> {
        let mut optimizer = builder.build_cpu()?;
        let params = Track::initial(problem, seed);
        let mut params: Vec<Vec<F>> =
            params.iter().map(|p| p.iter().map(|x| F::from_f64(f64::from(*x))).collect()).collect();
        optimizer.store_params(&mut slices_mut(&mut params))?;
        Ok(Self {
            run,
            objective: F::objective(problem)?,
            optimizer,
            grads: params.iter().map(|p| vec![F::zero(); p.len()]).collect(),
            params,
            batch: 0,
        })
    }

    fn set_matrices(&mut self, matrices: &[Vec<F>]) -> Result<()> {
        let tensors: Vec<Tensor> = self.optimizer.tensors().map(|(tensor, ..)| tensor).collect();
        tensors.into_iter().zip(matrices).try_for_each(|(tensor, rows)| self.optimizer.set_warp(tensor, rows))
    }

    /// Takes one step on the next mini-batch.
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

    /// Takes a step, and returns the loss before it with the number of evaluations. If an evaluation gave a loss that is not finite, the
    /// method returns that loss.
    fn evaluated_step(&mut self, batch: usize) -> Result<(f64, Evaluations)> {
        let Self { objective, optimizer, params, grads, .. } = self;
        let (mut first, mut diverged) = (None, None);
        let before = optimizer.evaluations();
        let stepped =
            optimizer.step_with(&mut slices_mut(params), &mut slices_mut(grads), |evaluation, params, grads| {
                let loss = match evaluation {
                    EvalRequest::Gradient => objective.gradient(params, batch, grads)?.loss,
                    EvalRequest::Loss(_) => objective.loss(params, batch)?.loss,
                };
                first.get_or_insert(loss);
                diverged = diverged.or((!loss.is_finite()).then_some(loss));
                Ok(loss)
            });
        let evaluations = optimizer.evaluations().since(before);
        match (diverged, first) {
            // The optimizer may report an error for this loss. It ends the run, not the race.
            (Some(diverged), _) => Ok((diverged, evaluations)),
            (None, first) => stepped.map(|()| (first.unwrap_or(f64::NAN), evaluations)),
        }
    }
}

impl<F: Objective> Course for Host<'_, F> {
    async fn advance(&mut self, _: u64) -> Result<Advance> {
        self.step()
    }

    async fn loss(&mut self) -> Result<f64> {
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

    async fn params(&mut self) -> Result<Vec<Vec<f32>>> {
        Ok(self.params.iter().map(|p| p.iter().map(|x| x.to_f64() as f32).collect()).collect())
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

/// The decisions of the last step.
struct Seen {
    triggered: Option<bool>,
    damping: Option<f64>,
}

impl Seen {
    fn of<F: Number>(optimizer: &Optimizer<F>) -> Self {
        let first = optimizer.spec.tensor_handle(0);
        let decision = |name| optimizer.decision(first, name).ok().flatten().map(F::to_f64);
        // VRAdam decides on a rate, S-Adam on a factor.
        let factor = || Some(decision("eta")? / rate(optimizer.spec.rule())?);
        Self { triggered: decision("flow").map(|flow| flow != 0.0), damping: decision("damp").or_else(factor) }
    }
}

/// WarpAdam's matrices after learning on other seeds of the run's problem. They are the same for every run of the entrant.
fn learn<F: Objective>(run: &Run<'_>, tasks: u32) -> Result<Vec<Vec<F>>> {
    let mut matrices = Vec::new();
    for seed in (UNSEEN..).take(tasks as usize) {
        let problem = run.problem(seed)?;
        let mut host = Host::<F>::untreated(run, problem.as_ref(), run.rule.clone(), seed)?;
        host.set_matrices(&matrices)?;
        for _ in 0..run.heat.steps {
            host.step()?;
        }
        matrices = host.optimizer.tensors().map(|(tensor, ..)| host.optimizer.warp(tensor)).collect::<Result<_>>()?;
    }
    Ok(matrices)
}

fn slices<F>(tensors: &[Vec<F>]) -> Vec<&[F]> {
    tensors.iter().map(Vec::as_slice).collect()
}

fn slices_mut<F>(tensors: &mut [Vec<F>]) -> Vec<&mut [F]> {
    tensors.iter_mut().map(Vec::as_mut_slice).collect()
}
