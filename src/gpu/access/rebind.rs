//! Parameters that move to another buffer between two steps.

use futures::FutureExt as _;

use crate::gpu::Optimizer;
use crate::gpu::build::blame::{blame, bound};
use crate::gpu::build::spec::{Home, Slice};
use crate::{Error, Result};

impl Optimizer {
    /// Binds the parameters that lie in the buffer `from` of the caller to the buffer `to`, at the same offsets. States, counters and settings
    /// stay. The call copies no parameter: the next recorded step changes what `to` holds then. Steps that were recorded before use `from`.
    /// The call creates bind groups, and no buffer or pipeline.
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
    /// has no `STORAGE` usage, or belongs to another device; [`record_sums`](Self::record_sums) waits for its second half.
    pub fn rebind_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let index = self.check_rebind(from, to)?;
        self.put_params(index, to);
        let device = self.context.device.clone();
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        self.bind_again();
        let Some(refusal) = scope.pop().now_or_never().flatten() else { return Ok(()) };
        let error = blame(&device, &self.context.queue, &refusal, bound(&self.spec.tensors));
        self.put_params(index, from);
        self.bind_again();
        Err(error)
    }

    /// Replaces the buffer of this number, in the placement and in the specification.
    fn put_params(&mut self, index: usize, to: &wgpu::Buffer) {
        let from = std::mem::replace(&mut self.placement.buffers[index], to.clone());
        for tensor in &mut self.spec.tensors {
            if let Home::Bound { param, .. } = &mut tensor.home
                && param.buffer == from
            {
                param.buffer = to.clone();
            }
        }
    }

    fn bind_again(&mut self) {
        let mut dispatches = std::mem::take(&mut self.kernels.dispatches);
        for (index, set) in dispatches.iter_mut().enumerate() {
            let arena = set.arena.clone();
            for pass in set.passes_mut() {
                pass.group = self.pass_group(&pass.pipeline, index, &arena, &pass.table, pass.round);
            }
        }
        self.kernels.dispatches = dispatches;
        self.rebind_remap();
    }

    /// The number of the buffer `from`.
    fn check_rebind(&self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<usize> {
        if self.half.is_some() {
            return Err(Error::Usage("rebind_params after record_sums: call record_update first".to_owned()));
        }
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
