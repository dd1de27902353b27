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

/// The exit status that shells report for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Whether Ctrl-C was pressed.
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Train a perceptron on handwritten digits, entirely on one backend
///
/// The data (1797 images of 8×8 pixels, a fifth of them held out) and the model stay on the backend. Each epoch prints its loss and its
/// accuracies. The same seed gives the same run.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    optimizers: Optimizers,
    /// Train with your own rule, the WGSL in this file, instead of --optimizer; it runs on the GPU
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    rule: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// The number of passes through the data
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: u32,
    /// Rows per mini-batch, at most the 1438 rows of the training data
    #[arg(long, value_name = "ROWS", default_value_t = 64)]
    batch: usize,
    /// Widths of the hidden layers, separated by commas
    #[arg(long, value_name = "WIDTHS", value_delimiter = ',', default_value = "128,64")]
    hidden: Vec<usize>,
    /// The seed of the initial weights, the split and the order of the rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Clip gradients by their norm over all tensors, or as group:NORM, tensor:NORM or value:MOST say
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip: Option<Clip>,
    /// Schedule the learning rate by the step count, such as cosine:total=460,warmup=20; see below
    #[arg(long, value_name = "TEXT")]
    schedule: Option<Schedule>,
    /// Evaluate the model with a moving average of the weights too; without DECAY: 0.999
    #[arg(long, value_name = "DECAY", num_args = 0..=1, default_missing_value = "0.999", allow_negative_numbers = true)]
    ema: Option<f64>,
    /// Turn off weight decay for tensors of at most this rank, or with names that match a pattern such as *bias*; without WHICH: rank:1
    #[arg(long, value_name = "WHICH", num_args = 0..=1, default_missing_value = "rank:1")]
    no_decay: Option<NoDecay>,
    /// Scale the loss by a factor that adapts, and skip steps with gradients that are not finite; without INITIAL: 65536
    #[arg(long, value_name = "INITIAL", num_args = 0..=1, default_missing_value = "65536", allow_negative_numbers = true)]
    loss_scale: Option<f64>,
    /// How tensors are stored, such as bf16-sr, bf16-split or f32,8bit; see below
    #[arg(long, value_name = "TEXT", default_value = "f32")]
    storage: Storage,
    /// Save to this file, after each epoch, everything that --resume needs
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Resume from a file that --save wrote, with the same options; the epochs are those of an uninterrupted run
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Convert a --resume file that stores numbers in another form than --storage
    #[arg(long, requires = "resume")]
    convert: bool,
    /// Write one JSON object per epoch to this file; with --resume, append to it
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per epoch
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
  wgpu-optim train --clip 1 --schedule cosine:total=460,warmup=20 --ema 0.99
  wgpu-optim train --set weight_decay=0.1 --no-decay
  wgpu-optim train --storage bf16-sr,8bit --backend cpu
  wgpu-optim train --epochs 50 --save run.safetensors --log run.jsonl
  wgpu-optim train --epochs 50 --save run.safetensors --log run.jsonl --resume run.safetensors
  wgpu-optim train --rule my_rule.wgsl --set lr=0.1

Ctrl-C ends the run after the current epoch, which --save saves, with exit status {INTERRUPTED}; a second Ctrl-C ends it at once.

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
            let problem = format!("--save and --resume take one --optimizer, but {} are given", plans.len());
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
            loss_scale: self.loss_scale.map(|initial| LossScale { initial, ..LossScale::default() }),
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
    handle_interrupts();
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

/// The first Ctrl-C ends the run after the current epoch, the second at once.
fn handle_interrupts() {
    let interrupt = || {
        if INTERRUPT.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
    };
    if let Err(error) = ctrlc::set_handler(interrupt) {
        Output::note(format_args!("Ctrl-C will end the run at once, not after the epoch: {error}"));
    }
}

fn interrupted(plan: &Plan, last: Option<&Epoch>) {
    let epochs = last.map_or(0, |epoch| epoch.epoch);
    match &plan.save {
        Some(path) => {
            let path = path.display();
            Output::note(format_args!(
                "interrupted after epoch {epochs}, saved in {path}: --resume {path} continues the run"
            ));
        }
        None => Output::note(format_args!("interrupted after epoch {epochs}; nothing is saved without --save FILE")),
    }
}

/// The file that `--log` names.
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

/// Ends the training if the output could not be written.
pub(super) fn go_on(printed: &Result<(), Failure>) -> ControlFlow<()> {
    if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn title(plan: &Plan, backend: &Backend, out: &Output) -> Result<(), Failure> {
    let widths: Vec<String> = plan.mlp.widths.iter().map(ToString::to_string).collect();
    let settings = settings(plan.rule.as_ref());
    out.text(format_args!("{} on {}", plan.rule.name(), backend.describe()))?;
    out.text(format_args!("  {settings}"))?;
    out.text(format_args!("  digits, {}, batches of {}, seed {}", widths.join("-"), plan.batch, plan.seed))?;
    for (name, value) in features(plan) {
        out.text(format_args!("  {name} {value}"))?;
    }
    out.text("epoch     loss    train  held-out     time")
}

/// The features of the plan that are on, with their values.
fn features(plan: &Plan) -> impl Iterator<Item = (&'static str, String)> {
    let storage = (plan.storage != Storage::default()).then(|| plan.storage.to_string());
    let features = [
        ("gradients clipped:", plan.clip.map(clipped)),
        ("learning rate:", plan.schedule.as_ref().map(ToString::to_string)),
        ("average of the weights: decay", plan.ema.map(|ema| ema.decay.to_string())),
        ("no weight decay for", plan.no_decay.as_ref().map(without_decay)),
        ("loss scale: initially", plan.loss_scale.map(|scale| scale.initial.to_string())),
        ("stored as", storage),
    ];
    features.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

fn clipped(clip: Clip) -> String {
    match clip {
        Clip::GlobalNorm(most) => format!("norm over all tensors at most {most}"),
        Clip::GroupNorm(most) => format!("norm of each group at most {most}"),
        Clip::TensorNorm(most) => format!("norm of each tensor at most {most}"),
        Clip::Value(most) => format!("magnitude of each element at most {most}"),
    }
}

fn without_decay(tensors: &NoDecay) -> String {
    match tensors {
        NoDecay::Rank(most) => format!("tensors of rank {most} or less"),
        NoDecay::Names(pattern) => format!("tensors named {pattern}"),
    }
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
        features_of(epoch)
    ))
}

/// The columns that the plan's features add to an epoch.
fn features_of(epoch: &Epoch) -> String {
    let averaged = epoch.averaged.map(|outcome| format!("  averaged {:.1} %", 100.0 * outcome.accuracy()));
    let lr = epoch.lr.map(|lr| format!("  lr {lr:.4e}"));
    let scale = epoch.scale.map(|(scale, skipped)| format!("  scale {scale:.3e}, {skipped} skipped"));
    [averaged, lr, scale].into_iter().flatten().collect()
}

/// Prints an epoch in JSON.
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
