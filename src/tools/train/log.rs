//! How a training goes: its epochs, one after the other.

use std::ops::ControlFlow;
use std::time::Instant;

use super::plan::Plan;
use crate::tools::objectives::Outcome;

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

/// What an epoch's end found.
pub(super) struct Ended {
    pub(super) train: Vec<Outcome>,
    pub(super) held_out: Outcome,
    pub(super) averaged: Option<Outcome>,
    pub(super) applied: u64,
    pub(super) skipped: u64,
    pub(super) scale: f64,
}

/// Collects the epochs.
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

    /// `epoch` is counted from 0.
    pub(super) fn end(&mut self, plan: &Plan, epoch: u32, ended: &Ended) -> ControlFlow<()> {
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
