//! `train`.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::{Value as Json, json};

use wgpu_optim::optim::{self, Rule};
use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::objectives::Mlp;
use wgpu_optim::tools::train;
use wgpu_optim::tools::train::{Epoch, Plan};
use wgpu_optim::{Clip, Ema, Error, LossScale, NoDecay, Schedule, Storage, schedule, storage};

use super::failure::Failure;
use super::output::{self, Output};
use super::place::Place;
use super::rules::{self, Named, Optimizers, Settings};
use super::{PASSED, help};

/// As shells have it for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Whether Ctrl-C was pressed.
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Train a perceptron on handwritten digits, all on one backend
///
/// The data (1797 images of 8×8 pixels, a fifth held out) and the model stay on the backend; each epoch ends with its loss and
/// accuracies. The same seed gives the same run.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    optimizers: Optimizers,
    /// A rule of your own, WGSL in this file, in place of --optimizer; it runs on the GPU
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    rule: Option<PathBuf>,
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
    /// Clip gradients by their norm over all tensors, or by group:NORM, tensor:NORM, value:MOST
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip: Option<Clip>,
    /// The learning rate by applied step, as cosine:steps=460,warmup=20; see below
    #[arg(long, value_name = "TEXT")]
    schedule: Option<Schedule>,
    /// Classify the held-out rows with an average of the weights too; without DECAY: 0.999
    #[arg(long, value_name = "DECAY", num_args = 0..=1, default_missing_value = "0.999", allow_negative_numbers = true)]
    ema: Option<f64>,
    /// No weight decay for tensors of this rank at most, or of these names, as *bias*; without WHICH: rank:1
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "rank:1")]
    no_decay: Option<NoDecay>,
    /// Multiply the loss's gradients by a scale that adapts, and leave out steps that are not finite; without INITIAL: 65536
    #[arg(long, value_name = "INITIAL", num_args = 0..=1, default_missing_value = "65536", allow_negative_numbers = true)]
    loss_scale: Option<f32>,
    /// How numbers are stored, as bf16-sr, bf16-split or f32,8bit; see below
    #[arg(long, value_name = "TEXT", default_value = "f32")]
    storage: Storage,
    /// Save everything that going on needs to this file after each epoch
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Go on from a file that --save wrote, with the same options; the curve is that of an unbroken run
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Take a --resume file that stores numbers otherwise than --storage says, and convert them
    #[arg(long, requires = "resume")]
    convert: bool,
    /// Write one JSON object an epoch to this file; with --resume, behind what it holds
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
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
  wgpu-optim train --clip 1 --schedule cosine:steps=460,warmup=20 --ema 0.99
  wgpu-optim train --set weight_decay=0.1 --no-decay
  wgpu-optim train --storage bf16-sr,8bit --backend cpu
  wgpu-optim train --epochs 50 --save run.safetensors --log run.jsonl
  wgpu-optim train --epochs 50 --save run.safetensors --log run.jsonl --resume run.safetensors
  wgpu-optim train --rule my_rule.wgsl --set lr=0.1

Ctrl-C ends after the epoch under way, which --save has saved, with exit status {INTERRUPTED}; a second one ends at once.

{}

{}

{}
{}",
        schedule::HELP,
        storage::HELP,
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
        let mlp = Mlp { widths, ..Mlp::default() };
        let plan = |Named(entry): &Named| self.plan(entry.configure(self.settings.iter())?, &mlp);
        let plans: Vec<Plan> = match &self.rule {
            Some(file) => vec![self.plan(rules::custom(file, self.settings.iter())?, &mlp)?],
            None => names.iter().map(plan).collect::<Result<_, _>>()?,
        };
        if plans.len() > 1 && self.save.as_ref().or(self.resume.as_ref()).is_some() {
            let problem = format!("--save and --resume take one --optimizer, there are {}", plans.len());
            return Err(Error::Usage(problem).into());
        }
        Ok(plans)
    }

    fn plan(&self, rule: Box<dyn Rule>, mlp: &Mlp) -> Result<Plan, Failure> {
        let plan = Plan {
            mlp: mlp.clone(),
            epochs: self.epochs,
            batch: self.batch,
            seed: self.seed,
            clip: self.clip,
            schedule: self.schedule.clone(),
            ema: self.ema.map(|decay| Ema { decay, ..Ema::default() }),
            no_decay: self.no_decay.clone(),
            loss_scale: self.loss_scale.map(|initial| LossScale { initial: initial.into(), ..LossScale::default() }),
            storage: self.storage.clone(),
            save: self.save.clone(),
            resume: self.resume.clone(),
            convert: self.convert,
            ..Plan::new(rule)
        };
        plan.check()?;
        Ok(plan)
    }

    fn log(&self) -> Result<Option<Log>, Failure> {
        self.log.as_deref().map(|path| Log::open(path, self.resume.is_some())).transpose()
    }
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let plans = options.plans()?;
    let out = Output::new(options.json);
    let backend = options.place.open(options.rule.is_some())?.backend;
    let mut log = options.log()?;
    heed_interrupt();
    out.header(backend.gpu().map(|gpu| &gpu.info))?;
    let mut ends = Vec::new();
    for plan in &plans {
        let last = train(plan, &backend, &out, log.as_mut())?;
        if INTERRUPT.load(Ordering::SeqCst) {
            interrupted(plan, last.as_ref());
            return Ok(INTERRUPTED);
        }
        ends.push((plan.rule.name(), last));
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
fn train(plan: &Plan, backend: &Backend, out: &Output, mut log: Option<&mut Log>) -> Result<Option<Epoch>, Failure> {
    title(plan, backend, out)?;
    let bar = output::bar(plan.epochs.into(), plan.rule.name());
    let mut printed = Ok(());
    let epochs = train::run(plan, backend, |epoch| {
        printed = bar.suspend(|| line(plan, backend, epoch, out));
        if let (Ok(()), Some(log)) = (&printed, &mut log) {
            printed = log.write(&object(plan, backend, epoch));
        }
        bar.set_position(epoch.epoch.into());
        if INTERRUPT.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { go_on(&printed) }
    });
    bar.finish_and_clear();
    printed?;
    Ok(epochs?.last().copied())
}

/// The first Ctrl-C ends the run after an epoch, the second at once.
fn heed_interrupt() {
    let heed = || {
        if INTERRUPT.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    if let Err(error) = ctrlc::set_handler(heed) {
        Output::note(format_args!("Ctrl-C will end the run at once: {error}"));
    }
}

fn interrupted(plan: &Plan, last: Option<&Epoch>) {
    let epochs = last.map_or(0, |epoch| epoch.epoch);
    match &plan.save {
        Some(path) => {
            let path = path.display();
            Output::note(format_args!("interrupted after epoch {epochs}, saved in {path}: --resume {path} goes on"));
        }
        None => Output::note(format_args!("interrupted after epoch {epochs}, nothing is saved without --save FILE")),
    }
}

/// The file of `--log`.
struct Log {
    path: String,
    file: File,
}

impl Log {
    fn open(path: &Path, append: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = if append { File::options().append(true).create(true).open(path) } else { File::create(path) };
        let file = file.map_err(|source| Error::Io { path: name.clone(), source })?;
        Ok(Self { path: name, file })
    }

    fn write(&mut self, object: &Json) -> Result<(), Failure> {
        let written = self.file.write_all(format!("{object}\n").as_bytes());
        written.map_err(|source| Error::Io { path: self.path.clone(), source }.into())
    }
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
    if plan.storage != Storage::default() {
        out.text(format_args!("  stored as {}", plan.storage))?;
    }
    out.text("epoch     loss    train  held-out     time")
}

/// All settings with their values.
fn settings(rule: &dyn Rule) -> String {
    rule.settings().iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn line(plan: &Plan, backend: &Backend, epoch: &Epoch, out: &Output) -> Result<(), Failure> {
    record(plan, backend, epoch, out)?;
    let Epoch { train, held_out, seconds, .. } = epoch;
    let (hits, unseen) = (100.0 * train.accuracy(), 100.0 * held_out.accuracy());
    out.text(format_args!(
        "{:>5}  {:>7.4}  {hits:>5.1} %   {unseen:>5.1} %  {:>5.1} ms{}",
        epoch.epoch,
        train.loss,
        1e3 * seconds,
        around(epoch)
    ))
}

/// What the plan's options add to a line.
fn around(epoch: &Epoch) -> String {
    let averaged = epoch.averaged.map(|outcome| format!("  averaged {:.1} %", 100.0 * outcome.accuracy()));
    let lr = epoch.lr.map(|lr| format!("  lr {lr:.4e}"));
    let scale = epoch.scale.map(|(scale, skipped)| format!("  scale {scale:.3e}, {skipped} skipped"));
    [averaged, lr, scale].into_iter().flatten().collect()
}

/// An epoch in JSON.
pub(super) fn record(plan: &Plan, backend: &Backend, epoch: &Epoch, out: &Output) -> Result<(), Failure> {
    out.json(&object(plan, backend, epoch))
}

fn object(plan: &Plan, backend: &Backend, epoch: &Epoch) -> Json {
    let mut object = json!({
        "optimizer": plan.rule.name(),
        "backend": backend.kind().name(),
        "epoch": epoch.epoch,
        "loss": epoch.train.loss,
        "train_accuracy": epoch.train.accuracy(),
        "held_out_loss": epoch.held_out.loss,
        "held_out_accuracy": epoch.held_out.accuracy(),
        "seconds": epoch.seconds,
    });
    if plan.storage != Storage::default() {
        object["storage"] = plan.storage.to_string().into();
    }
    if let Some(averaged) = epoch.averaged {
        object["averaged_held_out_loss"] = averaged.loss.into();
        object["averaged_held_out_accuracy"] = averaged.accuracy().into();
    }
    if let Some(lr) = epoch.lr {
        object["lr"] = lr.into();
    }
    if let Some((scale, skipped)) = epoch.scale {
        object["loss_scale"] = scale.into();
        object["skipped_steps"] = skipped.into();
    }
    object
}
