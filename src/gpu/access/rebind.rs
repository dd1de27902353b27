//! Parameters that move to another buffer between two steps.

use crate::gpu::Optimizer;
use crate::gpu::build::spec::{Home, Slice};
use crate::{Error, Result};

impl Optimizer {
    /// Binds the parameters that lie in the buffer `from` of the caller to the buffer `to`, at the same offsets. States, counters and settings
    /// stay. The call copies no parameter: the next recorded step changes what `to` holds then. Steps that were recorded before use `from`.
    /// The call creates bind groups, and no pipeline.
    ///
    /// ```
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// use wgpu_optim::{AdamW, Group, Optimizer, wgpu};
    ///
    /// # let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    /// # let make = || device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 512, usage, mapped_at_creation: false });
    /// # let (params, moved, grads) = (make(), make(), make());
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// builder.bind(Group::DEFAULT, "w", &[128], params.slice(..), grads.slice(..));
    /// let mut optimizer = builder.build(&device, &queue)?;
    ///
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// encoder.copy_buffer_to_buffer(&params, 0, &moved, 0, 512); // `params` keeps its values from here on
    /// optimizer.rebind_params(&params, &moved)?;
    /// optimizer.step(&mut encoder)?;
    /// queue.submit([encoder.finish()]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// No parameters lie in `from`; gradients lie in `from` too; `to` is shorter than the ranges need, holds other parameters or gradients,
    /// has no `STORAGE` usage, was destroyed, or belongs to another device; another bound buffer was destroyed; the device was lost. Nothing
    /// changes then. Otherwise a half step ([`record_sums`](Self::record_sums)) ends.
    pub fn rebind_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<()> {
        if from == to {
            return Ok(());
        }
        self.context.check()?;
        let index = self.check_rebind(from, to)?;
        self.put_params(index, to);
        if let Err(problem) = self.check_buffers() {
            self.put_params(index, from);
            return Err(problem);
        }
        self.scalars.end_half();
        self.bind_again()
    }

    /// Replaces the buffer of this number, in the placement and in the specification.
    fn put_params(&mut self, index: usize, to: &wgpu::Buffer) {
        let from = std::mem::replace(&mut self.placement.buffers[index], to.clone());
        self.placement.callers.iter_mut().filter(|buffer| **buffer == from).for_each(|buffer| *buffer = to.clone());
        for tensor in &mut self.spec.tensors {
            if let Home::Bound { param, .. } = &mut tensor.home
                && param.buffer == from
            {
                param.buffer = to.clone();
            }
        }
    }

    fn bind_again(&mut self) -> Result<()> {
        let mut dispatches = std::mem::take(&mut self.kernels.dispatches);
        let bound = dispatches.iter_mut().enumerate().try_for_each(|(index, set)| {
            let arena = set.arena.clone();
            set.passes_mut().try_for_each(|pass| {
                pass.group = self.pass_group(&pass.pipeline, index, &arena, &pass.table, pass.round);
                if pass.without_grads.is_some() {
                    pass.without_grads = Some(self.group_without_grads(index, &arena, &pass.table, &pass.pipeline)?);
                }
                Ok(())
            })
        });
        self.kernels.dispatches = dispatches;
        self.rebind_remap();
        bound
    }

    /// The number of the buffer `from`.
    fn check_rebind(&self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<usize> {
        let mut found = false;
        for info in &self.spec.tensors {
            let Home::Bound { param, grad } = &info.home else { continue };
            if let Some(grad) = grad.as_ref().filter(|grad| grad.buffer == *from || grad.buffer == *to) {
                let which = if grad.buffer == *from { "from which" } else { "to which" };
                return Err(
                    info.error(format!("its gradients lie in the buffer {which} rebind_params moves parameters"))
                );
            }
            if param.buffer == *to {
                return Err(info
                    .error("its parameters already lie in the buffer to which rebind_params moves others".to_owned()));
            }
            if param.buffer == *from {
                found = true;
                let slice = Slice { buffer: to.clone(), ..param.clone() };
                info.check_slice("parameters", &slice, info.formats.params.format())?;
                info.check_buffer(&self.context.device, "parameters", to)?;
            }
        }
        let index = self.placement.buffers.iter().position(|buffer| buffer == from).filter(|_| found);
        index.ok_or_else(|| {
            let problem = "no parameters lie in the buffer from which rebind_params moves them: name a buffer that Builder::bind or \
                           Builder::bind_param got";
            Error::Usage(problem.to_owned())
        })
    }
}
