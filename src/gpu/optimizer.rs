//! The optimizer itself: what it holds, and its settings.

use crate::gpu::access::telemetry::Telemetry;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::places::Places;
use crate::gpu::build::spec::{Group, GroupInfo, Slice, Tensor, TensorInfo};
use crate::gpu::hyper::scalars::{Scalars, Slot};
use crate::gpu::kernel::kernels::{LaunchGpu, RoundGpu};
use crate::gpu::layout::class::Class;
use crate::gpu::layout::launches::Layout;
use crate::gpu::layout::memory::MemoryUsage;
use crate::gpu::layout::rows::RowState;
use crate::gpu::layout::runs::Runs;
use crate::gpu::record::rows::Remap;
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::{check_common, goes_on};
use crate::optim::{Procedure, Rule, Value};
use crate::options::around::{Around, Clip};
use crate::options::schedule::{Schedule, refuse_owned};
use crate::{Error, Result};

/// One optimizer over any number of tensors and groups, on the caller's device.
///
/// Shapes, settings and places are given to its [`Builder`]; after [`Builder::build`] it creates no buffer, bind group or pipeline.
///
/// ```
/// use wgpu_optim::{AdamW, Optimizer};
/// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
/// # let (device, queue) = (gpu.device, gpu.queue);
/// let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
/// let w = builder.tensor(wgpu_optim::Group::DEFAULT, "w", &[2, 3]);
/// let mut optimizer = builder.build(&device, &queue)?;
/// optimizer.write_param(w, &[1.0; 6])?;
/// optimizer.write_grad(w, &[0.5; 6])?;
///
/// let mut encoder = device.create_command_encoder(&Default::default());
/// optimizer.step(&mut encoder)?;
/// queue.submit([encoder.finish()]);
///
/// let moved = pollster::block_on(optimizer.read_param(w))?;
/// assert!(moved.iter().all(|x| (x - 0.899).abs() < 1e-5));
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) label: String,
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) places: Vec<Places>,
    pub(crate) variants: Vec<Class>,
    pub(crate) class_of: Vec<usize>,
    /// The distinct buffers of all places.
    pub(crate) buffers: Vec<wgpu::Buffer>,
    pub(crate) layout: Layout,
    pub(crate) launches: Vec<LaunchGpu>,
    pub(crate) rounds: Vec<RoundGpu>,
    pub(crate) around: Around,
    pub(crate) rows: RowState,
    /// `Some` where there are row sets.
    pub(crate) remap: Option<Remap>,
    pub(crate) scalars: Scalars,
    pub(crate) control: wgpu::Buffer,
    /// A slot for the loss at the parameters and one for each probe, where the rule probes.
    pub(crate) losses: Option<wgpu::Buffer>,
    /// The records of the procedure's passes.
    pub(crate) passes: Option<wgpu::Buffer>,
    /// How many of the rounds every step makes; the others are the procedure's.
    pub(crate) main_rounds: usize,
    pub(crate) evaluations: Evaluations,
    pub(crate) memory: MemoryUsage,
    /// `Some` where gradients move.
    pub(crate) runs: Option<Runs>,
    /// `Some` where steps are measured.
    pub(crate) telemetry: Option<Telemetry>,
    /// The step whose sums are recorded and whose update is not.
    pub(crate) half: Option<Slot>,
}

impl Optimizer {
    /// A builder whose [`Group::DEFAULT`] holds `rule`.
    pub fn builder(rule: impl Into<Box<dyn Rule>>) -> Builder {
        Builder::new(rule.into())
    }

    /// A group's settings as they are now; of what is scheduled, as it was built.
    #[must_use]
    pub fn rule(&self, group: Group) -> &dyn Rule {
        self.groups[group.0].rule.as_ref()
    }

    /// The schedule that owns a group's setting ("lr" …), where one does.
    #[must_use]
    pub fn schedule(&self, group: Group, setting: &str) -> Option<&Schedule> {
        self.groups[group.0].scheduled.iter().find(|s| s.setting == setting).map(|s| &s.schedule)
    }

    /// The groups' names, in order.
    pub fn groups(&self) -> impl Iterator<Item = (Group, &str)> {
        self.groups.iter().enumerate().map(|(i, g)| (Group(i), g.name.as_str()))
    }

    /// The tensors with their names and shapes, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &str, &[usize])> {
        self.tensors.iter().enumerate().map(|(i, t)| (Tensor(i), t.name.as_str(), t.shape.as_slice()))
    }

    /// A tensor's group.
    #[must_use]
    pub fn group_of(&self, tensor: Tensor) -> Group {
        Group(self.tensors[tensor.0].group)
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.tensors.iter().position(|t| t.name == name).map(Tensor)
    }

    /// Where a tensor's parameters lie. The range is the shape's elements, of a reserved row set those that there is room for; of an empty
    /// tensor, 16 bytes that are not its own.
    #[must_use]
    pub fn param(&self, tensor: Tensor) -> wgpu::BufferSlice<'_> {
        self.places[tensor.0].param.slice()
    }

    /// Where a tensor's gradients are read.
    ///
    /// # Errors
    /// The tensor was bound without gradients ([`Builder::bind_param`]).
    pub fn try_grad(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        let info = &self.tensors[tensor.0];
        let grad = self.places[tensor.0].grad.as_ref();
        grad.map(Slice::slice).ok_or_else(|| info.error("it was bound without gradients".to_owned()))
    }

    /// Where a tensor's gradients are read.
    ///
    /// # Panics
    /// The tensor was bound without gradients; see [`try_grad`](Self::try_grad).
    #[must_use]
    pub fn grad(&self, tensor: Tensor) -> wgpu::BufferSlice<'_> {
        match self.try_grad(tensor) {
            Ok(slice) => slice,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets a group's learning rate for the steps recorded from now on.
    ///
    /// # Errors
    /// The rate is out of its range, or belongs to a schedule.
    pub fn set_lr(&mut self, group: Group, lr: f64) -> Result<()> {
        self.set(group, "lr", &Value::Number(lr))
    }

    /// Sets one of a group's settings for the steps recorded from now on. Nothing is compiled.
    ///
    /// # Errors
    /// An unknown name; a value out of range; a setting that would change which states are kept, or that belongs to a schedule; a
    /// setting that enters bias corrections (β1, β2, ε …), or any where there is a schedule, while recorded steps are not yet
    /// finished.
    pub fn set(&mut self, group: Group, name: &str, value: &Value) -> Result<()> {
        self.set_all(group, [(name, value)])
    }

    /// As [`set`](Self::set) for several settings at once.
    ///
    /// # Errors
    /// As [`set`](Self::set); none is changed then.
    pub fn set_all<'a>(
        &mut self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<()> {
        let info = &self.groups[group.0];
        let settings: Vec<_> = settings.into_iter().collect();
        for (name, _) in &settings {
            refuse_owned(&info.scheduled, &info.name, name)?;
        }
        self.put_settings(group, settings)
    }

    /// As [`set_all`](Self::set_all), also what belongs to a schedule.
    pub(crate) fn put_settings<'a>(
        &mut self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<()> {
        let rule = self.with_settings(group, settings)?;
        let groups = self.groups.iter().enumerate();
        check_common(
            groups.map(|(i, g)| (g.name.as_str(), if i == group.0 { rule.as_ref() } else { g.rule.as_ref() })),
        )?;
        let old = &self.groups[group.0].rule;
        let counts_differ = |&t: &u64| {
            let count = |rule: &dyn Rule| rule.scalars(t).iter().map(|s| s.count).collect::<Vec<_>>();
            count(rule.as_ref()) != count(old.as_ref())
        };
        let counts_change = self.around.scheduled || [1, 2, 3, 10, 100].iter().any(counts_differ);
        if counts_change && !self.scalars.idle(&self.device) {
            return Err(Error::Usage(format!(
                "a setting of group `{}` that is computed ahead (bias corrections; with a schedule, all) may change only while no \
                 recorded step is unfinished: submit and wait first",
                self.groups[group.0].name
            )));
        }
        self.groups[group.0].rule = rule;
        if counts_change {
            self.scalars.restart(None);
        }
        self.scalars.settings_changed();
        Ok(())
    }

    /// A group's rule with other settings, if the optimizer could go on with it.
    pub(crate) fn with_settings<'a>(
        &self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Box<dyn Rule>> {
        let info = &self.groups[group.0];
        let mut rule = info.rule.clone();
        for (name, value) in settings {
            rule.set(name, value)?;
        }
        rule.check()?;
        if !goes_on(rule.as_ref(), info.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "the settings of group `{}` change which states are kept: build a new optimizer",
                info.name
            )));
        }
        Ok(rule)
    }

    /// How many launches a step makes: one a class for the update; with sums one a class and one more. Where gradients move, as many
    /// more as their buffers ask for. WarpAdam's product is one a class. What probes and integrators add between evaluations is not
    /// counted.
    #[must_use]
    pub fn dispatches(&self) -> usize {
        let warps = matches!(self.groups[0].rule.procedure(), Procedure::Warp(_));
        let of_launch = |l: &LaunchGpu| {
            let stats = l.stats.iter().take(self.main_rounds).flatten().count();
            1 + stats + usize::from(warps)
        };
        self.launches.iter().map(of_launch).sum::<usize>() + self.main_rounds
    }

    /// How many launches a micro-batch makes ([`accumulate`](Self::accumulate)): one a class.
    #[must_use]
    pub fn accumulate_dispatches(&self) -> usize {
        self.launches.iter().filter(|l| l.accumulate.is_some()).count()
    }

    /// The totals of the last step's sums over everything, and then each tensor's: records of one vec4 a total, the coefficients of
    /// 1, c, c² in the clip factor c: the rule's totals, then, where gradients are clipped by norm or tested, the gradient's squared
    /// norm and the count of its numbers that are not finite. Between [`record_sums`](Self::record_sums) and
    /// [`record_update`](Self::record_update) record 0 may be added to another optimizer's or another machine's. `None` where nothing
    /// needs sums.
    #[must_use]
    pub fn totals(&self) -> Option<&wgpu::Buffer> {
        let sums = self.variants[0].sums.sums > 0 || self.around.sums();
        self.rounds.first().filter(|_| sums).map(|r| &r.totals)
    }

    /// Where the loss scale lies, one f32: bind it in the loss kernel. The whole buffer is the optimizer's and only to be read.
    #[must_use]
    pub fn loss_scale(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.around.loss_scale.map(|_| self.control.slice(16..20))
    }

    /// Sets the largest norm or value of the clip for the steps recorded from now on.
    ///
    /// # Errors
    /// It is not a finite number above 0; the optimizer was built without a clip.
    pub fn set_clip(&mut self, most: f64) -> Result<()> {
        let clip = match self.around.clip {
            None => return Err(Error::Usage("the optimizer was built without a clip".to_owned())),
            Some(Clip::GlobalNorm(_)) => Clip::GlobalNorm(most),
            Some(Clip::GroupNorm(_)) => Clip::GroupNorm(most),
            Some(Clip::TensorNorm(_)) => Clip::TensorNorm(most),
            Some(Clip::Value(_)) => Clip::Value(most),
        };
        clip.check()?;
        self.around.clip = Some(clip);
        self.scalars.set_around(self.around);
        Ok(())
    }
}

impl<R: Rule + 'static> From<R> for Box<dyn Rule> {
    fn from(rule: R) -> Self {
        Box::new(rule)
    }
}

/// Natively an optimizer may be built on one thread and stepped on another.
#[cfg(not(target_arch = "wasm32"))]
const _: () = {
    const fn may_cross_threads<T: Send + Sync>() {}
    may_cross_threads::<Optimizer>();
    may_cross_threads::<Builder>();
};

#[cfg(all(test, feature = "tools"))]
mod tests {
    use super::*;
    use crate::VRAdam;
    use crate::gpu::read_buffer;

    /// The totals of two steps with so many threads a workgroup of the sums: software GPUs run another number than hardware does.
    fn totals(gpu: &crate::tools::adapter::Gpu, sum_lanes: u32) -> Vec<f32> {
        let mut builder = Optimizer::builder(VRAdam::default());
        builder.sum_lanes = Some(sum_lanes);
        let lengths = [1, 5, 8 * 4 + 1, 1000, 16 * 1024 + 1, 70_001];
        let tensors = lengths.map(|n| builder.tensor(Group::DEFAULT, format!("of {n}"), &[n]));
        let mut optimizer = builder.build(&gpu.device, &gpu.queue).expect("it builds");
        for step in 0..2 {
            for (tensor, n) in tensors.into_iter().zip(lengths) {
                let grads: Vec<f32> = (0..n).map(|i| ((i * 37 + step * 11) % 101) as f32 / 100.0).collect();
                optimizer.write_grad(tensor, &grads).expect("lengths agree");
            }
            gpu.run(|encoder| optimizer.step(encoder)).expect("it runs");
        }
        let totals = optimizer.totals().expect("the rule has sums").slice(..);
        let bytes = pollster::block_on(read_buffer(&gpu.device, &gpu.queue, totals)).expect("it is read");
        bytemuck::pod_collect_to_vec(&bytes)
    }

    #[test]
    fn sums_do_not_depend_on_how_many_threads_add_them() {
        let gpu = pollster::block_on(crate::tools::adapter::Selector::default().open()).expect("an adapter");
        let few = totals(&gpu, 8);
        let many = totals(&gpu, 64);
        assert_eq!(few.len(), many.len());
        for (a, b) in few.iter().zip(&many) {
            assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} with 8 threads, {b} with 64");
        }
        assert!(many[..3].iter().all(|sum| *sum > 0.0), "{:?}", &many[..4]);
    }
}
