//! The builder: what is to be optimized, and the checks before anything is created.

use crate::gpu::build::spec::{Group, GroupInfo, Home, RowsInfo, Tensor, TensorInfo};
use crate::optim::Rule;
use crate::options::around::{Accumulate, Around, Clip, Ema, LossScale};
use crate::options::schedule::{Schedule, Scheduled};
use crate::options::storage::{Formats, Storage};
use crate::{Error, NoDecay, Optimizer, Result};

/// Collects groups and tensors for an [`Optimizer`]. Mistakes are reported by [`build`](Self::build), before anything is created.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) label: String,
    pub(crate) param_usages: wgpu::BufferUsages,
    pub(crate) grad_usages: wgpu::BufferUsages,
    pub(crate) dynamic_gradients: bool,
    pub(crate) around: Around,
    pub(crate) rows: RowsInfo,
    pub(crate) cache: Option<wgpu::PipelineCache>,
    storage: Storage,
    pub(crate) seed: u64,
    pub(crate) given_directions: bool,
    /// `None`: what suits the device.
    pub(crate) sum_lanes: Option<u32>,
}

impl Builder {
    pub(crate) fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            groups: vec![GroupInfo::new("default".to_owned(), rule)],
            tensors: Vec::new(),
            label: "optimizer".to_owned(),
            param_usages: wgpu::BufferUsages::empty(),
            grad_usages: wgpu::BufferUsages::empty(),
            dynamic_gradients: false,
            around: Around::default(),
            rows: RowsInfo::default(),
            cache: None,
            storage: Storage::default(),
            seed: 0,
            given_directions: false,
            sum_lanes: None,
        }
    }

    /// Adds a parameter group. All groups of an optimizer hold the same rule, each with its own settings.
    pub fn group(&mut self, name: impl Into<String>, rule: impl Into<Box<dyn Rule>>) -> Group {
        self.groups.push(GroupInfo::new(name.into(), rule.into()));
        Group(self.groups.len() - 1)
    }

    /// Adds a tensor that lives in the crate's buffers, each at the device's offset alignment, zero at first:
    /// see [`Optimizer::param`], [`Optimizer::grad`] and [`Optimizer::write_param`].
    pub fn tensor(&mut self, group: Group, name: impl Into<String>, shape: &[usize]) -> Tensor {
        self.add(group, name.into(), shape, Home::Own)
    }

    /// Adds a tensor that lives in the caller's buffers, as f32 or as [`store`](Self::tensor_storage) says: `param` and `grad` hold exactly the
    /// shape's elements, begin at multiples of 16 bytes and have `STORAGE` usage. Several tensors, parameters and gradients too, may share
    /// a buffer; a tensor's range rounded up to 16 bytes must lie in its buffer and touch no other tensor's. An odd count in half
    /// precision is rounded up to whole words.
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

    /// As [`bind`](Self::bind), for a tensor whose gradient has no home: each step is
    /// [`Optimizer::step_with_grads`] and names it. Implies [`dynamic_gradients`](Self::dynamic_gradients).
    pub fn bind_param(
        &mut self,
        group: Group,
        name: impl Into<String>,
        shape: &[usize],
        param: wgpu::BufferSlice<'_>,
    ) -> Tensor {
        self.dynamic_gradients = true;
        self.add(group, name.into(), shape, Home::Bound { param: param.into(), grad: None })
    }

    /// Prepares for [`Optimizer::step_with_grads`]. Default false, which saves each chunk a look-up.
    pub fn dynamic_gradients(&mut self, moving: bool) -> &mut Self {
        self.dynamic_gradients = moving;
        self
    }

    /// Clips gradients inside the step. Default: not.
    pub fn clip(&mut self, clip: Clip) -> &mut Self {
        self.around.clip = Some(clip);
        self
    }

    /// Divides gradients by a loss scale that the GPU keeps, and leaves a step out where a gradient is not finite. Default: not.
    pub fn loss_scale(&mut self, scale: LossScale) -> &mut Self {
        self.around.loss_scale = Some(scale);
        self
    }

    /// Leaves a step out whole where a gradient is not finite: parameters, states, the count and bias corrections stay as they
    /// were. Implied by [`loss_scale`](Self::loss_scale). Default: not.
    pub fn skip_nonfinite(&mut self, skip: bool) -> &mut Self {
        self.around.skip_nonfinite = skip;
        self
    }

    /// Joins the gradients of micro-batches, given with [`Optimizer::accumulate`]; costs 4 bytes a parameter. Default: not.
    pub fn accumulate(&mut self, how: Accumulate) -> &mut Self {
        self.around.accumulate = Some(how);
        self
    }

    /// Keeps an average of the weights, in the launch of the step; costs 4 bytes a parameter. Default: not.
    pub fn ema(&mut self, ema: Ema) -> &mut Self {
        self.around.ema = Some(ema);
        self
    }

    /// Sets gradients to zero once the step has read them, in the same launch. Skipped steps do too. Default: not.
    pub fn zero_grad(&mut self, zero: bool) -> &mut Self {
        self.around.zero_grad = zero;
        self
    }

    /// Measures every step: [`Optimizer::try_stats`] gives norms of gradients, parameters and updates, clip factors and counts, per
    /// tensor and in total. No launch is added beside those of a clip by norm, whose sums it shares: the update, which holds parameters
    /// and changes in registers, leaves two sums a chunk. What a step measured comes back through a ring of four mappable buffers of
    /// 16 bytes a chunk of 1024 elements, and is added in f64 where it is asked for. Default: not.
    pub fn telemetry(&mut self, measure: bool) -> &mut Self {
        self.around.telemetry = measure;
        self
    }

    /// Climbs instead of descending, for a group. Default: not.
    pub fn maximize(&mut self, group: Group) -> &mut Self {
        if let Some(info) = self.groups.get_mut(group.0) {
            info.maximize = true;
            self.around.signed = true;
        }
        self
    }

    /// Gives a group's learning rate to a schedule, by applied step: the step before which t steps were applied uses
    /// `schedule.rate(t)`. A step that the GPU leaves out does not move it, and [`Optimizer::write_step_count`] sets its position.
    /// The group's own rate is the base of a schedule that has none, and cannot be set any more.
    ///
    /// Values are computed hundreds of steps ahead; one that is out of range is an error of the step whose turn it may be. In an
    /// optimizer with a schedule every setting of every group may change only while no recorded step is unfinished.
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
    /// assert_eq!(optimizer.schedule(Group::DEFAULT, "lr").map(|s| s.rate(50)), Some(3e-4));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn schedule(&mut self, group: Group, schedule: impl Into<Schedule>) -> &mut Self {
        self.schedule_setting(group, "lr", schedule)
    }

    /// As [`schedule`](Self::schedule), for any numeric setting. A later schedule of the same setting takes the place of an earlier.
    pub fn schedule_setting(&mut self, group: Group, setting: &str, schedule: impl Into<Schedule>) -> &mut Self {
        if let Some(info) = self.groups.get_mut(group.0) {
            info.scheduled.retain(|s| s.setting != setting);
            info.scheduled.push(Scheduled::new(info.rule.as_ref(), setting, schedule.into()));
            self.around.scheduled = true;
        }
        self
    }

    /// Routes those tensors of a group that `which` picks, given before or after this, into a new group like it as it is now, schedules
    /// included, but without weight decay, and returns that group. It is a group like any other from then on: a rate set for the one
    /// holds for the one, and [`Clip::GroupNorm`] takes its norm apart.
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
    /// The rule has no `weight_decay`; there is no such group.
    pub fn exclude_from_decay(&mut self, group: Group, which: NoDecay) -> Result<Group> {
        let count = self.groups.len();
        let info = self.groups.get(group.0);
        let info = info.ok_or_else(|| Error::Usage(format!("group {} does not exist, there are {count}", group.0)))?;
        let mut twin = GroupInfo::new(NoDecay::twin_name(&info.name), NoDecay::twin_rule(info.rule.as_ref())?);
        twin.maximize = info.maximize;
        twin.scheduled = info.scheduled.iter().filter(|s| !NoDecay::is_decay(&s.setting)).cloned().collect();
        for tensor in self.tensors.iter_mut().filter(|t| t.group == group.0) {
            if which.picks(&tensor.name, &tensor.shape) {
                tensor.group = count;
            }
        }
        self.groups[group.0].routes.push((which, count));
        self.groups.push(twin);
        Ok(Group(count))
    }

    /// Leaves a tensor as it is: it takes no part in steps and sums and has no states.
    pub fn freeze(&mut self, tensor: Tensor) -> &mut Self {
        if let Some(info) = self.tensors.get_mut(tensor.0) {
            info.frozen = true;
        }
        self
    }

    /// How all tensors are stored for which [`store`](Self::tensor_storage) says nothing else. Default f32 throughout.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// let embedding = builder.tensor(Group::DEFAULT, "embedding", &[1000, 64]);
    /// let head = builder.tensor(Group::DEFAULT, "head", &[64, 10]);
    /// builder.storage("bf16-split,8bit".parse()?).store(head, "f32".parse()?);
    /// # let _ = embedding;
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn storage(&mut self, storage: Storage) -> &mut Self {
        self.storage = storage;
        self
    }

    /// How a tensor is stored. Its parameters and gradients lie in these formats wherever they lie, in the caller's buffers too, which
    /// have 2 bytes an element for half precision.
    pub fn tensor_storage(&mut self, tensor: Tensor, storage: Storage) -> &mut Self {
        if let Some(info) = self.tensors.get_mut(tensor.0) {
            info.storage = Some(storage);
        }
        self
    }

    /// Decides what is left to chance: the random directions of a rule that probes, and numbers rounded up or down. Default 0.
    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.seed = seed;
        self
    }

    /// Takes the directions of a rule that probes from the states `direction_1` … (see [`Optimizer::write_state`]), which cost 4 bytes
    /// a parameter each, and brings them to length one. Default false: random ones, which cost nothing.
    pub fn given_directions(&mut self, given: bool) -> &mut Self {
        self.given_directions = given;
        self
    }

    /// Names the optimizer in wgpu's labels. Default "optimizer".
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Usages of the crate's buffers beyond `STORAGE | COPY_SRC | COPY_DST`, such as `VERTEX` for parameters.
    pub fn extra_usages(&mut self, params: wgpu::BufferUsages, grads: wgpu::BufferUsages) -> &mut Self {
        self.param_usages = params;
        self.grad_usages = grads;
        self
    }

    /// Compiles through the caller's pipeline cache.
    pub fn pipeline_cache(&mut self, cache: &wgpu::PipelineCache) -> &mut Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Creates every buffer, bind group and pipeline. May run on any thread; nothing is waited for.
    ///
    /// # Errors
    /// A setting out of range, a name given twice, a range that is misaligned, of the wrong length, outside its buffer or
    /// overlapping another, a buffer without `STORAGE` usage or of another device, a limit of the device that is too low,
    /// groups that hold different rules; row sets whose tensors have other rows, or whose mask does not fit.
    pub fn build(mut self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Optimizer> {
        self.settle()?;
        Optimizer::create(self, device, queue)
    }

    /// Finds what the rooms and storages that were asked for come to, and checks everything.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.make_room();
        self.find_formats()?;
        self.check()
    }

    /// What every tensor's storage comes to.
    fn find_formats(&mut self) -> Result<()> {
        for tensor in &mut self.tensors {
            // A group that is not there is found by the checks.
            let Some(group) = self.groups.get(tensor.group) else { continue };
            let storage = tensor.storage.as_ref().unwrap_or(&self.storage);
            tensor.formats = storage.formats(group.rule.as_ref(), tensor.elements)?;
        }
        Ok(())
    }

    fn add(&mut self, group: Group, name: String, shape: &[usize], home: Home) -> Tensor {
        // A product past u64 is refused by `check` as too long.
        let elements = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d as u64)).unwrap_or(u64::MAX);
        let routes = self.groups.get(group.0).map_or(&[][..], |info| &info.routes);
        let route = routes.iter().find(|(which, _)| which.picks(&name, shape));
        let group = route.map_or(group.0, |(_, twin)| *twin);
        self.tensors.push(TensorInfo {
            name,
            shape: shape.to_vec(),
            elements,
            group,
            home,
            frozen: false,
            storage: None,
            formats: Formats::default(),
        });
        Tensor(self.tensors.len() - 1)
    }
}
