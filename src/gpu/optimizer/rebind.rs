//! Parameters that move to another buffer between two steps.

use crate::gpu::build::spec::{Home, Slice};
use crate::gpu::optimizer::Optimizer;
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
        self.parts.iter().try_for_each(|part| part.context.check())?;
        self.check_rebind(from, to)?;
        self.put_params(from, to);
        if let Err(problem) = self.check_buffers() {
            // No parameters lay in `to` before.
            self.put_params(to, from);
            return Err(problem);
        }
        self.parts.iter_mut().try_for_each(|part| {
            part.scalars.end_half();
            part.bind_again()
        })
    }

    /// Replaces a buffer of parameters, in the specification and in every part.
    fn put_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) {
        self.spec.put_params(from, to);
        self.parts.iter_mut().for_each(|part| part.put_params(from, to));
    }

    /// Checks that parameters can move from `from` to `to`.
    fn check_rebind(&self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<()> {
        let device = &self.parts[0].context.device;
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
                info.check_buffer(device, "parameters", to)?;
            }
        }
        if found {
            return Ok(());
        }
        let problem = "no parameters lie in the buffer from which rebind_params moves them: name a buffer that Builder::bind or \
                           Builder::bind_param got";
        Err(Error::Usage(problem.to_owned()))
    }
}
