//! The builder: it collects groups, tensors and options.

use crate::gpu::build::spec::{Group, GroupInfo, Home, Spec, Tensor, TensorInfo, next_id};
use crate::gpu::layout::rows::count;
use crate::optim::Rule;
use crate::optim::rule::sample_shape;
use crate::options::around::{Accumulate, Clip, Ema, LossScale};
use crate::options::schedule::{Schedule, Scheduled};
use crate::options::storage::{Formats, Storage};
use crate::{Error, NoDecay, Result};

/// Collects groups and tensors for an [`Optimizer`](crate::Optimizer). [`build`](Self::build) reports mistakes before it
/// creates anything.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) spec: Spec,
    pub(crate) label: String,
    pub(crate) param_usages: wgpu::BufferUsages,
    pub(crate) grad_usages: wgpu::BufferUsages,
    pub(crate) cache: Option<wgpu::PipelineCache>,
    /// `None`: construction chooses the count for the device.
    pub(crate) sum_lanes: Option<u32>,
    /// The first mistake in a call; [`Builder::build`] reports it.
    mistake: Option<String>,
}

impl Builder {
    pub(crate) fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            spec: Spec::new(rule),
            label: "optimizer".to_owned(),
            param_usages: wgpu::BufferUsages::empty(),
            grad_usages: wgpu::BufferUsages::empty(),
            cache: None,
            sum_lanes: None,
            mistake: None,
        }
    }

    /// Adds a parameter group with a rule of its own. Groups with the same rule share its sums and its dispatches; a clip by global norm, the
    /// loss scale and a skipped step run over the groups of all rules.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Lion, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// let matrices = builder.group("matrices", Lion { lr: 1e-4, ..Lion::default() });
    /// let bias = builder.tensor(Group::DEFAULT, "bias", &[128]);
    /// let weight = builder.tensor(matrices, "weight", &[128, 64]);
    /// let optimizer = builder.build(&device, &queue)?;
    /// assert_eq!(optimizer.state_names(weight)?, ["m"]);
    /// assert_eq!(optimizer.state_names(bias)?, ["m", "v"]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn group(&mut self, name: impl Into<String>, rule: impl Into<Box<dyn Rule>>) -> Group {
        let id = next_id();
        self.spec.groups.push(GroupInfo::new(name.into(), rule.into(), id));
        Group { index: self.spec.groups.len() - 1, id }
    }

    /// Adds a tensor in the crate's buffers, at the device's offset alignment. Its parameters and gradients are zero at first: see
    /// [`Optimizer::param`](crate::Optimizer::param), [`Optimizer::grad`](crate::Optimizer::grad) and
    /// [`Optimizer::write_param`](crate::Optimizer::write_param).
    pub fn tensor(&mut self, group: Group, name: impl Into<String>, shape: &[usize]) -> Tensor {
        self.add(group, name.into(), shape, Home::Own)
    }

    /// As [`tensor`](Self::tensor), for many tensors: each with its name and shape. [`Optimizer::tensor`](crate::Optimizer::tensor) finds their
    /// handles by name.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let optimizer = Optimizer::builder(AdamW::default())
    ///     .tensors(Group::DEFAULT, [("w", &[128, 64][..]), ("b", &[128])])
    ///     .build(&device, &queue)?;
    /// let w = optimizer.tensor("w")?;
    /// # let _ = w;
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn tensors<N: Into<String>, S: AsRef<[usize]>>(
        &mut self,
        group: Group,
        tensors: impl IntoIterator<Item = (N, S)>,
    ) -> &mut Self {
        for (name, shape) in tensors {
            self.tensor(group, name, shape.as_ref());
        }
        self
    }

    /// A shape with this many elements that the rule of a group can step, for tests and tools that need any: one dimension, or for rules that
    /// step matrices the matrix that is nearest to a square.
    #[doc(hidden)]
    #[must_use]
    pub fn sample_shape(&self, group: Group, elements: usize) -> Vec<usize> {
        let rule = self.spec.groups.get(group.index).unwrap_or(&self.spec.groups[0]).rule.as_ref();
        sample_shape(rule, elements)
    }

    /// Adds a tensor in the caller's buffers, in f32 or in the format that [`tensor_storage`](Self::tensor_storage) sets. `param` and `grad`
    /// hold exactly the elements of the shape, begin at multiples of 16 bytes and have `STORAGE` usage. Several tensors may share a buffer,
    /// and so may parameters and gradients. The range of a tensor, rounded up to 16 bytes, must lie in its buffer and must not overlap the
    /// range of another tensor. An odd count in half precision is rounded up to whole words.
    pub fn bind(
        &mut self,
        group: Group,
        name: impl Into<String>,
        shape: &[usize],
        param: wgpu::BufferSlice<'_>,
        grad: wgpu::BufferSlice<'_>,
    ) -> Tensor {
        self.add(group, name.into(), shape, Home::Bound { param: param.into(), grad: Some(grad.into()) })
    }

    /// As [`bind`](Self::bind), for a tensor without a fixed gradient range: each step is
    /// [`Optimizer::step_with_grads`](crate::Optimizer::step_with_grads) and names the gradient. Implies
    /// [`dynamic_gradients`](Self::dynamic_gradients).
    pub fn bind_param(
        &mut self,
        group: Group,
        name: impl Into<String>,
        shape: &[usize],
        param: wgpu::BufferSlice<'_>,
    ) -> Tensor {
        self.spec.dynamic_gradients = true;
        self.add(group, name.into(), shape, Home::Bound { param: param.into(), grad: None })
    }

    /// Prepares for [`Optimizer::step_with_grads`](crate::Optimizer::step_with_grads). Default false, which saves a look-up per chunk.
    pub fn dynamic_gradients(&mut self, dynamic_gradients: bool) -> &mut Self {
        self.spec.dynamic_gradients = dynamic_gradients;
        self
    }

    /// Clips gradients inside the step. Default: no clip.
    pub fn clip(&mut self, clip: Clip) -> &mut Self {
        self.spec.around.clip = Some(clip);
        self
    }

    /// Divides gradients by a loss scale that the GPU keeps, and skips a step with a gradient that is not finite. Default: off.
    pub fn loss_scale(&mut self, scale: LossScale) -> &mut Self {
        self.spec.around.loss_scale = Some(scale);
        self
    }

    /// Skips a step with a gradient that is not finite, or with a sum of squared gradients past f32's range (a norm above 1.8e19):
    /// parameters, states, the step count and bias corrections stay as they were. The test reads gradients alone: it does not find
    /// a state or a parameter that overflows by itself. [`loss_scale`](Self::loss_scale) implies it. Default: off.
    pub fn skip_nonfinite(&mut self, skip: bool) -> &mut Self {
        self.spec.around.skip_nonfinite = skip;
        self
    }

    /// Joins the gradients of micro-batches: [`Optimizer::accumulate`](crate::Optimizer::accumulate) adds each of them. The sum takes 4 bytes
    /// per parameter. Default: off.
    pub fn accumulate(&mut self, how: Accumulate) -> &mut Self {
        self.spec.around.accumulate = Some(how);
        self
    }

    /// Keeps an average of the weights, in the dispatch of the step. The average takes 4 bytes per parameter. Default: off.
    pub fn ema(&mut self, ema: Ema) -> &mut Self {
        self.spec.around.ema = Some(ema);
        self
    }

    /// Allows steps that leave out tensors: [`Optimizer::step_tensors`](crate::Optimizer::step_tensors), and
    /// [`Optimizer::step_with_grads`](crate::Optimizer::step_with_grads) with the gradients of some tensors. A tensor that a step leaves out
    /// keeps its parameters, its states, its average and its own step count, and has no part in sums, as torch does for a parameter whose
    /// gradient is `None`. Bias corrections follow the step count of each tensor; schedules, and settings that change, follow that of the
    /// optimizer. It costs 12 bytes per tensor, and one more dispatch per step where the step has no sums. Rules that integrate inside the
    /// step, and custom rules whose scalars depend on the step count, do not allow it. Default: off.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, weight_decay: 0.5, ..AdamW::default() });
    /// let used = builder.tensor(Group::DEFAULT, "expert 1", &[2]);
    /// let unused = builder.tensor(Group::DEFAULT, "expert 2", &[2]);
    /// let mut optimizer = builder.partial_steps(true).build(&device, &queue)?;
    /// optimizer.write_param(unused, &[0.85, 1.0])?;
    ///
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// optimizer.step_tensors(&mut encoder, [used])?;
    /// queue.submit([encoder.finish()]);
    /// assert_eq!(pollster::block_on(optimizer.read_param(unused))?, [0.85, 1.0]);
    /// assert_eq!(pollster::block_on(optimizer.read_tensor_step_count(unused))?, 0);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn partial_steps(&mut self, allow: bool) -> &mut Self {
        self.spec.around.partial = allow;
        self
    }

    /// Allows plain steps ([`Optimizer::step`](crate::Optimizer::step)) of a rule that probes before its first probes. Such a step of
    /// [`SAdam`](crate::SAdam) is a step of AdamW, because the rule has no slopes to damp it with. The steps that evaluate need no
    /// permission. Default: not allowed, and such a step is an error.
    pub fn undamped_steps(&mut self, allow: bool) -> &mut Self {
        self.spec.undamped_steps = allow;
        self
    }

    /// Sets gradients to zero once the step has read them, in the same dispatch. Skipped steps set them to zero too. Default: off.
    pub fn zero_grad(&mut self, zero: bool) -> &mut Self {
        self.spec.around.zero_grad = zero;
        self
    }

    /// Measures every step: [`Optimizer::try_stats`](crate::Optimizer::try_stats) returns norms of gradients, parameters and updates, clip
    /// factors and counts, per tensor and in total. Telemetry uses the sums of a clip by norm and adds no other dispatch: the update, which
    /// holds parameters and changes in registers, writes two sums per chunk. The measurements come back through a ring of four mappable
    /// buffers of 16 bytes per chunk of 1024 elements, and the host adds them in f64. Default: off.
    pub fn telemetry(&mut self, measure: bool) -> &mut Self {
        self.spec.around.telemetry = measure;
        self
    }

    /// Maximizes the objective for a group, instead of minimizing it. Default: off.
    pub fn maximize(&mut self, group: Group) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.group(group)) {
            self.spec.groups[index].maximize = true;
            self.spec.around.signed = true;
        }
        self
    }

    /// Lets a schedule set the learning rate of a group by step count: at step count t, the next step uses `schedule.rate(t)`. A skipped step
    /// does not advance the schedule, and [`Optimizer::write_step_count`](crate::Optimizer::write_step_count) sets its position. The learning
    /// rate of the group is the base of a schedule without a base, and no later call may set it.
    ///
    /// The host computes values hundreds of steps ahead. A value out of range is an error of the first step that may need it. In an optimizer
    /// with a schedule, every setting of every group may change only while every recorded step is finished.
    ///
    /// ```
    /// use wgpu_optim::schedule::{Cosine, Schedule};
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(AdamW { lr: 3e-4, ..AdamW::default() });
    /// builder.tensor(Group::DEFAULT, "w", &[8]);
    /// builder.schedule(Group::DEFAULT, Schedule::from(Cosine::new(950)).warmup(50));
    /// let optimizer = builder.build(&device, &queue)?;
    /// assert_eq!(optimizer.schedule(Group::DEFAULT, "lr")?.map(|s| s.rate(50)), Some(3e-4));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn schedule(&mut self, group: Group, schedule: impl Into<Schedule>) -> &mut Self {
        self.schedule_setting(group, "lr", schedule)
    }

    /// As [`schedule`](Self::schedule), for any numeric setting. A later schedule of the same setting replaces the earlier one.
    pub fn schedule_setting(&mut self, group: Group, setting: &str, schedule: impl Into<Schedule>) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.group(group)) {
            let info = &mut self.spec.groups[index];
            info.scheduled.retain(|s| s.setting != setting);
            info.scheduled.push(Scheduled::new(info.rule.as_ref(), setting, schedule.into()));
            self.spec.around.scheduled = true;
        }
        self
    }

    /// Adds a group with the current settings and schedules of `group`, but without weight decay, and returns the new group. The tensors of
    /// `group` that `which` picks go into the new group, whether the builder gets them before or after this call. The two groups are
    /// independent: a learning rate that is set for one does not change the other, and [`Clip::GroupNorm`] computes the norm of each.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, NoDecay, Optimizer};
    /// let mut builder = Optimizer::builder(AdamW { weight_decay: 0.1, ..AdamW::default() });
    /// builder.tensor(Group::DEFAULT, "layer1.weight", &[128, 64]);
    /// builder.tensor(Group::DEFAULT, "layer1.bias", &[128]);
    /// let without = builder.exclude_from_decay(Group::DEFAULT, NoDecay::Rank(1))?; // or NoDecay::Names("*.bias".to_owned())
    /// # let _ = without;
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The rule has no `weight_decay`; the handle belongs to another builder. [`build`](Self::build) refuses a pattern of names that fits no tensor of
    /// the group.
    pub fn exclude_from_decay(&mut self, group: Group, which: NoDecay) -> Result<Group> {
        let (index, count) = (self.spec.group(group)?, self.spec.groups.len());
        let (info, id) = (&self.spec.groups[index], next_id());
        let mut undecayed =
            GroupInfo::new(NoDecay::undecayed_name(&info.name), NoDecay::undecayed_rule(info.rule.as_ref())?, id);
        undecayed.maximize = info.maximize;
        undecayed.scheduled = info.scheduled.iter().filter(|s| !NoDecay::is_decay(&s.setting)).cloned().collect();
        for tensor in self.spec.tensors.iter_mut().filter(|t| t.group == index) {
            if which.picks(&tensor.name, &tensor.shape) {
                tensor.group = count;
            }
        }
        self.spec.groups[index].routes.push((which, count));
        self.spec.groups.push(undecayed);
        Ok(Group { index: count, id })
    }

    /// Freezes a tensor: the tensor takes no part in steps and sums and has no states.
    pub fn freeze(&mut self, tensor: Tensor) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.tensors[index].frozen = true;
        }
        self
    }

    /// Sets the storage of all tensors for which [`tensor_storage`](Self::tensor_storage) sets no other. Default: f32.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// let embedding = builder.tensor(Group::DEFAULT, "embedding", &[1000, 64]);
    /// let head = builder.tensor(Group::DEFAULT, "head", &[64, 10]);
    /// builder.storage("bf16-split,8bit".parse()?).tensor_storage(head, "f32".parse()?);
    /// # let _ = embedding;
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn storage(&mut self, storage: Storage) -> &mut Self {
        self.spec.storage = storage;
        self
    }

    /// Sets the storage of a tensor. Its parameters and gradients have these formats in the caller's buffers too, with 2 bytes per element for
    /// half precision.
    pub fn tensor_storage(&mut self, tensor: Tensor, storage: Storage) -> &mut Self {
        if let Some(index) = self.known(|spec| spec.tensor(tensor)) {
            self.spec.tensors[index].storage = Some(storage);
        }
        self
    }

    /// Seeds the random directions of a rule that probes, and stochastic rounding. Default 0.
    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.spec.seed = seed;
        self
    }

    /// Takes the directions of a rule that probes from the states `direction_1` … (see
    /// [`Optimizer::write_state`](crate::Optimizer::write_state)), each of which costs 4 bytes per parameter, and normalizes them. Default
    /// false: random directions, which take no memory.
    pub fn given_directions(&mut self, given: bool) -> &mut Self {
        self.spec.given_directions = given;
        self
    }

    /// Names the optimizer in wgpu's labels. Default "optimizer".
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Adds usages to the crate's buffers beyond `STORAGE | COPY_SRC | COPY_DST`, such as `VERTEX` for parameters.
    pub fn extra_usages(&mut self, params: wgpu::BufferUsages, grads: wgpu::BufferUsages) -> &mut Self {
        self.param_usages = params;
        self.grad_usages = grads;
        self
    }

    /// Compiles pipelines with a pipeline cache of the device. wgpu does not tell the device of a cache: with a cache of another
    /// [`wgpu::Instance`], it panics.
    pub fn pipeline_cache(&mut self, cache: &wgpu::PipelineCache) -> &mut Self {
        self.cache = Some(cache.clone());
        self
    }

    /// The tensor of this name, among the tensors that the builder has.
    ///
    /// # Errors
    /// No tensor has this name; the error suggests the nearest.
    pub fn find_tensor(&self, name: &str) -> Result<Tensor> {
        self.spec.tensor_named(name)
    }

    /// The checked specification, with the formats of every tensor.
    pub(crate) fn settled(&self) -> Result<Spec> {
        if let Some(mistake) = &self.mistake {
            return Err(Error::Usage(mistake.clone()));
        }
        let mut spec = self.spec.clone();
        spec.around.own_counts = spec.around.partial || spec.rows.sets.iter().any(|set| set.fresh);
        spec.settle()?;
        Ok(spec)
    }

    /// The index that `find` returns. Keeps the first error for [`settled`](Self::settled).
    pub(crate) fn known(&mut self, find: impl FnOnce(&Spec) -> Result<usize>) -> Option<usize> {
        let found = find(&self.spec);
        found.map_err(|error| _ = self.mistake.get_or_insert_with(|| error.to_string())).ok()
    }

    fn add(&mut self, group: Group, name: String, shape: &[usize], home: Home) -> Tensor {
        let elements = count(shape);
        let group = self.known(|spec| spec.group(group)).unwrap_or(0);
        let routes = &self.spec.groups[group].routes;
        let route = routes.iter().find(|(which, _)| which.picks(&name, shape));
        let group = route.map_or(group, |(_, undecayed)| *undecayed);
        let id = next_id();
        self.spec.tensors.push(TensorInfo {
            id,
            name,
            shape: shape.to_vec(),
            elements,
            group,
            home,
            frozen: false,
            own: None,
            storage: None,
            formats: Formats::default(),
        });
        Tensor { index: self.spec.tensors.len() - 1, id }
    }
}
