//! A step to compare, as parameters, gradients and states in f32, and the outcome of the step.

use crate::gpu::build::builder::Builder;
use crate::optim::procedure::{self, probes};
use crate::optim::rule::{matrix_shape, same_rule, sample_shape};
use crate::optim::{Rule, Scalar};
use crate::options::random::{draw, unit};
use crate::options::storage::blockwise::BLOCK;
use crate::options::storage::{Form, Packed, Storage};
use crate::tools::verify::spans::Stored;
use crate::{Error, Group, Optimizer, Result, Tensor, cpu, wgpu};

/// Steps that the oracle takes to reach the states from which a random problem starts.
const WARM_UP: u64 = 6;
/// Magnitudes of parameters. Some are small beside the step, so that the rounding of the parameter hides no part of the step.
const PARAM_RANGE: (f64, f64) = (1e-5, 1.0);
/// Magnitudes of gradients: beside the smallest ε matters, and beside the largest ε does not matter.
const GRAD_RANGE: (f64, f64) = (1e-7, 3.0);

/// One tensor of a [`Problem`].
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// The index of its group.
    pub group: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its parameters.
    pub param: Vec<f32>,
    /// Its gradients.
    pub grad: Vec<f32>,
    /// Its states in the rule's order; `None` for a state that the settings do not keep, or that the tensor keeps as factors.
    pub states: Vec<Option<Vec<f32>>>,
    /// The factors of its matrices, by name; empty where the tensor keeps none.
    pub factors: Vec<(&'static str, Vec<f32>)>,
    /// The numbers that the rule keeps once per tensor.
    pub progress: Vec<f32>,
    /// Its step count before this step, where tensors have step counts of their own.
    pub steps: Option<u32>,
    /// Whether the step takes the tensor.
    pub takes: bool,
}

/// A step to compare: the settings of the groups, the tensors, and the step count.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The settings of the groups; the default group comes first.
    pub groups: Vec<Box<dyn Rule>>,
    /// The tensors.
    pub tensors: Vec<Data>,
    /// The step count before this step.
    pub applied: u32,
    /// The global state before this step, in the rule's order.
    pub memory: Vec<f32>,
    /// The loss at the parameters and at each of the rule's probes; empty for rules that do not probe.
    pub losses: Vec<f32>,
    /// How tensors are stored. The storage can hold their numbers exactly: see [`stored`](Self::stored).
    pub storage: Storage,
}

impl Data {
    /// The count of numbers that a comparison of the tensor takes: its elements, its states and factors, its progress and its step count.
    #[must_use]
    pub fn numbers(&self) -> usize {
        let states = self.states.iter().flatten().chain(self.factors.iter().map(|(_, factor)| factor));
        let arrays = self.param.len() + states.map(Vec::len).sum::<usize>();
        arrays + self.progress.len() + usize::from(self.steps.is_some())
    }
}

/// A tensor after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// Its parameters.
    pub param: Vec<f32>,
    /// Its states in the rule's order; `None` for a state that the settings do not keep, or that the tensor keeps as factors.
    pub states: Vec<Option<Vec<f32>>>,
    /// The factors of its matrices, by name; empty where the tensor keeps none.
    pub factors: Vec<(&'static str, Vec<f32>)>,
    /// The numbers that the rule keeps once per tensor.
    pub progress: Vec<f32>,
    /// Its step count, where tensors have step counts of their own.
    pub steps: Option<u32>,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The tensors in the problem's order.
    pub tensors: Vec<Moved>,
    /// The global state after the step, in the rule's order.
    pub memory: Vec<f32>,
    /// The step count after the step.
    pub applied: u32,
    /// The spans of each tensor's stored numbers; empty if all tensors are f32.
    pub stored: Vec<Stored>,
}

impl Problem {
    /// Random parameters and gradients of many magnitudes and both signs. States come from a few steps of the oracle, so that the rule can
    /// reach them; with `applied` 0 they have their initial values. `tensors` are (group, elements).
    ///
    /// # Errors
    /// The groups have different optimizers; a setting is out of range; a tensor's group does not exist.
    pub fn random(groups: Vec<Box<dyn Rule>>, tensors: &[(usize, usize)], applied: u32, seed: u32) -> Result<Self> {
        Self::random_at(groups, tensors, applied, seed, None)
    }

    /// As [`random`](Self::random), with tensors that have step counts of their own: `counts`, each at most `applied`. The step leaves out every
    /// third tensor.
    ///
    /// # Errors
    /// As [`random`](Self::random); the rule allows no steps that leave out tensors.
    pub fn random_partial(
        groups: Vec<Box<dyn Rule>>,
        tensors: &[(usize, usize)],
        applied: u32,
        counts: &[u32],
        seed: u32,
    ) -> Result<Self> {
        Self::random_at(groups, tensors, applied, seed, Some(counts))
    }

    fn random_at(
        groups: Vec<Box<dyn Rule>>,
        tensors: &[(usize, usize)],
        applied: u32,
        seed: u32,
        counts: Option<&[u32]>,
    ) -> Result<Self> {
        let shape = |(i, &(group, n)): (usize, &(usize, usize))| {
            let rule = groups.get(group).ok_or_else(|| Error::Usage(format!("tensor {i} has no group {group}")))?;
            Ok(shape(rule.as_ref(), i, n))
        };
        let shapes = tensors.iter().enumerate().map(shape).collect::<Result<Vec<_>>>()?;
        let groups_of = tensors.iter().map(|(group, _)| *group);
        let mut builder = builder(&groups, groups_of.zip(shapes.iter().map(Vec::as_slice)))?;
        let mut oracle = builder.partial_steps(counts.is_some()).build_cpu::<f64>()?;
        let random = |range, t: u64| -> Vec<Vec<f64>> {
            let one = |(i, &(_, n)): (usize, &(usize, usize))| {
                spread(draw(draw(seed, t as u32), i as u32), n, range).collect()
            };
            tensors.iter().enumerate().map(one).collect()
        };
        let mut warm = random(PARAM_RANGE, 0);
        let steps = WARM_UP.min(u64::from(applied));
        oracle.set_step_count(u64::from(applied) - steps);
        // A tensor with a count of its own takes part in the last of these steps.
        let late = |i: usize| counts.map_or(0, |counts| steps.saturating_sub(u64::from(counts[i])));
        for (i, count) in counts.into_iter().flatten().enumerate() {
            oracle.parts[0].restart_tensor(i, u64::from(*count) - (steps - late(i)));
        }
        for t in 1..=steps {
            let grads = random(GRAD_RANGE, t);
            if counts.is_none() {
                oracle.step(&mut slices_mut(&mut warm), &slices(&grads))?;
                continue;
            }
            let some: Vec<Option<&[f64]>> =
                grads.iter().enumerate().map(|(i, g)| (t > late(i)).then_some(g.as_slice())).collect();
            oracle.step_tensors(&mut slices_mut(&mut warm), &some)?;
        }
        let narrow = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let names = state_names(&groups);
        let params = random(PARAM_RANGE, WARM_UP + 1).into_iter();
        let grads = random(GRAD_RANGE, WARM_UP + 2).into_iter();
        let inputs = params.zip(grads).zip(tensors).zip(shapes);
        let data = inputs.enumerate().map(|(i, (((param, grad), &(group, _)), shape))| Data {
            group,
            shape,
            param: narrow(param),
            grad: narrow(grad),
            states: names.iter().map(|name| kept(&oracle, i, name).map(|s| narrow(s.to_vec()))).collect(),
            factors: factors(&oracle, i).map(|(name, values)| (name, narrow(values.to_vec()))).collect(),
            progress: narrow(oracle.parts[0].tensors[i].progress.clone()),
            steps: counts.map(|counts| counts[i]),
            takes: counts.is_none() || i % 3 != 2,
        });
        let tensors = data.collect();
        let memory = oracle.global_state_values().iter().map(|x| *x as f32).collect();
        Ok(Self { tensors, losses: losses(&groups, seed), memory, groups, applied, storage: Storage::default() })
    }

    /// The same problem in this storage. Its numbers are rounded to numbers that the storage can hold; [`build`](Self::build) uses the storage.
    ///
    /// # Errors
    /// The rule refuses the storage.
    pub fn stored(mut self, storage: &Storage) -> Result<Self> {
        for data in &mut self.tensors {
            let rule = self.groups[data.group].as_ref();
            let formats = storage.formats(rule, data.param.len() as u64)?;
            if !formats.params.is_exact() {
                data.param = Packed::nearest(formats.params.format(), &data.param).values();
            }
            data.grad = Packed::nearest(formats.grads, &data.grad).values();
            for (k, (state, values)) in rule.states().iter().zip(&mut data.states).enumerate() {
                if let Some(values) = values {
                    let form = Form::of(state.kind, formats.state(k));
                    if let Form::Blocks(_) = form {
                        values.chunks_mut(BLOCK).for_each(lead_positive);
                    }
                    *values = form.pack(state.kind, values).values();
                }
            }
        }
        self.storage = storage.clone();
        Ok(self)
    }

    /// The next step after an outcome of this problem, with the same gradients.
    #[must_use]
    pub fn next(&self, outcome: Outcome) -> Self {
        let follow = |(data, moved): (&Data, Moved)| Data {
            group: data.group,
            shape: data.shape.clone(),
            param: moved.param,
            grad: data.grad.clone(),
            states: moved.states,
            factors: moved.factors,
            progress: moved.progress,
            steps: moved.steps,
            takes: data.takes,
        };
        Self {
            groups: self.groups.clone(),
            tensors: self.tensors.iter().zip(outcome.tensors).map(follow).collect(),
            applied: outcome.applied,
            memory: outcome.memory,
            losses: self.losses.clone(),
            storage: self.storage.clone(),
        }
    }

    /// The slopes that a rule that probes computes from the losses.
    pub(super) fn slopes(&self) -> Vec<f64> {
        let Some((first, probes)) = self.losses.split_first() else { return Vec::new() };
        let sigma = sigma(self.groups[0].as_ref());
        probes.iter().map(|loss| (f64::from(*loss) - f64::from(*first)) / sigma).collect()
    }

    /// Builds an optimizer for this problem, with parameters and gradients in the optimizer's own buffers.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::Builder::build).
    pub fn build(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Optimizer> {
        self.builder()?.build(device, queue)
    }

    /// As [`build`](Self::build), and waits without blocking until the device has created everything.
    ///
    /// # Errors
    /// As [`Builder::build_async`](crate::Builder::build_async).
    pub async fn build_async(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Optimizer> {
        self.builder()?.build_async(device, queue).await
    }

    fn builder(&self) -> Result<Builder> {
        let mut builder = builder(&self.groups, self.tensors.iter().map(|data| (data.group, data.shape.as_slice())))?;
        builder.storage(self.storage.clone()).partial_steps(self.is_partial());
        Ok(builder)
    }

    /// Whether tensors have step counts of their own.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.tensors.iter().any(|data| data.steps.is_some())
    }

    /// Records the step of the problem.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step(&self, optimizer: &mut Optimizer, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        if !self.is_partial() {
            return optimizer.step(encoder);
        }
        let tensors = optimizer.tensors().zip(&self.tensors).filter(|(_, data)| data.takes);
        let tensors: Vec<Tensor> = tensors.map(|((tensor, ..), _)| tensor).collect();
        optimizer.step_tensors(encoder, tensors)
    }

    /// Writes the problem into an optimizer with the same tensors in the same order. At step count 0, states keep their initial values.
    ///
    /// # Errors
    /// A buffer cannot be written; a recorded step is not yet finished.
    pub fn upload(&self, optimizer: &mut Optimizer) -> Result<()> {
        let tensors: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
        self.upload_arrays(optimizer, &tensors)?;
        if !self.losses.is_empty() {
            optimizer.write_losses(&self.losses)?;
        }
        if self.applied == 0 {
            return Ok(());
        }
        optimizer.write_global_state(&self.memory)?;
        optimizer.write_step_count(self.applied)?;
        self.upload_counts(optimizer, &tensors)
    }

    /// Writes the step counts and the progress of these tensors of an optimizer, after the step count of the rule.
    pub(super) fn upload_counts(&self, optimizer: &Optimizer, tensors: &[Tensor]) -> Result<()> {
        for (&tensor, data) in tensors.iter().zip(&self.tensors) {
            if let Some(steps) = data.steps {
                optimizer.write_tensor_step_count(tensor, steps)?;
            }
            optimizer.write_progress(tensor.index(), &data.progress)?;
        }
        Ok(())
    }

    /// Writes the parameters, gradients and states of the problem into these tensors of an optimizer.
    pub(super) fn upload_arrays(&self, optimizer: &Optimizer, tensors: &[Tensor]) -> Result<()> {
        let names = state_names(&self.groups);
        for (&tensor, data) in tensors.iter().zip(&self.tensors) {
            optimizer.write_param(tensor, &data.param)?;
            if optimizer.grad(tensor).is_ok() {
                optimizer.write_grad(tensor, &data.grad)?;
            }
            for (name, state) in names.iter().zip(&data.states) {
                if let Some(state) = state.as_ref().filter(|_| self.applied > 0) {
                    optimizer.write_state(tensor, name, state)?;
                }
            }
            for (name, factor) in data.factors.iter().filter(|_| self.applied > 0) {
                optimizer.write_state(tensor, name, factor)?;
            }
        }
        Ok(())
    }

    /// Takes the step on the CPU's fast path.
    ///
    /// # Errors
    /// The groups have different optimizers.
    pub fn step_cpu(&self) -> Result<Outcome> {
        let partial = self.is_partial();
        let mut optimizer = self.builder()?.storage(Storage::default()).build_cpu::<f32>()?;
        optimizer.set_step_count(u64::from(self.applied));
        for (i, data) in self.tensors.iter().enumerate() {
            let part = &mut optimizer.parts[0];
            data.steps.into_iter().for_each(|steps| part.restart_tensor(i, u64::from(steps)));
            part.tensors[i].progress.clone_from(&data.progress);
        }
        optimizer.set_global_state(&self.memory)?;
        if !self.losses.is_empty() {
            optimizer.set_losses(&self.losses.iter().map(|x| f64::from(*x)).collect::<Vec<_>>())?;
        }
        let names = state_names(&self.groups);
        for (i, data) in self.tensors.iter().enumerate() {
            for (name, state) in names.iter().zip(&data.states) {
                let tensor = optimizer.spec.tensor_handle(i);
                if let (Ok(to), Some(from)) = (optimizer.state_mut(tensor, name), state) {
                    to.copy_from_slice(from);
                }
            }
            for (name, factor) in &data.factors {
                optimizer.state_mut(optimizer.spec.tensor_handle(i), name)?.copy_from_slice(factor);
            }
        }
        let mut params: Vec<Vec<f32>> = self.tensors.iter().map(|t| t.param.clone()).collect();
        let grads: Vec<&[f32]> = self.tensors.iter().map(|t| t.grad.as_slice()).collect();
        if partial {
            let some: Vec<Option<&[f32]>> = self.tensors.iter().map(|t| t.takes.then_some(t.grad.as_slice())).collect();
            optimizer.step_tensors(&mut slices_mut(&mut params), &some)?;
        } else {
            optimizer.step(&mut slices_mut(&mut params), &grads)?;
        }
        let states = |i| names.iter().map(|name| kept(&optimizer, i, name).map(<[f32]>::to_vec)).collect();
        let moved = |(i, param)| Moved {
            param,
            states: states(i),
            factors: factors(&optimizer, i).map(|(name, values)| (name, values.to_vec())).collect(),
            progress: optimizer.parts[0].tensors[i].progress.clone(),
            steps: partial.then_some(optimizer.parts[0].tensors[i].steps as u32),
        };
        let memory = optimizer.global_state_values().to_vec();
        let applied = optimizer.step_count() as u32;
        let tensors = params.into_iter().enumerate().map(moved).collect();
        Ok(Outcome { tensors, memory, applied, stored: Vec::new() })
    }
}

impl Moved {
    /// Reads the parameters, the states with these names, the factors, the progress and the step count back. Every read is under way when the call returns:
    /// a page waits a turn of its event loop for each that is not.
    pub(super) fn of(
        optimizer: &Optimizer,
        tensor: Tensor,
        names: &[&'static str],
    ) -> Result<impl Future<Output = Result<Self>> + use<>> {
        let group = optimizer.spec.tensor_info(tensor)?.group;
        let rule = &optimizer.spec.groups[group].rule;
        let made = rule.states().into_iter().filter(|state| state.scratch);
        let there: Vec<_> = optimizer.state_names(tensor)?.into_iter().chain(made.map(|state| state.name)).collect();
        let read = |name: &&'static str| there.contains(name).then(|| optimizer.read_state(tensor, name));
        let reads: Vec<_> = names.iter().map(read).collect();
        let of_factors = factor_names(rule.as_ref()).filter(|name| there.contains(name));
        let factor_reads: Vec<_> = of_factors.map(|name| (name, optimizer.read_state(tensor, name))).collect();
        let steps = optimizer.spec.around.partial.then(|| optimizer.read_tensor_step_count(tensor));
        let (param, progress) = (optimizer.read_param(tensor), optimizer.read_progress(tensor));
        Ok(async move {
            let mut states = Vec::with_capacity(reads.len());
            for read in reads {
                states.push(match read {
                    Some(read) => Some(read.await?),
                    None => None,
                });
            }
            let mut factors = Vec::with_capacity(factor_reads.len());
            for (name, read) in factor_reads {
                factors.push((name, read.await?));
            }
            let steps = match steps {
                Some(steps) => Some(steps.await? as u32),
                None => None,
            };
            Ok(Self { param: param.await?, states, factors, progress: progress.await?, steps })
        })
    }
}

impl Outcome {
    /// Reads an optimizer's parameters and states back.
    ///
    /// # Errors
    /// A buffer cannot be read; the device was lost.
    pub async fn of(optimizer: &Optimizer) -> Result<Self> {
        let names: Vec<&'static str> = optimizer.rule(Group::DEFAULT)?.states().iter().map(|s| s.name).collect();
        let reads = optimizer.tensors().map(|(tensor, ..)| Moved::of(optimizer, tensor, &names));
        let reads: Vec<_> = reads.collect::<Result<_>>()?;
        let (applied, memory) = (optimizer.read_step_count(), optimizer.read_global_state());
        let mut tensors = Vec::with_capacity(reads.len());
        for read in reads {
            tensors.push(read.await?);
        }
        let applied = applied.await? as u32;
        let mut stored = Vec::new();
        if optimizer.tensors().any(|(tensor, ..)| !optimizer.formats(tensor.index()).is_plain()) {
            for (tensor, ..) in optimizer.tensors() {
                stored.push(Stored::of(optimizer, tensor).await?);
            }
        }
        Ok(Self { tensors, memory: memory.await?, applied, stored })
    }
}

/// Makes a block's largest number positive. The map holds 1 but not -1, so that a negative largest number would not survive a second
/// rounding.
fn lead_positive(block: &mut [f32]) {
    if let Some(largest) = block.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())) {
        *largest = largest.abs();
    }
}

/// Losses around 1 with slopes around 1, for a rule that probes.
fn losses(groups: &[Box<dyn Rule>], seed: u32) -> Vec<f32> {
    let probes = groups.first().map_or(0, |rule| probes(&rule.procedure()));
    if probes == 0 {
        return Vec::new();
    }
    let sigma = sigma(groups[0].as_ref());
    let key = draw(seed, u32::MAX);
    let loss = |j: u32| if j == 0 { 1.0 } else { 1.0 + sigma * (3.0 * f64::from(unit(key, j)) - 1.0) };
    (0..=probes as u32).map(|j| loss(j) as f32).collect()
}

/// σ of a rule that probes.
fn sigma(rule: &dyn Rule) -> f64 {
    rule.scalars(1).iter().find(|s| s.name == "sigma").map_or(1.0, Scalar::value)
}

/// The names of all states, including those that the settings do not keep.
pub(super) fn state_names(groups: &[Box<dyn Rule>]) -> Vec<&'static str> {
    groups.first().map_or_else(Vec::new, |rule| rule.states().iter().map(|s| s.name).collect())
}

/// The shape of the tensor with this index and as many elements. A rule that keeps the factors of matrices has matrices too. The first tensor is
/// a vector: only there is the direction smaller than its bound, because factors fit random squares badly.
fn shape(rule: &dyn Rule, index: usize, elements: usize) -> Vec<usize> {
    let is_matrix = !index.is_multiple_of(3) && factor_names(rule).next().is_some();
    if is_matrix { matrix_shape(elements).to_vec() } else { sample_shape(rule, elements) }
}

/// A builder with these groups, and with tensors as (group, shape).
fn builder<'a>(groups: &[Box<dyn Rule>], tensors: impl Iterator<Item = (usize, &'a [usize])>) -> Result<Builder> {
    let mut groups = groups.iter();
    let first = groups.next().ok_or_else(|| Error::Usage("a problem needs a group".to_owned()))?;
    if let Some(other) = groups.clone().find(|other| !same_rule(other.as_ref(), first.as_ref())) {
        let (first, other) = (first.name(), other.name());
        return Err(Error::Usage(format!(
            "the groups of a problem hold {first} and {other}: a problem has one rule, make one problem per rule"
        )));
    }
    let mut builder = Optimizer::builder(first.clone());
    builder.undamped_steps(true);
    let mut handles = vec![Group::DEFAULT];
    handles.extend(groups.enumerate().map(|(i, rule)| builder.group(format!("group {}", i + 1), rule.clone())));
    for (i, (group, shape)) in tensors.enumerate() {
        builder.tensor(handles[group], format!("tensor {i}"), shape);
    }
    Ok(builder)
}

/// A state, if the settings keep it.
fn kept<'a, F: cpu::Number>(optimizer: &'a cpu::Optimizer<F>, tensor: usize, name: &str) -> Option<&'a [F]> {
    optimizer.state(optimizer.spec.tensor_handle(tensor), name).ok()
}

/// The names of the factors that the matrices of a rule keep.
fn factor_names(rule: &dyn Rule) -> impl Iterator<Item = &'static str> + use<> {
    let spec = procedure::factors(&rule.procedure());
    spec.into_iter().flat_map(|spec| [spec.rows, spec.columns])
}

/// The factors of a tensor's matrices.
fn factors<F: cpu::Number>(optimizer: &cpu::Optimizer<F>, tensor: usize) -> impl Iterator<Item = (&'static str, &[F])> {
    optimizer.parts[0].tensors[tensor].factors.iter().flat_map(cpu::Factors::arrays)
}

/// Numbers of both signs whose logarithm is uniform in the range.
fn spread(key: u32, n: usize, (least, most): (f64, f64)) -> impl Iterator<Item = f64> {
    (0..n as u32).map(move |i| {
        let sign = if draw(key, 2 * i) & 1 == 0 { 1.0 } else { -1.0 };
        sign * least * (most / least).powf(f64::from(unit(key, 2 * i + 1)))
    })
}

fn slices<F>(values: &[Vec<F>]) -> Vec<&[F]> {
    values.iter().map(Vec::as_slice).collect()
}

fn slices_mut<F>(values: &mut [Vec<F>]) -> Vec<&mut [F]> {
    values.iter_mut().map(Vec::as_mut_slice).collect()
}
