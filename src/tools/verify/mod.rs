//! The comparison of every optimizer with the f64 oracle, on the user's own hardware.
//!
//! A [`Case`] is an optimizer, one of its [variants](crate::optim::Entry::variants) and a size. [`run`] builds it with several tensors in
//! two groups of different settings, takes single steps from random f32 parameters, gradients and states, and compares parameters and
//! states with the same step in f64 from the same numbers. Cases of 1025 elements and more also take a step that leaves out a tensor, where
//! each tensor has a step count of its own. With the parts, [`Problem`] and [`Errors`], you can check your own rule, your
//! own buffers and your own sizes.
//!
//! Errors are not relative to the weights: a step is a thousandth of a weight, and an optimizer that forgot its decay would pass. Errors
//! are not relative to the step either, because a difference of two large numbers is not that precise. Instead, the oracle repeats each
//! step once for each number that enters the step, with that number changed a little. The sum of the changes of the result is the measure
//! of the result's error. The tolerance is then one number per rule, and it does not depend on the WGSL under test. Your own rule has the
//! tolerance of rules that only add and multiply; [`Errors`] gives the errors of its steps and states, for a limit of your own.

mod compare;
mod oracle;
mod problem;
mod spans;
mod together;
mod tolerance;

use std::fmt;

use serde::Serialize;

pub use compare::{Errors, Place};
pub use problem::{Data, Moved, Outcome, Problem};
pub use spans::Stored;
#[cfg(not(target_arch = "wasm32"))]
pub use together::run_together;
pub use together::{rules_together, run_together_async};

use crate::optim::rule::{need_own_counts, same_rule};
use crate::optim::{ALL, Entry, Rule, Value, find};
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::{Error, Result};

/// Sizes of the default cases: the edges of the kernel's vectors, chunks and spans.
pub const SIZES: &[usize] = &[1, 5, 1023, 1024, 1025, 40_000];

/// Step counts before the step that is compared. 0: initial states and the largest bias corrections. 2: states of so few terms that an
/// error in the sixth digit of a constant shows. 6: RAdam is past its plain steps.
const STEP_COUNTS: [u32; 3] = [0, 2, 6];

/// From this size on, a case tests where tensors lie, and one step count is enough.
const LARGE: usize = 10_000;

/// Cases from this size on also take a step that leaves out a tensor, with tensors that have step counts of their own: these.
const PARTIAL: usize = 1025;
const OWN_COUNTS: [u32; 3] = [3, 0, 6];
/// The name of the case with all rules in one optimizer.
pub const TOGETHER: &str = "together";

/// An optimizer, a variant of its settings, the size of its tensors, and their storage.
#[derive(Clone)]
pub struct Case {
    /// The optimizer.
    pub entry: &'static Entry,
    /// The variant's name.
    pub variant: &'static str,
    /// Elements of the first tensor. The second tensor has half as many, and the third has seven.
    pub size: usize,
    /// How tensors are stored.
    pub storage: Storage,
}

/// The result of [`run`]: one line of `wgpu-optim verify --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The optimizer's name.
    pub optimizer: &'static str,
    /// "gpu" or "cpu".
    pub backend: &'static str,
    /// The adapter's name; `None` on the CPU.
    pub adapter: Option<String>,
    /// How parameters and states are stored.
    pub storage: String,
    /// The case's name.
    pub case: String,
    /// See [`Errors::param_ulp`].
    pub worst_param_ulp: f64,
    /// See [`Errors::step`].
    pub worst_step_error: f64,
    /// See [`Errors::state`].
    pub worst_state_error: f64,
    /// See [`Errors::tolerance`].
    pub tolerance: f64,
    /// Whether the errors of steps and states are within the tolerance.
    pub passed: bool,
    /// The number with the largest error.
    #[serde(skip)]
    pub worst: Option<Place>,
}

/// Every optimizer with every variant and every size, in f32.
#[must_use]
pub fn cases() -> Vec<Case> {
    cases_stored(&Storage::default())
}

/// As [`cases`], with tensors in this storage; without the optimizers that refuse the storage.
#[must_use]
pub fn cases_stored(storage: &Storage) -> Vec<Case> {
    let of_variant = |entry: &'static Entry, variant| {
        let of_size = move |&size| Case { entry, variant, size, storage: storage.clone() };
        SIZES.iter().map(of_size).filter(|case| case.storage.formats(case.rule().as_ref(), 0).is_ok())
    };
    let of_entry = |entry: &'static Entry| {
        entry.variants().into_iter().flat_map(move |(variant, _)| of_variant(entry, variant)).collect::<Vec<_>>()
    };
    ALL.iter().flat_map(of_entry).collect()
}

/// Runs a case on a GPU. Blocks; a page calls [`run_async`].
///
/// # Errors
/// The optimizer cannot be built on this device; the device was lost.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(gpu: &Gpu, case: &Case) -> Result<Report> {
    pollster::block_on(run_async(gpu, case))
}

/// As `run`, but in a page the future yields to the event loop.
///
/// # Errors
/// As `run`.
pub async fn run_async(gpu: &Gpu, case: &Case) -> Result<Report> {
    let errors = run_stored_async(gpu, case.rule().as_ref(), case.size, &case.storage).await?;
    Ok(case.report("gpu", Some(gpu.info.name.clone()), errors))
}

/// Runs a rule on a GPU with these settings and, in a second group, with [other settings](varied), over tensors of up to `size` elements.
///
/// # Errors
/// The rule has no CPU form to compare with; as [`run`].
#[cfg(not(target_arch = "wasm32"))]
pub fn run_rule(gpu: &Gpu, rule: &dyn Rule, size: usize) -> Result<Errors> {
    run_stored(gpu, rule, size, &Storage::default())
}

/// As [`run_rule`], with tensors in this storage. The result is compared with the oracle followed by the same rounding.
///
/// # Errors
/// As [`run_rule`]; the rule refuses the storage.
#[cfg(not(target_arch = "wasm32"))]
pub fn run_stored(gpu: &Gpu, rule: &dyn Rule, size: usize, storage: &Storage) -> Result<Errors> {
    pollster::block_on(run_stored_async(gpu, rule, size, storage))
}

/// As `run_stored`, but in a page the future yields to the event loop.
///
/// # Errors
/// As `run_stored`.
pub async fn run_stored_async(gpu: &Gpu, rule: &dyn Rule, size: usize, storage: &Storage) -> Result<Errors> {
    let mut errors = Errors::default();
    let mut optimizer = None;
    for &step_count in counts(size) {
        let problem = problem(rule, size, step_count)?.stored(storage)?;
        let optimizer = match &mut optimizer {
            Some(optimizer) => optimizer,
            empty => empty.insert(problem.build_async(&gpu.device, &gpu.queue).await?),
        };
        problem.upload(optimizer)?;
        gpu.run_async(|encoder| optimizer.step(encoder)).await?;
        errors.merge(problem.compare(&Outcome::of(optimizer).await?));
    }
    if let Some(optimizer) = optimizer {
        optimizer.destroy();
    }
    if let Some(problem) = partial_problem(rule, size)? {
        let problem = problem.stored(storage)?;
        let mut optimizer = problem.build_async(&gpu.device, &gpu.queue).await?;
        problem.upload(&mut optimizer)?;
        gpu.run_async(|encoder| problem.step(&mut optimizer, encoder)).await?;
        errors.merge(problem.compare(&Outcome::of(&optimizer).await?));
        optimizer.destroy();
    }
    Ok(errors)
}

/// Runs a case on the CPU's fast path.
///
/// # Errors
/// A setting of the case is out of range; the case has a storage other than f32, which only a GPU verifies: the host's rounding is the
/// reference.
pub fn run_cpu(case: &Case) -> Result<Report> {
    if case.storage != Storage::default() {
        let problem =
            format!("storage `{}` is verified on a GPU; on the host its rounding is the reference", case.storage);
        return Err(Error::Usage(problem));
    }
    let mut errors = Errors::default();
    for &step_count in counts(case.size) {
        let problem = problem(case.rule().as_ref(), case.size, step_count)?;
        errors.merge(problem.compare(&problem.step_cpu()?));
    }
    if let Some(problem) = partial_problem(case.rule().as_ref(), case.size)? {
        errors.merge(problem.compare(&problem.step_cpu()?));
    }
    Ok(case.report("cpu", None, errors))
}

/// The rule with other settings, for a second group. Learning rates below 1 become thirty times as large, so that the steps stand out from
/// the rounding of parameters. Every other number becomes a tenth smaller, if its range allows that. Settings that all groups must share
/// stay the same.
#[must_use]
pub fn varied(rule: &dyn Rule) -> Box<dyn Rule> {
    let mut varied = rule.boxed();
    for (name, value) in rule.settings() {
        if let Value::Number(x) = value
            && !rule.common().contains(&name)
        {
            let factor = if name == "lr" && x < 1.0 { 30.0 } else { 0.9 };
            // The setting holds a number, so that setting a number cannot fail.
            let _ = varied.set(name, &Value::Number(factor * x));
            // A setting near the end of its range stays, and so does one of the procedure: with another procedure the rule would be another.
            if varied.check().is_err() || !same_rule(varied.as_ref(), rule) {
                let _ = varied.set(name, &value);
            }
        }
    }
    varied
}

/// All [`rules_together`] in groups of one optimizer, on a GPU: the worst errors of every rule in one report.
///
/// # Errors
/// As [`run_together`].
#[cfg(not(target_arch = "wasm32"))]
pub fn report_together(gpu: &Gpu, size: usize) -> Result<Report> {
    pollster::block_on(report_together_async(gpu, size))
}

/// As `report_together`, but in a page the future yields to the event loop.
///
/// # Errors
/// As [`run_together_async`].
pub async fn report_together_async(gpu: &Gpu, size: usize) -> Result<Report> {
    let errors = run_together_async(gpu, &rules_together(), size).await?;
    let worst = |number: fn(&Errors) -> f64| errors.iter().map(number).fold(0.0, f64::max);
    let failed = errors.iter().find(|errors| !errors.passed());
    Ok(Report {
        optimizer: TOGETHER,
        backend: "gpu",
        adapter: Some(gpu.info.name.clone()),
        storage: Storage::default().to_string(),
        case: format!("{TOGETHER}/{size}"),
        worst_param_ulp: worst(|errors| errors.param_ulp),
        worst_step_error: worst(|errors| errors.step),
        worst_state_error: worst(|errors| errors.state),
        tolerance: worst(|errors| errors.tolerance),
        passed: failed.is_none(),
        worst: failed.and_then(|errors| errors.worst.clone()),
    })
}

fn counts(size: usize) -> &'static [u32] {
    if size < LARGE { &STEP_COUNTS } else { &STEP_COUNTS[1..2] }
}

/// A step that leaves out a tensor, where the rule allows one.
fn partial_problem(rule: &dyn Rule, size: usize) -> Result<Option<Problem>> {
    if !(PARTIAL..LARGE).contains(&size) || need_own_counts(rule, "").is_err() {
        return Ok(None);
    }
    let (tensors, groups) = ([(0, size), (1, size / 2), (1, 7)], vec![rule.boxed(), varied(rule)]);
    Problem::random_partial(groups, &tensors, OWN_COUNTS[2], &OWN_COUNTS, size as u32).map(Some)
}

fn problem(rule: &dyn Rule, size: usize, step_count: u32) -> Result<Problem> {
    let tensors = [(0, size), (1, size / 2), (1, 7)];
    Problem::random(vec![rule.boxed(), varied(rule)], &tensors, step_count, size as u32 + step_count)
}

impl Case {
    /// The case of this name, such as `adamw/amsgrad/1025` or `adamw/default/1025/bf16-sr,8bit`, with any size.
    ///
    /// # Errors
    /// The optimizer, variant or storage does not exist, or the size is not a number.
    pub fn find(name: &str) -> Result<Self> {
        let mut parts = name.splitn(4, '/');
        let entry = find(parts.next().unwrap_or_default())?;
        let variants: Vec<_> = entry.variants().into_iter().map(|(name, _)| name).collect();
        let lacks = |what: &str, before: &str| {
            let known = variants.join(", ");
            Error::Usage(format!(
                "case `{name}` has no {what}: give OPTIMIZER/VARIANT/ELEMENTS, as {before}/1025; the variants of {} are: {known}",
                entry.name
            ))
        };
        let named = |part: Option<&'_ str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
        let first = variants.first().copied().unwrap_or_default();
        let variant = named(parts.next()).ok_or_else(|| lacks("variant", &format!("{}/{first}", entry.name)))?;
        let unknown = || Error::unknown(format!("variant of {}", entry.name), &variant, variants.iter().copied());
        let variant = variants.iter().copied().find(|v| *v == variant).ok_or_else(unknown)?;
        let size = named(parts.next()).ok_or_else(|| lacks("size", &format!("{}/{variant}", entry.name)))?;
        let no_size = |_| Error::Usage(format!("the size of case `{name}` is `{size}`, needs a number of elements"));
        let size = size.parse().map_err(no_size)?;
        let storage = parts.next().map_or_else(|| Ok(Storage::default()), str::parse)?;
        Ok(Self { entry, variant, size, storage })
    }

    /// The case's name; [`find`](Self::find) returns the case of this name.
    #[must_use]
    pub fn name(&self) -> String {
        let storage = if self.storage == Storage::default() { String::new() } else { format!("/{}", self.storage) };
        format!("{}/{}/{}{storage}", self.entry.name, self.variant, self.size)
    }

    /// The case's rule.
    #[must_use]
    pub fn rule(&self) -> Box<dyn Rule> {
        let variants = self.entry.variants();
        let found = variants.into_iter().find(|(name, _)| *name == self.variant);
        found.map_or_else(|| self.entry.sample(), |(_, rule)| rule)
    }

    fn report(&self, backend: &'static str, adapter: Option<String>, errors: Errors) -> Report {
        Report {
            optimizer: self.entry.name,
            backend,
            adapter,
            storage: self.storage.to_string(),
            case: self.name(),
            worst_param_ulp: errors.param_ulp,
            worst_step_error: errors.step,
            worst_state_error: errors.state,
            tolerance: errors.tolerance,
            passed: errors.passed(),
            worst: errors.worst,
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Report {
    /// The heads of the columns that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn header() -> String {
        let heads = ["param ulp", "step", "states", "tolerance"].map(|head| format!("{head:>9}")).join("  ");
        format!("{:<42}  {:<18}  {:<7}  {heads}", "case", "storage", "backend")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<42}  {:<18}  {:<7}  {:>9.2}  {:>9.2e}  {:>9.2e}  {:>9.2e}  {}",
            self.case,
            self.storage,
            self.backend,
            self.worst_param_ulp,
            self.worst_step_error,
            self.worst_state_error,
            self.tolerance,
            if self.passed { "passed" } else { "FAILED" }
        )
    }
}
