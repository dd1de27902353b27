//! The tour.

use clap::Args;

use wgpu_optim::tools::adapter::{install_hint, is_hardware};
use wgpu_optim::tools::backend::{Kind, Request};
use wgpu_optim::tools::tour::Tour;
use wgpu_optim::tools::train;
use wgpu_optim::tools::train::Plan;
use wgpu_optim::tools::{bench, report};

use super::failure::Failure;
use super::output::{self, Output};
use super::place::Place;
use super::{PASSED, PAST};

/// The meaning of the tables' columns.
const LEGEND: &str = "
   In the tables, `param ulp` is the worst error of a parameter, in units in its last place (1: the neighbouring f32).
   `of copy` and `of stream` are the step's GB/s divided by those of a plain copy, and by those of a kernel that reads four
   arrays and writes three, as AdamW does. At 1.00 the step is as fast as that kernel, which only moves memory.";

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then the lines of verify, train and bench
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let out = Output::new(options.json);
    let request = options.place.request()?;
    let tour = Tour::begin(&request)?;
    out.header(tour.gpu.as_ref().map(|gpu| &gpu.info))?;
    where_it_runs(&tour, &request, &out)?;
    let passed = verify(&tour, &out)?;
    train(&tour, &out)?;
    measure(&tour, &out)?;
    next(passed, &out)?;
    Ok(if passed { PASSED } else { PAST })
}

fn where_it_runs(tour: &Tour, request: &Request, out: &Output) -> Result<(), Failure> {
    out.text(format_args!(
        "wgpu-optim {}: the optimizer step for everything that trains on wgpu",
        env!("CARGO_PKG_VERSION")
    ))?;
    out.text("\n1. Where it runs")?;
    match &tour.gpu {
        Some(gpu) if is_hardware(&gpu.info) => out.text(format_args!("   GPU:  {}", gpu.name()))?,
        Some(gpu) => {
            out.text(format_args!("   GPU:  {}, a software adapter", gpu.name()))?;
            out.text("         No hardware GPU was found; if there is one, install the vendor's driver.")?;
        }
        None if matches!(request.kind, Some(Kind::Cpu | Kind::Reference)) => {
            out.text("   GPU:  not used, as --backend says")?;
        }
        None => {
            out.text("   GPU:  none was found, so the WGSL kernels do not run.")?;
            out.text(format_args!("         To run them, {}.", install_hint()))?;
        }
    }
    let (name, threads, units) = (report::cpu_name(), report::threads(), wgpu_optim::cpu::vector_units());
    out.text(format_args!("   CPU:  {name}, {threads} threads, vector units {units}"))?;
    out.text(match (&tour.note, &tour.gpu) {
        (Some(note), Some(_)) => format!("   Training runs on the CPU: {note}."),
        _ => format!("   Training runs on {}.", tour.backend.describe()),
    })?;
    out.text(LEGEND)
}

fn verify(tour: &Tour, out: &Output) -> Result<bool, Failure> {
    out.text("\n2. Is it right? One step of every optimizer in every variant, against the same step in f64")?;
    let cases = Tour::cases();
    let mut passed = true;
    for backend in tour.backends() {
        let reports = super::verify::check(&cases, &backend, false, out)?;
        passed &= reports.iter().all(|report| report.passed);
    }
    out.text(if passed { "   All passed." } else { "   Some FAILED: the commands above repeat them." })?;
    Ok(passed)
}

fn train(tour: &Tour, out: &Output) -> Result<(), Failure> {
    let plans = Tour::plans()?;
    let epochs = plans.first().map_or(0, |plan| plan.epochs);
    out.text(format_args!(
        "\n3. Does it learn? {epochs} epochs on 1797 handwritten digits, on {}",
        tour.backend.describe()
    ))?;
    out.text(format_args!(
        "{:<10} {:>8} {:>8} {:>9} {:>9}  settings",
        "optimizer", "loss", "train", "held-out", "seconds"
    ))?;
    let bar = output::bar(plans.len() as u64 * u64::from(epochs), "train");
    for plan in &plans {
        let mut printed = Ok(());
        let run = train::run(plan, &tour.backend, |epoch| {
            printed = bar.suspend(|| super::train::record(plan, &tour.backend, epoch, out));
            bar.inc(1);
            super::train::go_on(&printed)
        });
        printed?;
        let run = run?;
        let seconds: f64 = run.iter().map(|epoch| epoch.seconds).sum();
        let Some(last) = run.last() else { continue };
        bar.suspend(|| {
            out.text(format_args!(
                "{:<10} {:>8.4} {:>6.1} % {:>7.1} % {seconds:>9.2}  {}",
                plan.rule.name(),
                last.train.loss,
                100.0 * last.train.accuracy(),
                100.0 * last.held_out.accuracy(),
                changed(plan)
            ))
        })?;
    }
    bar.finish_and_clear();
    out.text("   The learning rates were chosen for this model; `race` compares optimizers on equal terms.")
}

/// The settings that the tour sets, with their values.
fn changed(plan: &Plan) -> String {
    let settings = plan.rule.settings().into_iter();
    let shown = settings.filter(|(name, _)| ["lr", "momentum", "weight_decay"].contains(name));
    shown.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn measure(tour: &Tour, out: &Output) -> Result<(), Failure> {
    out.text("\n4. How fast is it? A step over a million elements, in one tensor and in a thousand")?;
    let plan = tour.measurements();
    super::bench::head(out)?;
    let bar = output::bar((plan.backends.len() * plan.sizes.len()) as u64, "bench");
    let mut printed = Ok(());
    let results = bench::run(&plan, tour.gpu.as_ref(), |result| {
        if printed.is_ok() {
            printed = bar.suspend(|| super::bench::line(result, out));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    printed?;
    results.map(drop).map_err(Failure::from)
}

fn next(passed: bool, out: &Output) -> Result<(), Failure> {
    // Cargo sets this variable for the programs that it runs.
    let program = if std::env::var_os("CARGO").is_some() { "cargo run --release --" } else { "wgpu-optim" };
    out.text(if passed {
        "\n5. What next"
    } else {
        "\n5. What next: report the failed cases, with the output of `info`"
    })?;
    for (command, about) in [
        ("info", "the adapters and the CPU of this machine"),
        ("verify --optimizer vradam", "every test case of an optimizer"),
        ("train --optimizer adaiw --set lr=0.3", "a training run, epoch by epoch"),
        ("bench --optimizer adamw --elements 16000000", "a large step beside a copy on this machine"),
        ("replay tests/golden/adamw.safetensors", "another implementation's run, compared number by number"),
        ("shader vradam", "the WGSL of a step"),
    ] {
        out.text(format_args!("   {program} {command:<45} {about}"))?;
    }
    out.text("   The README has a quick start for your own program, and examples/ has complete programs.")
}
