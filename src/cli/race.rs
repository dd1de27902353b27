//! `race`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use wgpu_optim::Error;
use wgpu_optim::optim::Value;
use wgpu_optim::tools::files;
use wgpu_optim::tools::race;
use wgpu_optim::tools::race::{Budget, Entrant, Event, Ledger, Outcome, Plan, Role, Size, Standing, report};
use wgpu_optim::tools::report::Run;

use super::failure::Failure;
use super::output::{self, Output};
use super::place::Place;
use super::rules::{self, Named, Optimizers, Settings};
use super::{PASSED, help};

/// Race optimizers on the problems of the papers, over several seeds, with controls that could explain the effect
///
/// For each seed, all entrants have the same data, initial parameters and budget. Errors are means over the seeds. Differences are paired
/// by seed and come with 95 % bootstrap intervals, which mean little with fewer than five seeds. A paper's suite runs at the paper's
/// learning rates, or with --tune at the best rates from one grid for all entrants. A problem's suite is tuned.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    /// The suite; see below
    #[arg(value_name = "SUITE")]
    suite: String,
    #[command(flatten)]
    optimizers: Optimizers,
    /// Race your own rule, the WGSL in this file, beside the others; all entrants then run on the GPU
    #[arg(long, value_name = "FILE")]
    rule: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// A setting of the problem, such as rows=300; repeat the option for several
    #[arg(long = "problem", value_name = "KEY=VALUE", value_parser = rules::setting)]
    problem: Vec<(String, Value)>,
    /// The data file, for problems that need one
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Skip malformed lines of the file, and ratings that are given twice
    #[arg(long, requires = "file")]
    skip_bad: bool,
    /// Run only the heats whose names contain this text; repeat the option for several
    #[arg(long = "heat", value_name = "TEXT")]
    heats: Vec<String>,
    /// The number of seeds per optimizer; without the option: the paper's number, mostly five
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Choose learning rates from the grid by validation error; --tune=false uses the defaults
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tune: Option<bool>,
    /// The end of each run: steps:N, evals:N or seconds:S; without a number, the suite's number
    #[arg(long, value_name = "KIND:N", allow_negative_numbers = true)]
    budget: Option<Budget>,
    /// A smoke run: the first heat of each kind, a quarter of the steps, two seeds
    #[arg(long)]
    quick: bool,
    /// Write report.md, runs.csv and plots to this directory; an interrupted race resumes from the runs that the directory holds
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per finished run, then one per standing
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    let suites: Vec<String> = race::suites().map(|s| format!("  {:<14} {}", s.name, s.about)).collect();
    format!(
        "\
Suites:
{}

With --optimizer, a problem's suite races these optimizers alone; a paper's suite races them beside its own entrants. --set applies \
to the optimizers that --optimizer names, or else to --rule.

Examples:
  wgpu-optim race matrix --quick
  wgpu-optim race matrix --optimizer adam --optimizer adamw --seeds 10 --report matrix
  wgpu-optim race matrix --problem rows=400 --problem columns=500 --budget seconds:5
  wgpu-optim race matrix --optimizer adam --set lr=0.003 --tune=false --json
  wgpu-optim race matrix --rule my_rule.wgsl --backend gpu
  wgpu-optim race paper-flowadam --heat matrix --heat tensor --report flowadam

{}
{}",
        suites.join("\n"),
        help::optimizers(),
        help::EXIT
    )
}

impl Options {
    fn plan(&self) -> Result<Plan, Failure> {
        let size = if self.quick { Size::Quick } else { Size::Full };
        let mut plan = race::suite(&self.suite)?.plan(size, self.file.as_deref())?;
        if !self.heats.is_empty() {
            plan.keep(&self.heats)?;
        }
        plan.seeds = self.seeds.or(plan.seeds);
        plan.tune = self.tune.unwrap_or(plan.tune);
        plan.budget = self.budget.or(plan.budget);
        let entrants = self.entrants()?;
        for heat in &mut plan.heats {
            heat.track.settings.extend(self.problem.iter().cloned());
            if self.skip_bad && heat.track.file.is_some() {
                heat.track.settings.push(("skip_bad".to_owned(), Value::Flag(true)));
            }
            let alone = heat.entrants.iter().all(|entrant| entrant.role == Role::Rival);
            if alone && !self.optimizers.names.is_empty() {
                heat.entrants.clear();
            }
            heat.entrants.extend(entrants.iter().cloned());
        }
        plan.check()?;
        Ok(plan)
    }

    /// Checks that the report overwrites none of the files that the race reads.
    fn check_files(&self, plan: &Plan) -> Result<(), Failure> {
        let Some(directory) = &self.report else { return Ok(()) };
        let named = [("--file", &self.file), ("--rule", &self.rule)].into_iter();
        let inputs: Vec<_> = named.filter_map(|(option, path)| Some((option, path.as_deref()?))).collect();
        let outputs: Vec<PathBuf> = report::names(plan).map(|name| directory.join(name)).collect();
        let outputs: Vec<_> = outputs.iter().map(|path| ("--report", path.as_path())).collect();
        Ok(files::check(&inputs, &outputs)?)
    }

    /// The entrants that the options name.
    fn entrants(&self) -> Result<Vec<Entrant>, Failure> {
        if self.rule.is_none() && self.optimizers.names.is_empty() && !self.settings.pairs.is_empty() {
            return Err(Error::Usage("--set needs --optimizer or --rule, the optimizer that it sets".to_owned()).into());
        }
        let own = self.rule.as_ref().map(|file| {
            let rule = rules::custom(file, self.settings.iter().filter(|_| self.optimizers.names.is_empty()))?;
            Ok(Entrant::new(rule.name(), Role::Rival, rule))
        });
        let named = self.optimizers.names.iter().map(|Named(entry)| {
            let rule = entry.configure(self.settings.iter())?;
            let settings = self.settings.iter().map(|(name, value)| format!(" {name}={value}"));
            Ok(Entrant::new(format!("{}{}", entry.name, settings.collect::<String>()), Role::Rival, rule))
        });
        named.chain(own).collect()
    }
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let plan = options.plan()?;
    options.check_files(&plan)?;
    let mut ledger = options.report.as_deref().map_or_else(|| Ok(Ledger::default()), Ledger::open)?;
    let out = Output::new(options.json);
    let backend = options.place.open(options.rule.is_some())?.backend;
    let about = Run::now(backend.gpu().map(|gpu| &gpu.info));
    out.json(&about)?;
    if !ledger.is_empty() {
        Output::note(format_args!(
            "the report holds {} runs: this race does not repeat those of its own runs",
            ledger.len()
        ));
    }
    let bar = output::bar(0, &plan.suite);
    let mut printed = Ok(());
    let race = race::run(&plan, &backend, &mut ledger, |event| match event {
        Event::Planned { runs, .. } => bar.inc_length(runs as u64),
        Event::Measured(..) => {}
        Event::Ended(outcome) => {
            bar.set_message(outcome.key.entrant.clone());
            bar.inc(1);
            if printed.is_ok() {
                printed = out.json(&record(outcome));
            }
        }
    });
    bar.finish_and_clear();
    printed?;
    let race = race?;
    let standings = race::standings(&plan, &race);
    table(&plan, &standings, &out)?;
    if let Some(directory) = &options.report {
        let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        let command = arguments.collect::<Vec<_>>().join(" ");
        let (command, backend) = (format!("wgpu-optim {command}"), backend.describe());
        report::write(
            directory,
            &plan,
            &race,
            &standings,
            &report::About { run: &about, command: &command, backend: &backend },
        )?;
        out.text(format_args!("\nwrote {}", directory.join("report.md").display()))?;
    }
    Ok(PASSED)
}

/// A run in JSON, without its points.
fn record(outcome: &Outcome) -> Json {
    json!({
        "kind": "run",
        "heat": outcome.key.heat,
        "entrant": outcome.key.entrant,
        "optimizer": outcome.key.optimizer,
        "settings": outcome.key.settings,
        "treatment": outcome.key.treatment,
        "storage": outcome.key.storage,
        "budget": outcome.key.budget,
        "seed": outcome.key.seed,
        "backend": outcome.key.backend,
        "lr": outcome.lr,
        "steps": outcome.cost.steps,
        "gradients": outcome.cost.gradients,
        "losses": outcome.cost.losses,
        "seconds": outcome.cost.seconds,
        "state_bytes": outcome.state_bytes,
        "diverged": outcome.diverged,
        "loss": outcome.loss,
        "measure": outcome.measure,
        "validation": outcome.validation,
        "error": outcome.test,
        "early_stopped_error": outcome.early,
        "triggers": outcome.triggers,
        "damping": outcome.damping,
        "sharpness": outcome.sharpness,
    })
}

fn table(plan: &Plan, standings: &[Standing], out: &Output) -> Result<(), Failure> {
    for standing in standings {
        let mut object = serde_json::to_value(standing).map_err(|e| Failure::Output(e.into()))?;
        object["kind"] = "standing".into();
        out.json(&object)?;
    }
    for heat in &plan.heats {
        let of_heat: Vec<&Standing> = standings.iter().filter(|s| s.heat == heat.name).collect();
        out.text(format_args!("\n{}", report::heading(heat)))?;
        if let Some(caution) = report::caution(&of_heat) {
            out.text(caution)?;
        }
        for line in report::lines(&of_heat) {
            out.text(line)?;
        }
    }
    Ok(())
}
