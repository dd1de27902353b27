//! `verify`.

use clap::Args;

use wgpu_optim::tools::backend::{Backend, Kind, Request};
use wgpu_optim::tools::verify;
use wgpu_optim::tools::verify::{Case, Report};
use wgpu_optim::{Error, optim, storage};

use super::failure::{self, Failure};
use super::output::{self, Output};
use super::place::Place;
use super::rules::{Named, Optimizers, Storages};
use super::{PASSED, PAST, help};

/// Elements of the largest tensors of the case with all rules in one optimizer.
const TOGETHER_SIZE: usize = 1025;

/// Check every optimizer's step against the f64 reference, on this adapter
///
/// Each case takes single steps from random f32 numbers in several tensors and groups, and compares every parameter and state. The
/// columns show the worst errors: `param ulp` of a parameter, in units in its last place; `step` of a parameter's change and `states` of a
/// state, both relative to the numbers that the result is computed from. A case passes where no error exceeds the tolerance.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    optimizers: Optimizers,
    /// Check only this case, OPTIMIZER/VARIANT/ELEMENTS, with any number of elements; repeat the option for several
    #[arg(long = "case", value_name = "NAME", conflicts_with = "names", value_parser = Case::find)]
    cases: Vec<Case>,
    #[command(flatten)]
    storages: Storages,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per case
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    let lines = optim::ALL.iter().map(|entry| {
        let variants: Vec<_> = entry.variants().into_iter().map(|(name, _)| name).collect();
        format!("  {:<10} {}\n", entry.name, variants.join(", "))
    });
    format!(
        "\
Without --backend, the command checks the best adapter, software adapters included. With --backend cpu, it checks the fast path.

Examples:
  wgpu-optim verify
  wgpu-optim verify --optimizer vradam --optimizer adaiw
  wgpu-optim verify --case adamw/amsgrad/1025
  wgpu-optim verify --backend cpu --json
  wgpu-optim verify --storage bf16-sr --storage bf16-split,8bit,min=0

Without --storage, f32 is checked. A storage is compared with the reference followed by the same rounding; optimizers that refuse the \
storage are skipped.

{}

Optimizers and their variants:
{}
{}",
        storage::HELP,
        lines.collect::<String>(),
        help::EXIT
    )
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let out = Output::new(options.json);
    let backend = open(&options.place.request()?)?;
    out.header(backend.gpu().map(|gpu| &gpu.info))?;
    out.text(format_args!("on {}", backend.describe()))?;
    let named = !options.cases.is_empty() || !options.optimizers.names.is_empty();
    let mut reports = check(&options.cases(), &backend, named, &out)?;
    if let Some(gpu) = backend.gpu().filter(|_| !named && options.storages.given.is_empty()) {
        let together = verify::report_together(gpu, TOGETHER_SIZE)?;
        out.json(&together)?;
        out.text(Report { case: "all rules in one optimizer".to_owned(), ..together.clone() })?;
        reports.push(together);
    }
    let passed = reports.iter().filter(|report| report.passed).count();
    out.text(format_args!("{passed} of {} cases passed", reports.len()))?;
    Ok(if passed == reports.len() { PASSED } else { PAST })
}

impl Options {
    fn cases(&self) -> Vec<Case> {
        if !self.cases.is_empty() {
            return self.cases.clone();
        }
        let names = &self.optimizers.names;
        let wanted = |case: &Case| names.is_empty() || names.iter().any(|Named(entry)| entry.name == case.entry.name);
        let cases = match &self.storages.given[..] {
            [] => verify::cases(),
            storages => storages.iter().flat_map(verify::cases_stored).collect(),
        };
        cases.into_iter().filter(wanted).collect()
    }
}

/// Opens the backend. Without --backend, `verify` checks any adapter and never falls back to the CPU.
fn open(request: &Request) -> Result<Backend, Failure> {
    let kind = Some(request.kind.unwrap_or(Kind::Gpu));
    if kind == Some(Kind::Reference) {
        let problem = "the other backends are compared with the reference: use --backend gpu or cpu";
        return Err(Error::Usage(problem.to_owned()).into());
    }
    Ok(pollster::block_on(Request { kind, ..request.clone() }.open())?.backend)
}

/// Runs the cases; prints each case, or the worst results of each optimizer.
pub(super) fn check(cases: &[Case], backend: &Backend, each: bool, out: &Output) -> Result<Vec<Report>, Failure> {
    out.text(Report::header())?;
    let bar = output::bar(cases.len() as u64, "verify");
    let mut reports: Vec<Report> = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let report = match backend.gpu() {
            Some(gpu) => verify::run(gpu, case)?,
            None => verify::run_cpu(case)?,
        };
        bar.suspend(|| out.json(&report))?;
        if each {
            bar.suspend(|| out.text(&report))?;
        }
        if !report.passed {
            bar.suspend(|| explain(&report, case, backend));
        }
        reports.push(report);
        let ends = cases.get(at + 1).is_none_or(|next| !share_a_line(next, case));
        if ends && !each {
            bar.suspend(|| out.text(summary(&reports, case)))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(reports)
}

/// Whether one line summarizes both cases.
fn share_a_line(a: &Case, b: &Case) -> bool {
    a.entry.name == b.entry.name && a.storage == b.storage
}

/// The worst results of an optimizer's cases, as one report.
fn summary(reports: &[Report], case: &Case) -> Report {
    let storage = case.storage.to_string();
    let of: Vec<&Report> =
        reports.iter().filter(|report| report.optimizer == case.entry.name && report.storage == storage).collect();
    let worst = |number: fn(&Report) -> f64| of.iter().map(|report| number(report)).fold(0.0, f64::max);
    Report {
        case: format!("{}, the worst of {} cases", case.entry.name, of.len()),
        worst_param_ulp: worst(|report| report.worst_param_ulp),
        worst_step_error: worst(|report| report.worst_step_error),
        worst_state_error: worst(|report| report.worst_state_error),
        tolerance: worst(|report| report.tolerance),
        passed: of.iter().all(|report| report.passed),
        ..of[0].clone()
    }
}

/// Prints the worst deviation and the command that repeats the case.
fn explain(report: &Report, case: &Case, backend: &Backend) {
    if let Some(worst) = &report.worst {
        failure::line(format_args!("failed: {}: {worst}", report.case));
    }
    let place = match backend.gpu() {
        Some(gpu) => format!("--backend {} --adapter '{}'", gpu.info.backend.to_str(), gpu.info.name),
        None => "--backend cpu".to_owned(),
    };
    failure::line(format_args!("repeat: wgpu-optim verify --case {} {place}", case.name()));
}
