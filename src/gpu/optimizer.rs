//! The optimizer: its parts, its builder, its step, and the accessors of its tensors and groups.

use crate::Result;
use crate::gpu::access::telemetry::Telemetry;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::{Group, Spec, Tensor};
use crate::gpu::hyper::scalars::Scalars;
use crate::gpu::kernel::context::Context;
use crate::gpu::kernel::kernels::{DispatchSet, Kernels};
use crate::gpu::layout::memory::MemoryUsage;
use crate::gpu::layout::placement::Placement;
use crate::gpu::record::evaluate::Probed;
use crate::gpu::record::mode::Modes;
use crate::gpu::record::rows::Remap;
use crate::optim::Rule;
use crate::optim::procedure::evaluation::Evaluations;
use crate::options::schedule::Schedule;

/// One optimizer over any number of tensors and groups, on the caller's device.
///
/// Its [`Builder`] takes shapes, settings and buffers. After [`Builder::build`], the optimizer creates no buffer, bind group or pipeline.
///
/// On a lost device, every call that needs the GPU returns [`Error::DeviceLost`](crate::Error::DeviceLost). Calls that record take an encoder
/// of the optimizer's own device. wgpu does not tell the device of an encoder: with an encoder of another device, wgpu reports the error when
/// the caller finishes the encoder; with an encoder of another [`wgpu::Instance`], wgpu panics or takes other objects of the same number.
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
    pub(crate) context: Context,
    pub(crate) spec: Spec,
    pub(crate) placement: Placement,
    pub(crate) kernels: Kernels,
    /// `Some` if there are row sets.
    pub(crate) remap: Option<Remap>,
    pub(crate) scalars: Scalars,
    /// Whether probes were recorded or their losses given, for rules that probe.
    pub(crate) probed: Probed,
    pub(crate) modes: Modes,
    /// `Some` if the optimizer measures each step.
    pub(crate) telemetry: Option<Telemetry>,
    pub(crate) evaluations: Evaluations,
    pub(crate) memory_usage: MemoryUsage,
}

impl Optimizer {
    /// A builder of an optimizer. Its [`Group::DEFAULT`](crate::Group::DEFAULT) holds `rule`.
    pub fn builder(rule: impl Into<Box<dyn Rule>>) -> Builder {
        Builder::new(rule.into())
    }

    /// Records one step over every tensor of every group. The step reads gradients and changes parameters when the encoder is submitted, in
    /// the order of the encoder: two steps in one encoder are two steps. If all tensors are frozen or empty, no step is counted.
    ///
    /// # Errors
    /// Too many recorded steps are not yet finished; a tensor has no bound gradient and needs [`step_with_grads`](Self::step_with_grads); the
    /// rule evaluates gradients inside the step; the rule probes and was not probed yet
    /// ([`Builder::undamped_steps`](crate::Builder::undamped_steps)); a bound buffer was destroyed; the device was lost.
    pub fn step(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.check_whole()?;
        if self.kernels.runs.is_some() {
            if self.spec.around.partial {
                let all: Vec<Tensor> = self.spec.tensor_handles().map(|(tensor, _)| tensor).collect();
                return self.step_tensors(encoder, all);
            }
            return self.step_with_grads(encoder, []);
        }
        let slot = self.begin_call(None)?;
        self.record(encoder, &slot, None);
        self.finish(encoder, slot);
        Ok(())
    }

    /// The current settings of a group. A setting with a schedule has the value from the builder.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn rule(&self, group: Group) -> Result<&dyn Rule> {
        Ok(self.spec.group_info(group)?.rule.as_ref())
    }

    /// The schedule of a group's setting ("lr" …), if the setting has one.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn schedule(&self, group: Group, setting: &str) -> Result<Option<&Schedule>> {
        let scheduled = &self.spec.group_info(group)?.scheduled;
        Ok(scheduled.iter().find(|s| s.setting == setting).map(|s| &s.schedule))
    }

    /// The groups with their names, in order.
    pub fn groups(&self) -> impl Iterator<Item = (Group, &str)> {
        self.spec.group_handles().map(|(group, info)| (group, info.name.as_str()))
    }

    /// The tensors with their names and shapes, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &str, &[usize])> {
        self.spec.tensor_handles().map(|(tensor, info)| (tensor, info.name.as_str(), info.shape.as_slice()))
    }

    /// A tensor's group.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn group_of(&self, tensor: Tensor) -> Result<Group> {
        Ok(self.spec.group_handle(self.spec.tensor_info(tensor)?.group))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// The optimizer has no tensor of this name; the error suggests the nearest.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.spec.tensor_named(name)
    }

    /// The range of a buffer in which the parameters of a tensor lie. It holds the elements of the shape, or, in a row set with a capacity,
    /// the elements of the capacity. The content of the range of an empty tensor is undefined. As a binding:
    ///
    /// ```
    /// # use wgpu_optim::{AdamW, Group, Optimizer, wgpu};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let mut builder = Optimizer::builder(AdamW::default());
    /// # let w = builder.tensor(Group::DEFAULT, "w", &[8]);
    /// # let optimizer = builder.build(&gpu.device, &gpu.queue)?;
    /// let slice = optimizer.param(w)?;
    /// let binding = wgpu::BufferBinding {
    ///     buffer: slice.buffer(),
    ///     offset: slice.offset(),
    ///     size: wgpu::BufferSize::new(slice.size()),
    /// };
    /// # let _ = binding;
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn param(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        Ok(self.placement.param(self.spec.tensor(tensor)?))
    }

    /// The range of a buffer from which a step reads the gradients of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor was bound without gradients
    /// ([`Builder::bind_param`](crate::Builder::bind_param)).
    pub fn grad(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        let index = self.spec.tensor(tensor)?;
        let missing = || self.spec.tensors[index].error("it was bound without gradients".to_owned());
        self.placement.grad(index).ok_or_else(missing)
    }

    /// The count of dispatches of a step: one per class for the update, and with sums one more per class and one for the totals. Rules that
    /// decide from probes or keep progress, and steps that may leave out tensors, have the one for the totals too. Dynamic gradients need more, one per run of gradients in one buffer. WarpAdam's product needs one per class. The count leaves out the passes
    /// of probes and integrators between evaluations.
    #[must_use]
    pub fn dispatches(&self) -> usize {
        let passes = self.passes_before_update();
        let of_set = |l: &DispatchSet| {
            let stats = l.stats.iter().take(self.kernels.main_rounds).flatten().count();
            1 + stats + usize::from(passes)
        };
        self.kernels.dispatches.iter().map(of_set).sum::<usize>() + self.kernels.main_rounds
    }

    /// The count of dispatches of a micro-batch ([`accumulate`](Self::accumulate)): one per class.
    #[must_use]
    pub fn accumulate_dispatches(&self) -> usize {
        self.kernels.dispatches.iter().filter(|l| l.accumulate.is_some()).count()
    }

    /// The totals of the last recorded round of sums: one record over all tensors, then one record per tensor. A record has one vec4 per total, the
    /// coefficients of 1, c and c² in the clip factor c: the totals of the rule, then, with a clip by norm or a test for finite numbers, the
    /// squared norm of the gradient before the clip and the count of its numbers that are not finite. Between [`record_sums`](Self::record_sums) and
    /// [`record_update`](Self::record_update), the caller may add record 0 of other optimizers or other machines to record 0, and the record of a
    /// tensor to the record of a tensor of which other optimizers step the rest. Every optimizer must then hold the same bits. `None` where the
    /// step has no sums.
    #[must_use]
    pub fn totals(&self) -> Option<&wgpu::Buffer> {
        let sums = self.placement.classes[0].sums.sums > 0 || self.spec.around.sums();
        self.kernels.rounds.get(self.scalars.half_round()).filter(|_| sums).map(|r| &r.totals)
    }

    /// The count of rounds of sums that a step makes: 2 where the rule sums gradients that a clip by norm changed, 0 or 1 elsewhere.
    #[must_use]
    pub const fn sum_rounds(&self) -> usize {
        self.kernels.main_rounds
    }

    /// The loss scale, one f32: bind it in the loss kernel. The buffer belongs to the optimizer; only read it.
    #[must_use]
    pub fn loss_scale(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.spec.around.loss_scale.map(|_| self.kernels.control.slice(16..20))
    }
}
