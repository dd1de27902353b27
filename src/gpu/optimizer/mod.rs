//! The optimizer that the caller holds. It has one part for each rule, keeps the specification of the whole, and hands each call to its parts.
//! The parts do the work, in `access` and `record`; the files here hold the public calls with their documentation.

mod decisions;
mod memory;
mod numbers;
pub(crate) mod partial;
mod rebind;
mod rows;
mod settings;
#[cfg(feature = "checkpoint")]
mod snapshot;
mod step;
mod telemetry;
mod warp;

use crate::Result;
use crate::gpu::build::buffers::Owned;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::division::{Directory, InPart};
use crate::gpu::build::spec::{Group, Slice, Spec, Tensor};
use crate::gpu::kernel::exchange::Exchange;
use crate::gpu::layout::memory::MemoryUsage;
use crate::gpu::part::Part;
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
    /// The specification of the whole. Each part has its share of it.
    pub(crate) spec: Spec,
    /// One for each rule, in the order of the groups.
    pub(crate) parts: Vec<Part>,
    pub(crate) directory: Directory,
    pub(crate) evaluations: Evaluations,
    /// `Some` if the parts share a clip by global norm or a test for finite numbers.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) memory_usage: MemoryUsage,
    /// The buffers of every part.
    pub(crate) owned: Owned,
}

impl Optimizer {
    /// A builder of an optimizer. Its [`Group::DEFAULT`](crate::Group::DEFAULT) holds `rule`.
    pub fn builder(rule: impl Into<Box<dyn Rule>>) -> Builder {
        Builder::new(rule.into())
    }

    /// Gives the memory of the optimizer's own buffers back, without waiting for the optimizer and the clones of its buffers to be dropped.
    /// In a browser only this call does: there, dropping a buffer leaves it to the garbage collector, which does not see its size. Work that
    /// was submitted runs to its end; do not submit recorded steps after this call. The caller's buffers stay as they are.
    pub fn destroy(self) {
        self.owned.destroy();
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
        let (part, tensor) = self.of_tensor(tensor)?;
        part.param(tensor)
    }

    /// The range of a buffer from which a step reads the gradients of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor was bound without gradients
    /// ([`Builder::bind_param`](crate::Builder::bind_param)).
    pub fn grad(&self, tensor: Tensor) -> Result<wgpu::BufferSlice<'_>> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.grad(tensor)
    }

    /// The count of dispatches of a step: one per class for the update, and with sums one more per class and one for the totals. Rules that
    /// decide from probes or keep progress, and steps that may leave out tensors, have the one for the totals too. Dynamic gradients need
    /// more, one per run of gradients in one buffer. WarpAdam's product needs one per class, Adafactor's matrices need one per
    /// class and three. The count leaves out the passes of probes and integrators between evaluations.
    #[must_use]
    pub fn dispatches(&self) -> usize {
        // With an exchange, the decisions of each part are a dispatch of their own.
        let exchange = self.exchange.as_ref().map_or(0, |_| 1 + self.parts.len());
        self.parts.iter().map(Part::dispatches).sum::<usize>() + exchange
    }

    /// The count of dispatches of a micro-batch ([`accumulate`](Self::accumulate)): one per class.
    #[must_use]
    pub fn accumulate_dispatches(&self) -> usize {
        self.parts.iter().map(Part::accumulate_dispatches).sum()
    }

    /// The totals of the last recorded round of sums: one record over all tensors, then one record per tensor. A record has one vec4 per total, the
    /// coefficients of 1, c and c² in the clip factor c: the totals of the rule, then, with a clip by norm or a test for finite numbers, the
    /// squared norm of the gradient before the clip and the count of its numbers that are not finite. Between [`record_sums`](Self::record_sums) and
    /// [`record_update`](Self::record_update), the caller may add record 0 of other optimizers or other machines to record 0, and the record of a
    /// tensor to the record of a tensor of which other optimizers step the rest. Every optimizer must then hold the same bits. `None` if the
    /// step has no sums, or if the groups hold several rules, each of which has totals of its own: see [`totals_of`](Self::totals_of).
    #[must_use]
    pub fn totals(&self) -> Option<&wgpu::Buffer> {
        match self.parts.as_slice() {
            [part] => part.totals().map(|totals| &totals.buffer),
            _ => None,
        }
    }

    /// The totals of the rule of a group, over the tensors of all groups with this rule: see [`totals`](Self::totals). If the groups of several
    /// rules share a clip by global norm or a test for finite numbers, the squared norm and the count of record 0 are those of all rules
    /// after [`record_sums`](Self::record_sums). `None` if the rule has no sums in the last recorded round.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn totals_of(&self, group: Group) -> Result<Option<wgpu::BufferSlice<'_>>> {
        let place = self.directory.group(&self.spec, group)?;
        Ok(place.and_then(|place| self.parts[place.part].totals()).map(Slice::slice))
    }

    /// The count of rounds of sums that a step makes: 2 where a rule sums gradients that a clip by norm changed, 0 or 1 elsewhere.
    #[must_use]
    pub fn sum_rounds(&self) -> usize {
        self.parts.iter().map(|part| part.kernels.main_rounds).max().unwrap_or(0)
    }

    /// The loss scale, one f32: bind it in the loss kernel. The buffer belongs to the optimizer; only read it.
    #[must_use]
    pub fn loss_scale(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.parts.first().and_then(Part::loss_scale)
    }

    /// The part of a tensor, with the handle of the tensor in it.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn of_tensor(&self, tensor: Tensor) -> Result<(&Part, Tensor)> {
        let InPart { part, index } = self.directory.tensor(&self.spec, tensor)?;
        let part = &self.parts[part];
        Ok((part, part.spec.tensor_handle(index)))
    }

    /// As [`of_tensor`](Self::of_tensor), for writing.
    pub(crate) fn of_tensor_mut(&mut self, tensor: Tensor) -> Result<(&mut Part, Tensor)> {
        let InPart { part, index } = self.directory.tensor(&self.spec, tensor)?;
        let part = &mut self.parts[part];
        let tensor = part.spec.tensor_handle(index);
        Ok((part, tensor))
    }
}
