//! Training a real model on real data, all on one backend: a perceptron on the digits of [`objective::digits`](crate::tools::objectives::digits).
//!
//! It is also the example of how to call the crate: `gpu.rs` and `cpu.rs` beside this file are whole training loops.

mod cpu;
mod gpu;
mod resume;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use crate::io::checkpoint::Fit;
use crate::optim::Rule;
use crate::options::schedule::{Schedule, Scheduled};
use crate::tools::backend::Backend;
use crate::tools::objectives::{Mlp, Outcome, Samples, Split, digits};
use crate::{Clip, Ema, Error, LossScale, NoDecay, Result, Storage};

/// What to train, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The optimizer with its settings.
    pub rule: Box<dyn Rule>,
    /// The model.
    pub mlp: Mlp,
    /// How often the data is gone through. Default 20.
    pub epochs: u32,
    /// Rows of a mini-batch. Default 64.
    pub batch: usize,
    /// Decides the initial weights, the split and each epoch's order. Default 0.
    pub seed: u64,
    /// The share of rows that are held out. Default 0.2.
    pub held_out: f64,
    /// How gradients are clipped. Default: not.
    pub clip: Option<Clip>,
    /// The learning rate by applied step. Default: the optimizer's own.
    pub schedule: Option<Schedule>,
    /// The weights' average, with which held-out rows are classified too. Default: none.
    pub ema: Option<Ema>,
    /// The tensors without weight decay. Default: none.
    pub no_decay: Option<NoDecay>,
    /// What gradients are multiplied by before the step divides them again. Default: nothing.
    pub loss_scale: Option<LossScale>,
    /// How parameters, gradients and states are stored; the model computes with parameters as they are stored. Default f32.
    pub storage: Storage,
    /// Where everything that going on needs is saved after each epoch. Not on the reference, whose numbers are f64.
    pub save: Option<PathBuf>,
    /// What an earlier run of the same plan saved: this one goes on after its last epoch.
    pub resume: Option<PathBuf>,
    /// Whether that may be stored otherwise than this plan says: it is converted then, to the nearest. Default: no.
    pub convert: bool,
}

impl Plan {
    /// The default model and course with this optimizer.
    pub fn new(rule: impl Into<Box<dyn Rule>>) -> Self {
        Self {
            rule: rule.into(),
            mlp: Mlp::default(),
            epochs: 20,
            batch: 64,
            seed: 0,
            held_out: 0.2,
            clip: None,
            schedule: None,
            ema: None,
            no_decay: None,
            loss_scale: None,
            storage: Storage::default(),
            save: None,
            resume: None,
            convert: false,
        }
    }

    /// Checks every number that can be checked before the backend is there.
    ///
    /// # Errors
    /// Names the first that makes no sense.
    pub fn check(&self) -> Result<()> {
        self.rule.check()?;
        self.clip.map_or(Ok(()), Clip::check)?;
        self.ema.map_or(Ok(()), Ema::check)?;
        self.no_decay.as_ref().map_or(Ok(()), |_| NoDecay::twin_rule(self.rule.as_ref()).map(drop))?;
        self.loss_scale.map_or(Ok(()), LossScale::check)?;
        self.storage.formats(self.rule.as_ref(), 0)?;
        self.scheduled().map_or(Ok(()), |scheduled| scheduled.check(self.rule.as_ref(), "default"))
    }

    fn scheduled(&self) -> Option<Scheduled> {
        Some(Scheduled::new(self.rule.as_ref(), "lr", self.schedule.clone()?))
    }

    /// The scheduled rate of the step that was the `applied`-th.
    fn rate(&self, applied: u64) -> Option<f64> {
        Some(self.scheduled()?.schedule.rate(applied.saturating_sub(1)))
    }

    /// How what is resumed must fit.
    const fn fit(&self) -> Fit {
        if self.convert { Fit::Converted } else { Fit::Whole }
    }

    fn split(&self, samples: &Samples) -> Result<Split> {
        samples.split(self.held_out, self.seed)
    }
}

/// How an epoch went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Loss and hits of the mini-batches as they came, each before its step.
    pub train: Outcome,
    /// Loss and hits of the held-out rows after the epoch.
    pub held_out: Outcome,
    /// The same with the weights' average, where the plan keeps it.
    pub averaged: Option<Outcome>,
    /// The learning rate of the last applied step, where the plan schedules it.
    pub lr: Option<f64>,
    /// The loss scale after the epoch and how many steps have been left out, where the plan has a scale.
    pub scale: Option<(f64, u64)>,
    /// Seconds from the first batch to the evaluation's end.
    pub seconds: f64,
}

/// Trains, hands each epoch out when it ends, and returns them all; `on_epoch` may end it early. The same plan on the same backend
/// gives the same bits.
///
/// Blocks at the end of each epoch until the device is done.
///
/// # Errors
/// A plan that does not fit the data; what the backend reports.
pub fn run(plan: &Plan, backend: &Backend, on_epoch: impl FnMut(&Epoch) -> ControlFlow<()>) -> Result<Vec<Epoch>> {
    plan.check()?;
    if let (Backend::Reference, Some(_)) = (backend, plan.save.as_ref().or(plan.resume.as_ref())) {
        let problem = "a checkpoint holds f32: saving and resuming need backend gpu or cpu, it is reference";
        return Err(Error::Usage(problem.to_owned()));
    }
    let split = plan.split(&digits::load()?)?;
    match backend {
        Backend::Gpu(gpu) => gpu::run(plan, &split, gpu, Log::new(on_epoch)),
        Backend::Cpu => cpu::run::<f32>(plan, &split, Log::new(on_epoch)),
        Backend::Reference => cpu::run::<f64>(plan, &split, Log::new(on_epoch)),
    }
}

/// What an epoch's end found.
struct Ended {
    train: Vec<Outcome>,
    held_out: Outcome,
    averaged: Option<Outcome>,
    applied: u64,
    skipped: u64,
    scale: f64,
}

/// Collects the epochs.
struct Log<O> {
    on_epoch: O,
    epochs: Vec<Epoch>,
    began: Instant,
}

impl<O: FnMut(&Epoch) -> ControlFlow<()>> Log<O> {
    fn new(on_epoch: O) -> Self {
        Self { on_epoch, epochs: Vec::new(), began: Instant::now() }
    }

    fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// `epoch` is counted from 0.
    fn end(&mut self, plan: &Plan, epoch: u32, ended: &Ended) -> ControlFlow<()> {
        let epoch = Epoch {
            epoch: epoch + 1,
            train: Outcome::total(&ended.train),
            held_out: ended.held_out,
            averaged: ended.averaged,
            lr: plan.rate(ended.applied),
            scale: plan.loss_scale.map(|_| (ended.scale, ended.skipped)),
            seconds: self.began.elapsed().as_secs_f64(),
        };
        self.epochs.push(epoch);
        (self.on_epoch)(&epoch)
    }
}
