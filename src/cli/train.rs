//! `train`.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::json;

use wgpu_optim::backend::Backend;
use wgpu_optim::objective::Mlp;
use wgpu_optim::optim::{self, Rule};
use wgpu_optim::train::{self, Epoch, Plan};

use super::failure::Failure;
use super::output::{self, Output};
use super::place::Place;
use super::rules::{Named, Optimizers, Settings};
use super::{PASSED, help};

/// Train a perceptron on handwritten digits, all on one backend
///
/// The data (1797 images of 8×8 pixels, a fifth held out) and the model stay on the backend; each epoch ends with its loss and
/// accuracies. The same seed gives the same run.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    optimizers: Optimizers,
    #[command(flatten)]
    settings: Settings,
    /// How often to go through the data
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: u32,
    /// Rows of a mini-batch, up to the 1438 that train
    #[arg(long, value_name = "ROWS", default_value_t = 64)]
    batch: usize,
    /// Widths of the hidden layers, with commas between them
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',', default_value = "128,64")]
    hidden: Vec<usize>,
    /// Decides initial weights, split and order
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    place: Place,
    /// One JSON object a line: the run, then one an epoch
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
Examples:
  wgpu-optim train                             adamw, 20 epochs
  wgpu-optim train --optimizer sgd --set lr=0.1 --set momentum=0.9
  wgpu-optim train --optimizer adamw --optimizer vradam --epochs 5
  wgpu-optim train --hidden 256 --batch 32 --backend gpu --json

{}
{}",
        help::optimizers(),
        help::EXIT
    )
}

impl Options {
    fn plans(&self) -> Result<Vec<Plan>, Failure> {
        let default = vec![Named(optim::find("adamw")?)];
        let names = if self.optimizers.names.is_empty() { &default } else { &self.optimizers.names };
        let hidden = self.hidden.iter().copied();
        let widths: Vec<usize> = [64].into_iter().chain(hidden).chain([10]).collect();
        let plan = |Named(entry): &Named| {
            let rule = entry.configure(self.settings.iter())?;
            let mlp = Mlp { widths: widths.clone(), ..Mlp::default() };
            Ok(Plan { mlp, epochs: self.epochs, batch: self.batch, seed: self.seed, ..Plan::new(rule) })
        };
        names.iter().map(plan).collect()
    }
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let plans = options.plans()?;
    let out = Output::new(options.json);
    let backend = options.place.open()?.backend;
    out.header(backend.gpu().map(|gpu| &gpu.info))?;
    let mut ends = Vec::new();
    for plan in &plans {
        ends.push((plan.rule.name(), train(plan, &backend, &out)?));
    }
    if ends.len() > 1 {
        out.text("\nheld-out accuracy after the last epoch:")?;
        for (name, last) in &ends {
            out.text(format_args!("  {name:<10} {:>6.2} %", last.map_or(0.0, |e| 100.0 * e.held_out.accuracy())))?;
        }
    }
    Ok(PASSED)
}

/// Trains one optimizer and returns its last epoch.
fn train(plan: &Plan, backend: &Backend, out: &Output) -> Result<Option<Epoch>, Failure> {
    title(plan, backend, out)?;
    let bar = output::bar(plan.epochs.into(), plan.rule.name());
    let mut printed = Ok(());
    let epochs = train::run(plan, backend, |epoch| {
        printed = bar.suspend(|| line(plan, backend, epoch, out));
        bar.inc(1);
        go_on(&printed)
    });
    bar.finish_and_clear();
    printed?;
    Ok(epochs?.last().copied())
}

/// Nobody trains for a reader that went away.
pub(super) fn go_on(printed: &Result<(), Failure>) -> ControlFlow<()> {
    if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn title(plan: &Plan, backend: &Backend, out: &Output) -> Result<(), Failure> {
    let widths: Vec<String> = plan.mlp.widths.iter().map(ToString::to_string).collect();
    let settings = settings(plan.rule.as_ref());
    out.text(format_args!("{} on {}", plan.rule.name(), backend.describe()))?;
    out.text(format_args!("  {settings}"))?;
    out.text(format_args!("  digits, {}, batches of {}, seed {}", widths.join("-"), plan.batch, plan.seed))?;
    out.text("epoch     loss    train  held-out     time")
}

/// All settings with their values.
fn settings(rule: &dyn Rule) -> String {
    rule.settings().iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn line(plan: &Plan, backend: &Backend, epoch: &Epoch, out: &Output) -> Result<(), Failure> {
    record(plan, backend, epoch, out)?;
    let Epoch { epoch, train, held_out, seconds } = epoch;
    let (hits, unseen) = (100.0 * train.accuracy(), 100.0 * held_out.accuracy());
    out.text(format_args!(
        "{epoch:>5}  {:>7.4}  {hits:>5.1} %   {unseen:>5.1} %  {:>5.1} ms",
        train.loss,
        1e3 * seconds
    ))
}

/// An epoch in JSON.
pub(super) fn record(plan: &Plan, backend: &Backend, epoch: &Epoch, out: &Output) -> Result<(), Failure> {
    out.json(&json!({
        "optimizer": plan.rule.name(),
        "backend": backend.kind().name(),
        "epoch": epoch.epoch,
        "loss": epoch.train.loss,
        "train_accuracy": epoch.train.accuracy(),
        "held_out_loss": epoch.held_out.loss,
        "held_out_accuracy": epoch.held_out.accuracy(),
        "seconds": epoch.seconds,
    }))
}
