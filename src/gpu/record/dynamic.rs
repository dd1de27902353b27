//! Dynamic gradients: the ranges that a step names, and one dispatch per run of tensors with gradients in one window.

use std::collections::HashSet;
use std::sync::Arc;

use crate::gpu::Part;
use crate::gpu::build::scope::{Patience, Scope};
use crate::gpu::build::spec::{Slice, Tensor, index_of};
use crate::gpu::kernel::kernels::{Kind, Offsets, Pass};
use crate::gpu::kernel::pipelines::{Pipeline, bind_group};
use crate::gpu::layout::units::{ABSENT, VEC4};
use crate::gpu::layout::windows::Limits;
use crate::{Error, Result};

/// The gradients that a step names: windows of buffers, and the position of each tensor's gradient in its window.
#[derive(Debug)]
pub(crate) struct DynamicGradients {
    windows: Vec<Slice>,
    window_of: Vec<usize>,
    /// First vec4 of each tensor's gradient in its window; [`ABSENT`] where the step leaves out the tensor.
    pub(crate) positions: Vec<u32>,
    dispatches: Vec<RunDispatch>,
}

/// One dispatch over a run of parts with gradients in one window.
#[derive(Debug)]
struct RunDispatch {
    kind: Kind,
    pipeline: wgpu::ComputePipeline,
    /// The pipeline that has the bindings.
    bindings: Arc<Pipeline>,
    group: wgpu::BindGroup,
    /// The dynamic offset of the record of the first part.
    offset: u32,
    count: u32,
}

impl DynamicGradients {
    /// Records the dispatches of one kind; `slot` is the dynamic offset of the step's scalars, `record` the number of the record of the
    /// procedure's pass.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, kind: Kind, slot: u32, record: usize) {
        for dispatch in self.dispatches.iter().filter(|dispatch| dispatch.kind == kind) {
            pass.set_pipeline(&dispatch.pipeline);
            let offsets = Offsets { slot, record, run: dispatch.offset }.of(&dispatch.bindings);
            pass.set_bind_group(0, &dispatch.group, offsets.as_slice());
            pass.dispatch_workgroups(dispatch.count, 1, 1);
        }
    }
}

impl Part {
    /// Makes the dispatches that read the named gradients, before the step records anything.
    fn bind_dynamic(&self, dynamic: &mut DynamicGradients, kinds: impl IntoIterator<Item = Kind>) -> Result<()> {
        let scope = Scope::open(&self.context.device, wgpu::ErrorFilter::Validation, Patience::Now);
        for kind in kinds {
            self.bind_runs(dynamic, kind);
        }
        scope.close().now().map_or(Ok(()), |refusal| Err(Error::Wgpu(refusal.to_string())))
    }

    /// One dispatch per run of parts with gradients in one window.
    fn bind_runs(&self, dynamic: &mut DynamicGradients, kind: Kind) {
        let Some(runs) = &self.kernels.runs else { return };
        let limit = self.context.device.limits().max_compute_workgroups_per_dimension;
        let parts = match kind {
            Kind::Stats(_) => &runs.spans,
            Kind::Tiles => &runs.tiles,
            _ => &runs.chunks,
        };
        let mut parts = parts.iter().peekable();
        while let Some(first) = parts.next() {
            let window = dynamic.window_of[first.tensor];
            let mut count = first.count;
            while let Some(part) = parts.next_if(|part| {
                part.shard == first.shard && dynamic.window_of[part.tensor] == window && count + part.count <= limit
            }) {
                count += part.count;
            }
            let Some((p, pipeline)) = self.kernels.dispatches[first.shard].pass(kind) else { return };
            if p.group.is_some() {
                return; // it reads no gradients
            }
            let group = self.run_group(p, first.shard, &dynamic.windows[window]);
            dynamic.dispatches.push(RunDispatch {
                kind,
                pipeline: pipeline.clone(),
                bindings: p.pipeline.clone(),
                group,
                offset: first.offset,
                count,
            });
        }
    }

    fn run_group(&self, p: &Pass, shard: usize, gradients: &Slice) -> wgpu::BindGroup {
        let window = &self.placement.layout.shards[shard].param;
        bind_group(&self.context.device, &self.context.label, &p.pipeline, |name| match name {
            "wo_grads" => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &gradients.buffer,
                offset: gradients.offset,
                size: wgpu::BufferSize::new(gradients.size),
            }),
            "wo_mask" => self.mask_binding(shard),
            _ => self.resource(name, window.clone(), &self.kernels.dispatches[shard].arena, &p.table, p.round),
        })
    }

    /// Checks the gradients of this step, and binds them.
    pub(crate) fn dynamic_gradients<'a>(
        &self,
        grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'a>)>,
        kinds: impl IntoIterator<Item = Kind>,
    ) -> Result<DynamicGradients> {
        if self.kernels.runs.is_none() {
            return Err(Error::Usage(
                "a step may name gradients only if the builder set dynamic_gradients(true)".to_owned(),
            ));
        }
        let mut given: Vec<Option<Slice>> = vec![None; self.spec.tensors.len()];
        for (tensor, slice) in grads {
            let index = self.spec.tensor(tensor)?;
            let info = &self.spec.tensors[index];
            let slice = Slice::from(slice);
            info.check_slice("gradients", &slice, info.formats.grads)?;
            if self.placement.layout.shards.iter().any(|l| self.placement.buffers[l.param.buffer] == slice.buffer) {
                return Err(info.error(
                    "its gradients lie in a buffer of parameters, where only bound gradients may lie".to_owned(),
                ));
            }
            if given[index].replace(slice).is_some() {
                return Err(Error::Duplicate { kind: "gradient of tensor", name: info.name.clone() });
            }
        }
        let mut all = Vec::with_capacity(given.len());
        for (index, (given, info)) in given.into_iter().zip(&self.spec.tensors).enumerate() {
            if self.spec.around.partial && given.is_none() {
                all.push(None);
                continue;
            }
            let bound = || self.placement.grad(index).map(Slice::from);
            let slice = given.or_else(bound).ok_or_else(|| {
                info.error(
                    "it has no gradient: it was bound without one and none was given; Builder::partial_steps(true) allows steps that leave \
                     it out"
                        .to_owned(),
                )
            })?;
            // One dispatch cannot write a buffer and read it through another binding.
            if self.placement.layout.shards.iter().any(|l| self.placement.buffers[l.param.buffer] == slice.buffer) {
                return Err(info.error(
                    "its gradients lie in a buffer of parameters; dynamic gradients need another buffer".to_owned(),
                ));
            }
            all.push(Some(slice));
        }
        self.context.check()?;
        let mut checked = HashSet::new();
        for (info, grad) in self.spec.tensors.iter().zip(&all) {
            if let Some(grad) = grad
                && info.elements > 0
                && checked.insert(&grad.buffer)
            {
                info.check_buffer(&self.context.device, "gradients", &grad.buffer)?;
            }
        }
        let mut dynamic = self.windows(all)?;
        self.bind_dynamic(&mut dynamic, kinds)?;
        Ok(dynamic)
    }

    /// Cuts the gradients' buffers into windows that the device can bind. Usually a window is the whole buffer.
    fn windows(&self, grads: Vec<Option<Slice>>) -> Result<DynamicGradients> {
        let limits = Limits::of(&self.context.device.limits());
        let mut buffers = Vec::new();
        let given = grads.iter().enumerate().filter_map(|(tensor, grad)| Some((tensor, grad.as_ref()?)));
        let mut order: Vec<(usize, usize, &Slice)> =
            given.map(|(tensor, grad)| (index_of(&mut buffers, &grad.buffer), tensor, grad)).collect();
        order.sort_unstable_by_key(|(buffer, _, grad)| (*buffer, grad.offset));
        let (mut windows, mut window_of, mut positions) =
            (Vec::<Slice>::new(), vec![None; grads.len()], vec![ABSENT; grads.len()]);
        let mut open = None;
        for (buffer_of, tensor, grad) in order {
            let end = (grad.offset + grad.size).next_multiple_of(VEC4).min(grad.buffer.size());
            let start = match open {
                Some((buffer, start)) if buffer == buffer_of && end - start <= limits.window => start,
                _ if end <= limits.window => 0,
                _ => grad.offset / limits.alignment * limits.alignment,
            };
            if end - start > limits.window {
                let (bytes, most) = (end - start, limits.window);
                return Err(self.spec.tensors[tensor].error(format!(
                    "its gradients have {bytes} bytes in one binding, but the device's max_storage_buffer_binding_size is {most}: bind \
                     the gradients with Builder::bind, which splits them, or split the tensor"
                )));
            }
            if open != Some((buffer_of, start)) {
                windows.push(Slice { buffer: grad.buffer.clone(), offset: start, size: 0 });
                open = Some((buffer_of, start));
            }
            window_of[tensor] = Some(windows.len() - 1);
            let unit = 4 * self.spec.tensors[tensor].formats.grads.bytes();
            positions[tensor] = ((grad.offset - start) / unit) as u32;
            if let Some(window) = windows.last_mut() {
                window.size = window.size.max(end - start);
            }
        }
        if windows.is_empty() {
            let unread = self.kernels.stand_in.iter().map(|buffer| Slice::from(buffer.slice(..)));
            windows.extend(unread);
        }
        // A tensor that is left out reads no window: it joins the dispatch of the tensor before it.
        let mut last = 0;
        let window_of = window_of.into_iter().map(|window| {
            last = window.unwrap_or(last);
            last
        });
        let window_of = window_of.collect();
        Ok(DynamicGradients { windows, window_of, positions, dispatches: Vec::new() })
    }
}
