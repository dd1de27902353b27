//! Training on the host: in f32 on the fast path, in f64 on the oracle.

use std::ops::ControlFlow;

use crate::cpu::{Number, Optimizer};
use crate::io::checkpoint::Checkpoint;
use crate::tools::objectives::{CpuMlp, CpuObjective as _, Outcome, Part, Split};
use crate::tools::train::builder::builder;
use crate::tools::train::log::{Ended, Epoch, Log};
use crate::tools::train::plan::Plan;
use crate::tools::train::resume;
use crate::{EvalRequest, Result};

pub(super) fn run<F: Number>(
    plan: &Plan,
    split: &Split,
    mut log: Log<impl FnMut(&Epoch) -> ControlFlow<()>>,
) -> Result<Vec<Epoch>> {
    let mut run = Run::<F>::new(plan, split)?;
    for epoch in run.resume()?..plan.epochs {
        log.begin();
        let train = run.epoch(epoch)?;
        let ended = run.measure(train)?;
        // The caller's log comes before the checkpoint, so that the log has every epoch that the checkpoint has.
        let flow = log.end(plan, epoch, &ended);
        run.save(epoch + 1)?;
        if flow.is_break() {
            break;
        }
    }
    Ok(log.epochs)
}

struct Run<'a, F> {
    plan: &'a Plan,
    model: CpuMlp<F>,
    optimizer: Optimizer<F>,
    params: Vec<Vec<F>>,
    grads: Vec<Vec<F>>,
}

impl<'a, F: Number> Run<'a, F> {
    fn new(plan: &'a Plan, split: &Split) -> Result<Self> {
        let model = CpuMlp::<F>::new(&plan.mlp, split, plan.batch, plan.seed)?;
        let mut optimizer = builder(plan, model.tensors())?.build_cpu()?;
        let initial = plan.mlp.initial(plan.seed);
        let exact = |p: &Vec<f32>| p.iter().map(|x| F::from_f64(f64::from(*x))).collect();
        let mut params: Vec<Vec<F>> = initial.iter().map(exact).collect();
        optimizer.store_params(&mut slices_mut(&mut params))?;
        Ok(Self { plan, model, optimizer, params, grads: initial.iter().map(|p| vec![F::zero(); p.len()]).collect() })
    }

    /// Restores the end of an earlier run, and returns the number of completed epochs.
    fn resume(&mut self) -> Result<u32> {
        let Some((checkpoint, epochs)) = resume::load(self.plan)? else { return Ok(0) };
        checkpoint.restore_host_fitting(&mut self.optimizer, &mut slices_mut(&mut self.params), self.plan.fit())?;
        Ok(epochs)
    }

    fn epoch(&mut self, epoch: u32) -> Result<Vec<Outcome>> {
        self.model.set_epoch(epoch);
        let mut outcomes = Vec::with_capacity(self.model.batches());
        for batch in 0..self.model.batches() {
            outcomes.push(self.step(batch)?);
        }
        Ok(outcomes)
    }

    /// Takes one step, and returns the loss and hits of its mini-batch before the step.
    fn step(&mut self, batch: usize) -> Result<Outcome> {
        let Self { plan, model, optimizer, params, grads, .. } = self;
        let scale = plan.loss_scale.map(|_| F::from_f64(optimizer.loss_scale()));
        let mut before = None;
        optimizer.step_with(&mut slices_mut(params), &mut slices_mut(grads), |evaluation, params, grads| {
            if let EvalRequest::Loss(_) = evaluation {
                return Ok(model.loss(params, batch)?.loss);
            }
            let outcome = model.gradient(params, batch, grads)?;
            if let Some(scale) = scale {
                grads.iter_mut().flat_map(|g| g.iter_mut()).for_each(|g| *g = *g * scale);
            }
            Ok(before.get_or_insert(outcome).loss)
        })?;
        Ok(before.unwrap_or_default())
    }

    fn measure(&mut self, train: Vec<Outcome>) -> Result<Ended> {
        let held_out = self.model.accuracy(&slices(&self.params), Part::HeldOut)?;
        // Before the first step there is no average.
        let averages: Option<Vec<&[F]>> = match self.optimizer.step_count() {
            0 => self.plan.ema.map(|_| slices(&self.params)),
            _ if self.plan.ema.is_none() => None,
            _ => Some(self.optimizer.tensors().map(|(tensor, ..)| self.optimizer.ema(tensor)).collect::<Result<_>>()?),
        };
        let averaged = averages.map(|params| self.model.accuracy(&params, Part::HeldOut)).transpose()?;
        let Self { optimizer, .. } = self;
        let (step_count, skipped, scale) = (optimizer.step_count(), optimizer.skipped(), optimizer.loss_scale());
        Ok(Ended { train, held_out, averaged, step_count, skipped, scale })
    }

    fn save(&self, epochs: u32) -> Result<()> {
        if self.plan.save.is_none() {
            return Ok(());
        }
        let shapes = self.model.tensors().iter().map(|t| t.shape.as_slice());
        let params: Vec<_> = shapes.zip(slices(&self.params)).collect();
        resume::save(self.plan, epochs, Checkpoint::of_host(&self.optimizer, &params)?)
    }
}

fn slices<F>(tensors: &[Vec<F>]) -> Vec<&[F]> {
    tensors.iter().map(Vec::as_slice).collect()
}

fn slices_mut<F>(tensors: &mut [Vec<F>]) -> Vec<&mut [F]> {
    tensors.iter_mut().map(Vec::as_mut_slice).collect()
}
