//! `replay`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::files;
use wgpu_optim::tools::replay;
use wgpu_optim::tools::replay::trajectory::{Comparison, Trajectory, Writer};
use wgpu_optim::{CustomRule, Error, Rule, Storage, storage};

use super::failure::Failure;
use super::output::Output;
use super::place::Place;
use super::rules::{self, Settings};
use super::{PASSED, PAST, help};

/// Run trajectory files and compare the results with those that the files expect
///
/// A trajectory is a safetensors file with the initial parameters, the gradients and the expected results of another implementation's
/// run; the documentation has a Python function that records one. Parameters and states are compared at every step for which the file has
/// expected values, within the tolerances that the file gives.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    /// The trajectory files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write every parameter and state after every step to this file, as param/<t>/<tensor> and <state>/<t>/<tensor>; where OUT is a
    /// folder or there are several FILEs, to a file of the same name in the folder OUT
    #[arg(long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Run your own rule, the WGSL in this file, instead of the files' optimizers; it takes the settings that it shares with them
    #[arg(long, value_name = "RULE")]
    rule: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// How tensors are stored, such as params=bf16-split or 8bit,min=0; the reference takes f32 only
    #[arg(long, value_name = "FORM", default_value = "f32")]
    storage: Storage,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per file
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
Examples:
  wgpu-optim replay tests/golden/adamw.safetensors
  wgpu-optim replay tests/golden/*.safetensors --backend gpu --json
  wgpu-optim replay run.safetensors --backend reference --output out.safetensors
  wgpu-optim replay run.safetensors --set eps=1e-5        the run with another setting
  wgpu-optim replay run.safetensors --storage 8bit,min=0  how far 8-bit states drift from the run
  wgpu-optim replay run.safetensors --rule my_rule.wgsl   your own rule against the run

An element passes where it differs from the expected θ by at most 3·t·ulp32(θ) + tolerance_f32·path on gpu and cpu, or \
tolerance_f64·(|θ| + path) on the reference, where `path` is the distance that the element has travelled. --output holds f32 numbers, \
from the reference f64.

{}

{}",
        storage::HELP,
        help::EXIT
    )
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let outputs = options.outputs();
    options.check_files(&outputs)?;
    if let (Some(folder), [_, _, ..]) = (&options.output, &options.files[..]) {
        std::fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
    }
    outputs.iter().try_for_each(|output| files::check_writable(output))?;
    let out = Output::new(options.json);
    let backend = options.place.open(options.rule.is_some())?.backend;
    out.header(backend.gpu().map(|gpu| &gpu.info))?;
    out.text(format_args!("on {}", backend.describe()))?;
    let mut statuses = Vec::new();
    for (at, file) in options.files.iter().enumerate() {
        statuses.push(match replay_file(file, outputs.get(at), options, &backend, &out) {
            Ok(true) => PASSED,
            Ok(false) => PAST,
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => failure.report(),
        });
    }
    let passed = statuses.iter().filter(|status| **status == PASSED).count();
    out.text(format_args!("{passed} of {} files passed", statuses.len()))?;
    Ok(statuses.into_iter().max().unwrap_or(PASSED))
}

fn replay_file(
    file: &Path,
    output: Option<&PathBuf>,
    options: &Options,
    backend: &Backend,
    out: &Output,
) -> Result<bool, Failure> {
    let trajectory = Trajectory::load(file)?;
    let rule = options.rule(&trajectory)?;
    let mut writer = output.map(|path| writer(path, rule.as_ref(), backend)).transpose()?;
    let comparison = replay::run_stored(&trajectory, rule.as_ref(), &options.storage, backend, writer.as_mut())?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    print(&trajectory, &comparison, backend, out)?;
    Ok(comparison.passed())
}

impl Options {
    /// The output of each file, if there are outputs.
    fn outputs(&self) -> Vec<PathBuf> {
        let Some(target) = &self.output else { return Vec::new() };
        let named = |file: &PathBuf| match file.file_name() {
            Some(name) if self.files.len() > 1 || target.is_dir() => target.join(name),
            _ => target.clone(),
        };
        self.files.iter().map(named).collect()
    }

    fn check_files(&self, outputs: &[PathBuf]) -> Result<(), Failure> {
        let mut inputs: Vec<files::Named<'_>> = self.files.iter().map(|file| ("FILE", file.as_path())).collect();
        inputs.extend(self.rule.iter().map(|rule| ("--rule", rule.as_path())));
        let outputs: Vec<_> = outputs.iter().map(|output| ("--output", output.as_path())).collect();
        Ok(files::check(&inputs, &outputs)?)
    }

    /// The file's optimizer or the user's own rule, with the settings of the file and then those of the command line.
    fn rule(&self, trajectory: &Trajectory) -> Result<Box<dyn Rule>, Failure> {
        let Some(file) = &self.rule else {
            let mut rule = replay::rule(trajectory)?;
            for (name, value) in self.settings.iter() {
                rule.set(name, &value)?;
            }
            rule.check()?;
            return Ok(rule);
        };
        let rule = CustomRule::from_file(file)?;
        let named = rule.settings();
        let shared = replay::settings(trajectory).filter(|(name, _)| named.iter().any(|(own, _)| own == name));
        rules::custom(file, shared.chain(self.settings.iter()))
    }
}

fn writer(path: &Path, rule: &dyn Rule, backend: &Backend) -> Result<Writer, Failure> {
    let settings = rule.settings().iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    let metadata = [("optimizer", rule.name()), ("settings", &settings), ("backend", backend.kind().name())];
    Ok(Writer::create(path, &metadata)?)
}

fn print(trajectory: &Trajectory, comparison: &Comparison, backend: &Backend, out: &Output) -> Result<(), Failure> {
    let worst = comparison.worst();
    out.json(&json!({
        "file": trajectory.name(),
        "optimizer": trajectory.optimizer(),
        "backend": backend.kind().name(),
        "steps": trajectory.steps(),
        "compared": comparison.compared(),
        "worst_share": worst.map(|w| w.share),
        "worst": worst.map(|w| json!({
            "quantity": w.quantity, "tensor": w.tensor, "index": w.index, "step": w.step,
            "got": w.got, "want": w.want, "limit": w.limit,
        })),
        "passed": comparison.passed(),
    }))?;
    let verdict = match worst {
        None => "ran ",
        Some(_) if comparison.passed() => "ok  ",
        Some(_) => "FAIL",
    };
    out.text(format_args!(
        "{verdict}  {}  {}, {} steps",
        trajectory.name(),
        trajectory.optimizer(),
        trajectory.steps()
    ))?;
    match worst {
        None => out.text("      nothing compared: the file has no expected values"),
        Some(worst) => out.text(format_args!("      worst of {}: {worst}", comparison.compared())),
    }
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}
