//! Training a real model on real data, all on one backend: a perceptron on the digits of [`objective::digits`](crate::objective::digits).
//!
//! It is also the example of how to call the crate: `gpu.rs` and `cpu.rs` beside this file are whole training loops.

mod cpu;
mod gpu;

use std::ops::ControlFlow;
use std::time::Instant;

use crate::Result;
use crate::backend::Backend;
use crate::objective::{Mlp, Outcome, Samples, Split, digits};
use crate::optim::Rule;

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
}

impl Plan {
    /// The default model and course with this optimizer.
    pub fn new(rule: impl Into<Box<dyn Rule>>) -> Self {
        Self { rule: rule.into(), mlp: Mlp::default(), epochs: 20, batch: 64, seed: 0, held_out: 0.2 }
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
    let split = plan.split(&digits::load()?)?;
    match backend {
        Backend::Gpu(gpu) => gpu::run(plan, &split, gpu, Log::new(on_epoch)),
        Backend::Cpu => cpu::run::<f32>(plan, &split, Log::new(on_epoch)),
        Backend::Reference => cpu::run::<f64>(plan, &split, Log::new(on_epoch)),
    }
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

    fn end(&mut self, train: &[Outcome], held_out: Outcome) -> ControlFlow<()> {
        let epoch = self.epochs.len() as u32 + 1;
        let seconds = self.began.elapsed().as_secs_f64();
        let epoch = Epoch { epoch, train: Outcome::total(train), held_out, seconds };
        self.epochs.push(epoch);
        (self.on_epoch)(&epoch)
    }
}
