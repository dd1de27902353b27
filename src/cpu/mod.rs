//! The optimizers on the host: in f64 the oracle that everything is compared with, plain and one element at a time; in f32 the fast path,
//! on all cores and with the widest vector units found at run time.

mod around;
mod decide;
mod eval_params;
mod evaluate;
mod flow;
mod no_decay;
mod probe;
mod rows;
#[cfg(feature = "checkpoint")]
mod snapshot;
mod storage;
mod telemetry;
mod walk;
mod warp;

#[cfg(feature = "checkpoint")]
pub(crate) use crate::cpu::snapshot::Counters;
use crate::cpu::storage::{Draws, Stored};
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::host::HostKernel;
use crate::optim::rule::{MAX_SUMS, Real, check_common, goes_on, need_cpu, same_rule};
use crate::optim::{Procedure, Rule, StateSpec, Sums, Value};
use crate::options::around::{Accumulate, Around, Clip, Ema, LossScale};
use crate::options::schedule::{Schedule, Scheduled, refuse_owned, scalars_at};
use crate::{Error, Result};
use around::Surroundings;
use decide::Decider;
use probe::Probes;
use rows::RowSets;
use warp::Warped;

/// The number types that an [`Optimizer`] runs in.
pub trait Number: Real {
    /// Whether this is the fast path.
    const FAST: bool;
    /// The rule's mathematics in this type.
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self>;
}

impl Number for f32 {
    const FAST: bool = true;
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self> {
        rule.cpu_f32()
    }
}

impl Number for f64 {
    const FAST: bool = false;
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self> {
        rule.cpu_f64()
    }
}

/// The vector units that the fast path takes on this processor.
#[must_use]
pub fn vector_units() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    "as compiled"
}

/// A tensor to be optimized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, unlike any other tensor's.
    pub name: String,
    /// The index of its group.
    pub group: usize,
    /// How many numbers it holds; 0 is valid.
    pub elements: usize,
}

#[derive(Debug)]
struct Group {
    name: String,
    rule: Box<dyn Rule>,
    maximize: bool,
    scheduled: Vec<Scheduled>,
}

/// A tensor's states and what the last step found about it.
#[derive(Debug)]
struct Tensor<F> {
    spec: TensorSpec,
    states: Vec<Option<Vec<F>>>,
    sums: [f64; MAX_SUMS],
    own: Vec<F>,
    decision: Vec<F>,
    /// Each element's rate in the step under way; none: 1.
    rates: Vec<F>,
    /// The elements of a row, where they share one second moment.
    shared: Option<usize>,
    stored: Stored<F>,
    warp: Option<Warped<F>>,
}

/// A group's rule with the scalars of one step.
struct Scaled<'a, F> {
    cpu: &'a dyn HostKernel<F>,
    hyper: Vec<F>,
    rule: &'a dyn Rule,
    sums: Sums,
}

impl<F: Number> Scaled<'_, F> {
    /// A member of `Hyper`; 0 where the rule has none of this name.
    fn member(&self, name: &str) -> F {
        let at = self.rule.scalars(1).iter().position(|s| s.name == name);
        at.map_or(F::zero(), |at| self.hyper[at])
    }

    /// One of the rule's flags.
    fn flag(&self, name: &str) -> bool {
        self.rule.flags().iter().any(|(n, on)| *n == name && *on)
    }
}

/// An optimizer on the host: `Optimizer<f64>` is the oracle, `Optimizer<f32>` the fast path. Its results are the same bits on every run,
/// however many threads there are.
///
/// ```
/// use wgpu_optim::cpu::{Optimizer, TensorSpec};
/// use wgpu_optim::optim::AdamW;
///
/// # fn main() -> wgpu_optim::Result<()> {
/// let groups = vec![("all".to_owned(), Box::new(AdamW::default()) as _)];
/// let tensors = vec![TensorSpec { name: "w".to_owned(), group: 0, elements: 3 }];
/// let mut optimizer = Optimizer::<f32>::new(groups, tensors)?;
/// let mut w = [1.0, 2.0, 3.0];
/// optimizer.step(&mut [&mut w], &[&[0.1, 0.0, -0.1]])?;
/// assert!(w[0] < 1.0 && w[2] > 2.999);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Optimizer<F> {
    groups: Vec<Group>,
    tensors: Vec<Tensor<F>>,
    applied: u64,
    totals: Vec<f64>,
    memory: Vec<F>,
    around: Surroundings<F>,
    rows: RowSets<F>,
    probes: Probes<F>,
    evaluations: Evaluations,
    seed: u64,
    draws: Draws,
}

impl<F: Number> Optimizer<F> {
    /// An optimizer of these tensors, each with the settings of its group; all states are at their first values.
    ///
    /// # Errors
    /// No group; groups of different optimizers; a rule without a CPU form; a setting out of range; a name given twice; a tensor of a group that is not there.
    pub fn new(groups: Vec<(String, Box<dyn Rule>)>, tensors: Vec<TensorSpec>) -> Result<Self> {
        let group = |(name, rule)| Group { name, rule, maximize: false, scheduled: Vec::new() };
        let groups: Vec<Group> = groups.into_iter().map(group).collect();
        check_groups(&groups)?;
        check_tensors(&groups, &tensors)?;
        let around = Surroundings::new(Around::default(), &tensors);
        let memory = vec![F::zero(); groups[0].rule.global_state().len()];
        let probes = Probes::new(groups[0].rule.procedure());
        let rows = RowSets::new(tensors.len());
        let tensors = tensors.into_iter().map(|spec| Tensor::new(&groups, spec)).collect();
        let (totals, evaluations) = (Vec::new(), Evaluations::default());
        Ok(Self {
            groups,
            tensors,
            applied: 0,
            totals,
            memory,
            around,
            rows,
            probes,
            evaluations,
            seed: 0,
            draws: Draws::new(0),
        })
    }

    /// Decides the directions of the rule's probes, and which way numbers are rounded that are rounded by chance. Default 0.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.draws = Draws::new(seed);
        self
    }

    /// Clips gradients inside the step.
    ///
    /// # Errors
    /// The largest norm or value is not a finite number above 0.
    pub fn with_clip(self, clip: Clip) -> Result<Self> {
        self.surrounded(|around| around.clip = Some(clip))
    }

    /// Divides gradients by a loss scale and leaves a step out where a gradient is not finite.
    ///
    /// # Errors
    /// A number of the scale makes no sense.
    pub fn with_loss_scale(self, scale: LossScale) -> Result<Self> {
        self.surrounded(|around| around.loss_scale = Some(scale))
    }

    /// Leaves a step out where a gradient is not finite.
    ///
    /// # Errors
    /// None at present.
    pub fn skipping_nonfinite(self) -> Result<Self> {
        self.surrounded(|around| around.skip_nonfinite = true)
    }

    /// Joins the gradients of micro-batches, given with [`accumulate`](Self::accumulate).
    ///
    /// # Errors
    /// A mean over none.
    pub fn with_accumulation(self, how: Accumulate) -> Result<Self> {
        self.surrounded(|around| around.accumulate = Some(how))
    }

    /// Keeps an average of the weights: [`ema`](Self::ema).
    ///
    /// # Errors
    /// The decay is not in [0, 1).
    pub fn with_ema(self, ema: Ema) -> Result<Self> {
        self.surrounded(|around| around.ema = Some(ema))
    }

    /// Climbs instead of descending, for a group.
    ///
    /// # Errors
    /// There is no such group.
    pub fn maximizing(mut self, group: usize) -> Result<Self> {
        let count = self.groups.len();
        let info = self.groups.get_mut(group);
        info.ok_or_else(|| Error::Usage(format!("group {group} does not exist, there are {count}")))?.maximize = true;
        self.surrounded(|around| around.signed = true)
    }

    fn surrounded(mut self, change: impl FnOnce(&mut Around)) -> Result<Self> {
        let mut around = self.around.around;
        change(&mut around);
        around.check()?;
        let specs: Vec<TensorSpec> = self.tensors().cloned().collect();
        self.around = Surroundings::new(around, &specs);
        Ok(self)
    }

    /// Adds a micro-batch's gradients to the accumulator; the step adds the last one's itself.
    ///
    /// # Errors
    /// A count or length that does not fit; accumulation was not asked for.
    pub fn accumulate(&mut self, grads: &[&[F]]) -> Result<()> {
        if self.around.around.accumulate.is_none() {
            return Err(Error::Usage("the optimizer was built without accumulation".to_owned()));
        }
        self.check_count("gradients", grads.len())?;
        for (tensor, g) in self.tensors.iter().zip(grads) {
            tensor.check_length("gradient", g.len())?;
        }
        match self.stored_gradients(grads) {
            None => self.around.accumulate(grads),
            Some(rounded) => self.around.accumulate(&slices(&rounded)),
        }
        Ok(())
    }

    /// A tensor's average of the weights, where it is kept; zeros before the first step.
    #[must_use]
    pub fn ema(&self, tensor: usize) -> Option<&[F]> {
        self.around.ema.get(tensor).map(Vec::as_slice)
    }

    /// The loss scale as it is now; 1 where there is none.
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.around.scale
    }

    /// How many steps were left out because a gradient was not finite.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.around.skipped
    }

    /// One step: parameters and states move, and [`step_count`](Self::step_count) counts it. `params` and `grads` come in the order of the
    /// tensors. A step that the rule refuses (Adai's, where every gradient so far was zero) changes nothing and is not counted.
    ///
    /// # Errors
    /// A count or length that does not fit, a schedule's value out of range, a rule that evaluates gradients inside the step (then
    /// [`step_with`](Self::step_with)); nothing was changed then.
    pub fn step(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if let Procedure::Integrate(_) = self.procedure() {
            let rule = self.groups[0].rule.name();
            return Err(Error::Usage(format!("{rule} evaluates gradients inside the step: call step_with")));
        }
        self.check_lengths(params, grads)?;
        match self.stored_gradients(grads) {
            None => self.in_full(params, |optimizer, params| optimizer.step_in_full(params, grads)),
            Some(rounded) => {
                self.in_full(params, |optimizer, params| optimizer.step_in_full(params, &slices(&rounded)))
            }
        }
    }

    /// A step, whatever parameters and gradients are stored as.
    fn step_in_full(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        if self.around.passes_gradients() && self.rows.is_empty() {
            return self.apply(params, grads);
        }
        let before = self.before(params);
        let applied = match self.prepare(grads) {
            None => Ok(()),
            Some(prepared) => {
                let applied = self.apply_selected(params, &slices(&prepared));
                self.around.prepared = prepared;
                applied
            }
        };
        self.measure(before, params);
        applied
    }

    /// The gradients as the rule sees them, or nothing where the step is left out. They go back to `around.prepared`.
    fn prepare(&mut self, grads: &[&[F]]) -> Option<Vec<Vec<F>>> {
        let group_of: Vec<usize> = self.tensors.iter().map(|t| t.spec.group).collect();
        let goes = self.around.prepare(&self.groups, &group_of, &mut self.rows, grads);
        goes.then(|| std::mem::take(&mut self.around.prepared))
    }

    /// The rule's step, with gradients as it sees them.
    fn apply(&mut self, params: &mut [&mut [F]], grads: &[&[F]]) -> Result<()> {
        let groups = scale(&self.groups, self.applied + 1)?;
        let mut decider = Decider { totals: &mut self.totals, memory: &mut self.memory, slopes: &self.probes.slopes };
        if !decider.decide(&groups, &mut self.tensors, params, grads) {
            return Ok(());
        }
        conclude(&groups, &mut self.tensors, &mut self.around, (&mut self.applied, &mut self.draws), params, grads);
        Ok(())
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorSpec> {
        self.tensors.iter().map(|t| &t.spec)
    }

    /// A tensor's state, where the settings keep it.
    #[must_use]
    pub fn state(&self, tensor: usize, name: &str) -> Option<&[F]> {
        let at = self.state_index(tensor, name)?;
        self.tensors[tensor].states[at].as_deref()
    }

    /// A tensor's state, to be overwritten.
    #[must_use]
    pub fn state_mut(&mut self, tensor: usize, name: &str) -> Option<&mut [F]> {
        let at = self.state_index(tensor, name)?;
        self.tensors[tensor].states[at].as_deref_mut()
    }

    /// A group's settings.
    ///
    /// # Panics
    /// There is no such group.
    #[must_use]
    pub fn rule(&self, group: usize) -> &dyn Rule {
        self.groups[group].rule.as_ref()
    }

    /// Changes a group's setting from the next step on.
    ///
    /// # Errors
    /// An unknown group or setting, a value out of range, one that asks for other states than the optimizer was built with, or that
    /// belongs to a schedule.
    pub fn set(&mut self, group: usize, name: &str, value: &Value) -> Result<()> {
        let at = group;
        let group = self.group_mut(at)?;
        refuse_owned(&group.scheduled, &group.name, name)?;
        let mut rule = group.rule.clone();
        rule.set(name, value)?;
        rule.check()?;
        if !goes_on(rule.as_ref(), group.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "group `{}`: {name} = {value} changes which states are kept; build the optimizer with it",
                group.name
            )));
        }
        let before = std::mem::replace(&mut group.rule, rule);
        let common = check_common(self.groups.iter().map(|g| (g.name.as_str(), g.rule.as_ref())));
        if common.is_err() {
            self.groups[at].rule = before;
        }
        common
    }

    /// Gives a group's learning rate to a schedule: the step before which t steps were applied uses `schedule.rate(t)`. The
    /// group's own rate is the base of a schedule that has none, and cannot be set any more.
    ///
    /// # Errors
    /// An unknown group; a number of the schedule that makes no sense; a first rate out of range.
    pub fn schedule(&mut self, group: usize, schedule: impl Into<Schedule>) -> Result<()> {
        self.schedule_setting(group, "lr", schedule)
    }

    /// As [`schedule`](Self::schedule), for any numeric setting. A later schedule of the same setting takes the place of an earlier.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule); an unknown setting; a first value that asks for other states.
    pub fn schedule_setting(&mut self, group: usize, setting: &str, schedule: impl Into<Schedule>) -> Result<()> {
        let group = self.group_mut(group)?;
        let scheduled = Scheduled::new(group.rule.as_ref(), setting, schedule.into());
        scheduled.check(group.rule.as_ref(), &group.name)?;
        group.scheduled.retain(|s| s.setting != setting);
        group.scheduled.push(scheduled);
        Ok(())
    }

    /// How many steps were applied.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.applied
    }

    /// Sets the count of applied steps, as when states are restored.
    pub fn set_step_count(&mut self, t: u64) {
        self.applied = t;
    }

    /// What decisions remember of earlier steps, by name.
    #[must_use]
    pub fn global_state(&self, name: &str) -> Option<F> {
        self.groups[0].rule.global_state().iter().position(|n| *n == name).map(|i| self.memory[i])
    }

    /// What decisions remember, in the rule's order; empty for most rules.
    #[must_use]
    pub fn global_state_values(&self) -> &[F] {
        &self.memory
    }

    /// Sets what decisions remember, as when states are restored.
    ///
    /// # Errors
    /// Another count than the rule's.
    pub fn set_global_state(&mut self, values: &[F]) -> Result<()> {
        if values.len() != self.memory.len() {
            let problem = format!("{} numbers were given, the rule remembers {}", values.len(), self.memory.len());
            return Err(Error::Usage(problem));
        }
        self.memory.copy_from_slice(values);
        Ok(())
    }

    /// What the last step decided for a tensor, by the decision's member: S-Adam's `damp` and `lgi`, FlowAdam's `flow`. `None` before
    /// the first step.
    #[must_use]
    pub fn decision(&self, tensor: usize, name: &str) -> Option<F> {
        let at = self.groups[0].rule.decision().iter().position(|n| *n == name)?;
        self.tensors.get(tensor)?.decision.get(at).copied()
    }

    /// The rule's totals over all tensors in the last step; empty for rules without sums.
    #[must_use]
    pub fn totals(&self) -> &[f64] {
        &self.totals
    }

    fn group_mut(&mut self, group: usize) -> Result<&mut Group> {
        let count = self.groups.len();
        self.groups
            .get_mut(group)
            .ok_or_else(|| Error::Usage(format!("group {group} does not exist, there are {count}")))
    }

    fn state_index(&self, tensor: usize, name: &str) -> Option<usize> {
        let group = self.tensors.get(tensor)?.spec.group;
        self.groups[group].rule.states().iter().position(|s| s.name == name)
    }

    fn check_lengths(&self, params: &[&mut [F]], grads: &[&[F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        self.check_count("gradients", grads.len())?;
        for ((tensor, p), g) in self.tensors.iter().zip(params).zip(grads) {
            tensor.check_length("parameter", p.len())?;
            tensor.check_length("gradient", g.len())?;
        }
        Ok(())
    }

    fn check_count(&self, what: &str, given: usize) -> Result<()> {
        if given == self.tensors.len() {
            return Ok(());
        }
        Err(Error::Usage(format!("{given} {what} were given, the optimizer has {} tensors", self.tensors.len())))
    }
}

fn slices<F>(arrays: &[Vec<F>]) -> Vec<&[F]> {
    arrays.iter().map(Vec::as_slice).collect()
}

/// The step once everything is decided.
fn conclude<F: Number>(
    groups: &[Scaled<'_, F>],
    tensors: &mut [Tensor<F>],
    around: &mut Surroundings<F>,
    (applied, draws): (&mut u64, &mut Draws),
    params: &mut [&mut [F]],
    grads: &[&[F]],
) {
    if *applied == 0 {
        around.start_average(params);
    }
    if tensors.iter().any(|t| t.warp.is_some()) {
        let warped = warp::warp(groups, tensors, grads);
        walk::update(groups, tensors, params, &slices(&warped));
    } else {
        walk::update(groups, tensors, params, grads);
    }
    storage::round_states(tensors, draws);
    around.average(*applied + 1, params);
    *applied += u64::from(!decide::held(groups, tensors));
}

impl<F: Number> Tensor<F> {
    fn check_length(&self, what: &str, given: usize) -> Result<()> {
        if given == self.spec.elements {
            return Ok(());
        }
        let problem = format!("its {what} has {given} elements, needs {}", self.spec.elements);
        Err(Error::Tensor { tensor: self.spec.name.clone(), problem })
    }

    fn new(groups: &[Group], spec: TensorSpec) -> Self {
        let fill = |state: StateSpec| state.used.then(|| vec![F::from_f64(state.initial); spec.elements]);
        let states = kept_states(groups, spec.group).into_iter().map(fill).collect();
        let warp = match groups[spec.group].rule.procedure() {
            Procedure::Warp(warp) => Some(Warped::new(warp, spec.elements)),
            _ => None,
        };
        Self {
            spec,
            states,
            sums: [0.0; MAX_SUMS],
            own: Vec::new(),
            decision: Vec::new(),
            rates: Vec::new(),
            shared: None,
            stored: Stored::default(),
            warp,
        }
    }
}

fn check_groups(groups: &[Group]) -> Result<()> {
    let first = groups.first().ok_or_else(|| Error::Usage("an optimizer needs at least one group".to_owned()))?;
    for group in groups {
        group.rule.check()?;
        need_cpu(group.rule.as_ref())?;
        if !same_rule(group.rule.as_ref(), first.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "group `{}` runs {} and group `{}` runs {}; all groups of an optimizer run the same one",
                first.name,
                first.rule.name(),
                group.name,
                group.rule.name()
            )));
        }
    }
    check_common(groups.iter().map(|g| (g.name.as_str(), g.rule.as_ref())))?;
    check_names("group", groups.iter().map(|g| g.name.as_str()))
}

fn check_tensors(groups: &[Group], tensors: &[TensorSpec]) -> Result<()> {
    if let Some(lost) = tensors.iter().find(|t| t.group >= groups.len()) {
        let problem = format!("its group is {}, there are {}", lost.group, groups.len());
        return Err(Error::Tensor { tensor: lost.name.clone(), problem });
    }
    check_names("tensor", tensors.iter().map(|t| t.name.as_str()))
}

fn check_names<'a>(kind: &'static str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::Duplicate { kind, name: name.to_owned() });
        }
    }
    Ok(())
}

/// The states of a group's tensors. A rule with sums keeps a state everywhere if any group needs it, as the GPU does, where all groups of
/// such a rule share one pass.
fn kept_states(groups: &[Group], group: usize) -> Vec<StateSpec> {
    let mut states = groups[group].rule.states();
    if groups[group].rule.sums().sums > 0 {
        for other in groups {
            for (state, theirs) in states.iter_mut().zip(other.rule.states()) {
                state.used |= theirs.used;
            }
        }
    }
    states
}

fn scale<F: Number>(groups: &[Group], t: u64) -> Result<Vec<Scaled<'_, F>>> {
    let mut scaled = Vec::with_capacity(groups.len());
    for group in groups {
        let rule = group.rule.as_ref();
        let scalars = scalars_at(rule, &group.scheduled, &group.name, t)?;
        let hyper = scalars.iter().map(|s| F::from_f64(s.value())).collect();
        scaled.push(Scaled { cpu: F::of_rule(rule), hyper, rule, sums: rule.sums() });
    }
    Ok(scaled)
}
