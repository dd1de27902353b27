//! `bench`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use wgpu_optim::optim::{self, Entry};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::backend::{Kind, Request};
use wgpu_optim::tools::bench;
use wgpu_optim::tools::bench::{BackendKind, Measurement, Plan, Size, With};
use wgpu_optim::{Error, Rule, storage};

use super::failure::Failure;
use super::output::{self, Output};
use super::place::Place;
use super::rules::{self, Named, Optimizers, Settings, Storages};
use super::{PASSED, PAST, help};

/// Measure the time of a step, beside a copy and a stream kernel over arrays of the same sizes
///
/// Each GB/s is the bytes that the rule must move divided by the median time. The copy reads one array and writes one; the stream kernel
/// reads four arrays and writes three, as AdamW does. `of copy` and `of stream` are the step's GB/s divided by those of the copy and of
/// the stream kernel. The three are measured in turn, so that a noisy machine slows them alike. `spread` is the range of the middle four
/// fifths of the times, as a share of the median.
///
/// The first times are from submit to completion. `gpu ms`, with its own `of copy`, is the median by the GPU's own clock, where the device
/// writes timestamps: from the begin of the step's first pass to the end of its last. --json also has the time of each stage.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    optimizers: Optimizers,
    /// Measure your own rule, the WGSL in this file, instead of --optimizer; it runs on the GPU
    #[arg(long, value_name = "FILE", conflicts_with = "names")]
    rule: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Numbers of tensors, separated by commas; without --elements: 1 tensor of a million elements and 1000 tensors of a thousand
    #[arg(long, value_name = "K", value_delimiter = ',', requires = "elements")]
    tensors: Vec<usize>,
    /// Elements of each tensor, or its rows and columns as 768x3072: one for each number of --tensors, or one for all
    #[arg(long, value_name = "N", value_delimiter = ',')]
    elements: Vec<Elements>,
    /// How long one measurement lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// The least number of steps timed
    #[arg(long, value_name = "N", default_value_t = 5)]
    samples: usize,
    /// Measure the step with clip, scale, ema, accumulate, partial, rows or fresh, several of them separated by commas, or none; repeat the option for several
    /// combinations
    #[arg(long, value_name = "FEATURES")]
    with: Vec<With>,
    #[command(flatten)]
    storages: Storages,
    /// Compare with the lines that an earlier `bench --json` wrote to this file
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How much longer than in the baseline a step may take: 0.05 is 5 %
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    max_regression: f64,
    /// Measure instead the time that recording a step takes on the caller's thread: for 1 tensor, for 1000, and for 1000 when every step
    /// rebinds the gradients
    #[arg(long, conflicts_with_all = ["tensors", "elements", "baseline", "with", "given"])]
    recording: bool,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per measurement
    #[arg(long)]
    json: bool,
}

/// The size of a tensor: the number of its elements, or its rows and columns.
#[derive(Clone, Copy, Debug)]
struct Elements {
    count: usize,
    columns: Option<usize>,
}

impl FromStr for Elements {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| {
            let refuse = || Error::Usage(format!("`{text}` is no number of elements: give 1000000, or 768x3072"));
            text.trim().parse::<usize>().map_err(|_| refuse())
        };
        let Some((rows, columns)) = text.split_once('x') else {
            return Ok(Self { count: number(text)?, columns: None });
        };
        let (rows, columns) = (number(rows)?, number(columns)?);
        let count = rows.checked_mul(columns);
        let count =
            count.ok_or_else(|| Error::Usage(format!("a matrix of {text} has more than {} elements", usize::MAX)))?;
        Ok(Self { count, columns: Some(columns) })
    }
}

fn after_help() -> String {
    format!(
        "\
Without --backend, the command measures any adapter, software adapters included, and the CPU. Without --storage, it measures f32. \
Settings start from the defaults with weight decay 0.1, and with lr 0.1 if a rule requires one. No time depends on the values of \
settings, but a step does not move a state that a setting turns off.

The bytes per element include those of --with: clip and scale read the gradient once more (4 bytes, shared with the rule's sums); \
ema moves 8 bytes; with accumulate, a step is two micro-batches, which move 12 bytes for the first, 8 for the step, and 4 more \
wherever the gradient is read for sums.

Examples:
  wgpu-optim bench --optimizer adamw
  wgpu-optim bench --optimizer vradam --tensors 1,300,1000 --elements 10000 --backend gpu
  wgpu-optim bench --optimizer muon --tensors 12 --elements 768x3072 --backend gpu
  wgpu-optim bench --optimizer adamw --with none --with clip --with clip,scale,ema --backend gpu
  wgpu-optim bench --optimizer adamw --storage f32 --storage bf16-sr --storage 8bit
  wgpu-optim bench --rule my_rule.wgsl --set lr=0.1
  wgpu-optim bench --optimizer adamw --recording --backend gpu
  wgpu-optim bench --json > before.jsonl
  wgpu-optim bench --baseline before.jsonl --max-regression 0.05

{}

{}
{}",
        storage::HELP,
        help::optimizers(),
        help::EXIT
    )
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let mut plan = options.plan()?;
    let baseline = options.baseline.as_deref().map(bench::read_baseline).transpose()?;
    let out = Output::new(options.json);
    let gpu = open(&options.place.request_for(options.rule.is_some())?, &mut plan)?;
    out.header(gpu.as_ref().map(|gpu| &gpu.info))?;
    if options.recording {
        return recordings(&plan, gpu.as_ref(), &out);
    }
    title(&plan, gpu.as_ref(), &out)?;
    let bar = output::bar(plan.count() as u64, "bench");
    let mut printed = Ok(());
    let results = bench::run(&plan, gpu.as_ref(), |result| {
        if printed.is_ok() {
            printed = bar.suspend(|| line(result, &out));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    printed?;
    let results = results?;
    match baseline {
        None => Ok(PASSED),
        Some(baseline) => compare(&baseline, &results, options.max_regression, &out),
    }
}

impl Options {
    fn plan(&self) -> Result<Plan, Failure> {
        let all: Vec<Named> = optim::ALL.iter().map(Named).collect();
        let named = if self.optimizers.names.is_empty() { &all } else { &self.optimizers.names };
        let rules = match &self.rule {
            Some(file) => vec![rules::custom(file, self.settings.iter())?],
            None => named.iter().map(|Named(entry)| self.rule(entry)).collect::<Result<_, _>>()?,
        };
        let mut plan = Plan { rules, seconds: self.seconds, samples: self.samples, ..Plan::default() };
        if !self.with.is_empty() {
            plan.with.clone_from(&self.with);
        }
        if !self.storages.given.is_empty() {
            plan.storages.clone_from(&self.storages.given);
        }
        if !self.elements.is_empty() {
            plan.sizes = self.sizes()?;
        }
        Ok(plan)
    }

    fn rule(&self, entry: &Entry) -> Result<Box<dyn Rule>, Failure> {
        let mut rule = entry.sample();
        for (name, value) in self.settings.iter() {
            rule.set(name, &value)?;
        }
        rule.check()?;
        Ok(rule)
    }

    fn sizes(&self) -> Result<Vec<Size>, Failure> {
        let tensors = if self.tensors.is_empty() { &[1][..] } else { &self.tensors };
        let count = tensors.len().max(self.elements.len());
        let (tensors, elements) = (one_for_all(tensors, count), one_for_all(&self.elements, count));
        let (Some(tensors), Some(elements)) = (tensors, elements) else {
            return Err(Error::Usage(format!(
                "--tensors has {} numbers and --elements {}: give equally many, or one for all",
                self.tensors.len(),
                self.elements.len()
            ))
            .into());
        };
        let size = |(tensors, of): (_, Elements)| Size { tensors, elements: of.count, columns: of.columns };
        Ok(tensors.into_iter().zip(elements).map(size).collect())
    }
}

/// As many as `count`: those of the list, or the one that it holds for each.
fn one_for_all<T: Copy>(list: &[T], count: usize) -> Option<Vec<T>> {
    match list {
        [one] => Some(vec![*one; count]),
        list => (list.len() == count).then(|| list.to_vec()),
    }
}

/// Sets the plan's backends to the requested ones, and opens the adapter if a GPU is one of them.
fn open(request: &Request, plan: &mut Plan) -> Result<Option<Gpu>, Failure> {
    let gpu = match request.kind {
        Some(Kind::Reference) => {
            return Err(Error::Usage("the reference is not measured: use --backend gpu or cpu".to_owned()).into());
        }
        Some(Kind::Cpu) => None,
        Some(Kind::Gpu) => Some(pollster::block_on(request.selector.open())?),
        None => match pollster::block_on(request.selector.open()) {
            Err(error @ Error::NoAdapter(_)) => {
                Output::note(format_args!("only the CPU is measured: {error}"));
                None
            }
            opened => Some(opened?),
        },
    };
    let cpu = request.kind != Some(Kind::Gpu);
    let backends = [gpu.is_some().then_some(BackendKind::Gpu), cpu.then_some(BackendKind::Cpu)];
    plan.backends = backends.into_iter().flatten().collect();
    Ok(gpu)
}

fn recordings(plan: &Plan, gpu: Option<&Gpu>, out: &Output) -> Result<u8, Failure> {
    let gpu = gpu.ok_or_else(|| Error::Usage("--recording measures a GPU and needs an adapter".to_owned()))?;
    out.text(format_args!("gpu: {}", gpu.name()))?;
    out.text(format_args!(
        "{:<10} {:>8} {:>10}  {:>9} {:>9}",
        "optimizer", "tensors", "gradients", "record µs", "finish µs"
    ))?;
    for rule in &plan.rules {
        for (tensors, rebinds) in [(1, false), (1000, false), (1000, true)] {
            let r = bench::recording(gpu, rule.as_ref(), tensors, rebinds)?;
            out.json(&r)?;
            let gradients = if rebinds { "rebound" } else { "bound" };
            let (record, finish) = (1e6 * r.record_s, 1e6 * r.finish_s);
            out.text(format_args!("{:<10} {tensors:>8} {gradients:>10}  {record:>9.1} {finish:>9.1}", rule.name()))?;
        }
    }
    Ok(PASSED)
}

fn title(plan: &Plan, gpu: Option<&Gpu>, out: &Output) -> Result<(), Failure> {
    for backend in &plan.backends {
        let place = match (backend, gpu) {
            (BackendKind::Gpu, Some(gpu)) => gpu.name(),
            _ => format!("{}, {}", wgpu_optim::tools::report::cpu_name(), wgpu_optim::cpu::vector_units()),
        };
        out.text(format_args!("{backend}: {place}"))?;
    }
    head(out)
}

/// Prints the heads of the columns that [`line`] prints.
pub(super) fn head(out: &Output) -> Result<(), Failure> {
    out.text(format_args!(
        "{:<10} {:<15} {:<18} {:<7} {:>20}  {:>10} {:>10} {:>7}  {:>7} {:>7} {:>8} {:>9}  {:>10} {:>8}  dispatches",
        "optimizer",
        "with",
        "storage",
        "backend",
        "tensors × elements",
        "median ms",
        "least ms",
        "spread",
        "bytes",
        "GB/s",
        "of copy",
        "of stream",
        "gpu ms",
        "of copy"
    ))
}

/// Prints a measurement.
pub(super) fn line(m: &Measurement, out: &Output) -> Result<(), Failure> {
    out.json(m)?;
    let size = m.size();
    let by_gpu = m.gpu.as_ref().map_or_else(
        || format!("{:>10} {:>8}", "-", "-"),
        |gpu| format!("{:>10.3} {:>8.2}", 1e3 * gpu.gpu_median_s, gpu.gpu_of_copy),
    );
    out.text(format_args!(
        "{:<10} {:<15} {:<18} {:<7} {size:>20}  {:>10.3} {:>10.3} {:>7.2}  {:>7.2} {:>7.1} {:>8.2} {:>9.2}  {by_gpu}  {}",
        m.optimizer,
        m.with.to_string(),
        m.storage,
        m.backend.to_string(),
        1e3 * m.median_s,
        1e3 * m.min_s,
        m.spread.unwrap_or(f64::NAN),
        m.bytes_per_element,
        m.gb_per_s,
        m.gb_per_s / m.copy_gb_per_s,
        m.share_of_stream(),
        m.dispatches.map_or_else(|| "-".to_owned(), |n| n.to_string())
    ))
}

fn compare(baseline: &[Measurement], results: &[Measurement], most: f64, out: &Output) -> Result<u8, Failure> {
    let slower = bench::compare(baseline, results, most)?;
    for regression in &slower {
        super::failure::line(format_args!("regressed: {regression}"));
    }
    if slower.is_empty() {
        out.text(format_args!(
            "no regression: none of {1} measurements is more than {0:.1} % slower than its baseline",
            100.0 * most,
            results.len()
        ))?;
        return Ok(PASSED);
    }
    Ok(PAST)
}
