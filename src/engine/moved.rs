//! Steps whose gradients move: this step's places, and a launch for each run of tensors whose gradients can be bound together.

use super::builder::{Slice, index_of};
use super::layout::{Limits, VEC4};
use super::pipelines::bind_group;
use super::scalars::Slot;
use super::step::Kind;
use super::{Optimizer, Pass, Tensor};
use crate::{Error, Result};

/// A step's gradients where they move: windows of buffers, and each tensor's place.
pub(super) struct Moved {
    windows: Vec<Slice>,
    window_of: Vec<usize>,
    /// First vec4 of each tensor's gradient in its window.
    pub(super) positions: Vec<u32>,
}

impl Optimizer {
    /// One launch a run of parts whose gradients lie in one window.
    pub(super) fn dispatch_runs(&self, pass: &mut wgpu::ComputePass<'_>, kind: Kind, slot: &Slot, moved: &Moved) {
        let Some(runs) = &self.runs else { return };
        let limit = self.device.limits().max_compute_workgroups_per_dimension;
        let parts = if matches!(kind, Kind::Stats(_)) { &runs.spans } else { &runs.chunks };
        let mut parts = parts.iter().peekable();
        while let Some(first) = parts.next() {
            let window = moved.window_of[first.tensor];
            let mut count = first.count;
            while let Some(part) = parts.next_if(|part| {
                part.launch == first.launch && moved.window_of[part.tensor] == window && count + part.count <= limit
            }) {
                count += part.count;
            }
            let Some((p, pipeline)) = self.launches[first.launch].pass(kind) else { return };
            let group = self.run_group(p, first.launch, &moved.windows[window]);
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[slot.offset, first.offset]);
            pass.dispatch_workgroups(count, 1, 1);
        }
    }

    fn run_group(&self, p: &Pass, launch: usize, gradients: &Slice) -> wgpu::BindGroup {
        let window = &self.layout.launches[launch].param;
        bind_group(&self.device, &self.label, &p.pipeline, |name| match name {
            "wo_grads" => wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &gradients.buffer,
                offset: gradients.offset,
                size: wgpu::BufferSize::new(gradients.size),
            }),
            _ => self.resource(name, window.clone(), &self.launches[launch].arena, &p.table, p.round),
        })
    }

    /// Finds this step's gradients and checks them.
    pub(super) fn moved<'a>(&self, grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'a>)>) -> Result<Moved> {
        if self.runs.is_none() {
            return Err(Error::Usage(
                "gradients move only where the builder was told: moving_gradients(true)".to_owned(),
            ));
        }
        let mut given: Vec<Option<Slice>> = vec![None; self.tensors.len()];
        for (tensor, slice) in grads {
            let info = self.tensors.get(tensor.0);
            let info = info.ok_or_else(|| Error::Usage(format!("tensor {} is not of this optimizer", tensor.0)))?;
            let slice = Slice::from(slice);
            info.check_slice("gradients", &slice)?;
            if self.layout.launches.iter().any(|l| self.buffers[l.param.buffer] == slice.buffer) {
                return Err(info.error(
                    "its gradients lie in a buffer of parameters, where only bound gradients may lie".to_owned(),
                ));
            }
            if given[tensor.0].replace(slice).is_some() {
                return Err(Error::Duplicate { kind: "gradient of tensor", name: info.name.clone() });
            }
        }
        let mut all = Vec::with_capacity(given.len());
        for ((given, places), info) in given.into_iter().zip(&self.places).zip(&self.tensors) {
            let slice = given.or_else(|| places.grad.clone()).ok_or_else(|| {
                info.error("it has no gradient: it was bound without one and none was given".to_owned())
            })?;
            // One launch cannot write a buffer and read it through another binding.
            if self.layout.launches.iter().any(|l| self.buffers[l.param.buffer] == slice.buffer) {
                return Err(info.error(
                    "its gradients lie in a buffer of parameters; where gradients move they need another".to_owned(),
                ));
            }
            all.push(slice);
        }
        self.windows(&all)
    }

    /// Cuts the gradients' buffers into windows that can be bound: mostly one, the whole buffer.
    fn windows(&self, grads: &[Slice]) -> Result<Moved> {
        let limits = Limits::of(&self.device);
        let mut buffers = Vec::new();
        let buffer_of: Vec<usize> = grads.iter().map(|g| index_of(&mut buffers, &g.buffer)).collect();
        let mut order: Vec<usize> = (0..grads.len()).collect();
        order.sort_unstable_by_key(|&t| (buffer_of[t], grads[t].offset));
        let mut moved = Moved { windows: Vec::new(), window_of: vec![0; grads.len()], positions: vec![0; grads.len()] };
        let mut open = None;
        for tensor in order {
            let grad = &grads[tensor];
            let end = (grad.offset + grad.size).next_multiple_of(VEC4).min(grad.buffer.size());
            let start = match open {
                Some((buffer, start)) if buffer == buffer_of[tensor] && end - start <= limits.window => start,
                _ if end <= limits.window => 0,
                _ => grad.offset / limits.alignment * limits.alignment,
            };
            if end - start > limits.window {
                let limit = "max_storage_buffer_binding_size";
                return Err(Error::Limit { limit, actual: limits.window, needs: end - start });
            }
            if open != Some((buffer_of[tensor], start)) {
                moved.windows.push(Slice { buffer: grad.buffer.clone(), offset: start, size: 0 });
                open = Some((buffer_of[tensor], start));
            }
            moved.window_of[tensor] = moved.windows.len() - 1;
            moved.positions[tensor] = ((grad.offset - start) / VEC4) as u32;
            if let Some(window) = moved.windows.last_mut() {
                window.size = window.size.max(end - start);
            }
        }
        Ok(moved)
    }
}
