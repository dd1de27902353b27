//! The epochs of a training and their results.

use std::ops::ControlFlow;
use web_time::Instant;

use super::plan::Plan;
use crate::tools::objectives::Outcome;

/// The result of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// The number of the epoch, counted from 1.
    pub epoch: u32,
    /// Loss and hits of the mini-batches, each evaluated before its step.
    pub train: Outcome,
    /// Loss and hits of the held-out rows after the epoch.
    pub held_out: Outcome,
    /// Loss and hits of the held-out rows with the average of the weights, if the plan keeps one.
    pub averaged: Option<Outcome>,
    /// The learning rate of the last step, if the plan schedules it.
    pub lr: Option<f64>,
    /// The loss scale after the epoch and the number of skipped steps, if the plan has a loss scale.
    pub scale: Option<(f64, u64)>,
    /// Seconds from the first batch to the end of the evaluation.
    pub seconds: f64,
}

/// The numbers that are read at the end of an epoch.
pub(super) struct Ended {
    pub(super) train: Vec<Outcome>,
    pub(super) held_out: Outcome,
    pub(super) averaged: Option<Outcome>,
    pub(super) step_count: u64,
    pub(super) skipped: u64,
    pub(super) scale: f64,
}

/// Collects the epochs and hands each to the caller.
pub(super) struct Log<O> {
    on_epoch: O,
    pub(super) epochs: Vec<Epoch>,
    began: Instant,
}

impl<O: FnMut(&Epoch) -> ControlFlow<()>> Log<O> {
    pub(super) fn new(on_epoch: O) -> Self {
        Self { on_epoch, epochs: Vec::new(), began: Instant::now() }
    }

    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Ends an epoch; `epoch` is counted from 0.
    pub(super) fn end(&mut self, plan: &Plan, epoch: u32, ended: &Ended) -> ControlFlow<()> {
        let epoch = Epoch {
            epoch: epoch + 1,
            train: Outcome::total(&ended.train),
            held_out: ended.held_out,
            averaged: ended.averaged,
            lr: plan.rate(ended.step_count),
            scale: plan.loss_scale.map(|_| (ended.scale, ended.skipped)),
            seconds: self.began.elapsed().as_secs_f64(),
        };
        self.epochs.push(epoch);
        (self.on_epoch)(&epoch)
    }
}
