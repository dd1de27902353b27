//! The parameters of a module as an optimizer holds them: where they lie, and the way between Burn and the engine's buffers.

use std::sync::{Arc, Mutex};

use burn::backend::wgpu::CubeTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use wgpu_optim::wgpu;

use crate::error::{Error, Result};
use crate::module::index::Index;
use crate::module::take::{Taken, Visit, take};
use crate::tensor::arena::{Arena, Home};
use crate::tensor::exchange::{Exchanged, Numbered, lock};
use crate::tensor::place::{Place, places, straight};
use crate::tensor::primitive::{IntPrimitive, Primitive};
use crate::tensor::{exchange, resolve, resolve_int};

/// The parameters, and the buffers in which they and their gradients lie.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Burn's device, without autodiff.
    pub(crate) burn: Device,
    pub(crate) index: Index,
    /// The places of the parameters, by number.
    pub(crate) homes: Arc<[Home]>,
    pub(crate) arena: Arc<Mutex<Arena>>,
    /// The buffer of the arena, to which the engine is bound.
    pub(crate) bound: wgpu::Buffer,
    /// The engine's handles of the parameters, by number.
    pub(crate) tensors: Vec<wgpu_optim::Tensor>,
    /// The buffer into which gradients are copied, with the places of the parameters.
    pub(crate) gathered: Option<wgpu::Buffer>,
}

/// A module whose parameters are taken, and everything that brings them to their places.
#[derive(Debug)]
pub(crate) struct Open<M> {
    pub(crate) module: M,
    pub(crate) visits: Vec<Visit>,
    /// The tensors to put back.
    pub(crate) tensors: Vec<Primitive>,
    pub(crate) grads: Vec<Numbered<CubeTensor>>,
    moved: Vec<Numbered<CubeTensor>>,
    places: Places,
}

/// The buffers of what a step uses. They hold Burn's memory: drop them after the commands were submitted.
#[derive(Debug)]
struct Places {
    arena: Place,
    left: Option<Place>,
    moved: Vec<Place>,
    grads: Vec<Place>,
}

impl Params {
    /// Takes the parameters out of a module, with their gradients.
    ///
    /// # Errors
    /// As [`take`]; a tensor does not fit its parameter; Burn failed.
    pub(crate) fn open<M: Module>(&mut self, module: M, grads: GradientsParams) -> Result<Open<M>> {
        let stand_in = Tensor::<1>::empty([1], &self.burn).into_dispatch();
        let (module, Taken { visits, params, grads, renamed }) = take(module, &self.index, stand_in, grads)?;
        for (number, id) in renamed {
            self.index.put_id(number, id);
        }
        let exchanged = exchange(&self.arena, &self.homes, params, grads).map_err(Error::Burn)?;
        let Exchanged { params: tensors, moved, grads, left } = exchanged;
        let moved = self.straighten(moved, "tensor")?;
        let grads = self.straighten(grads, "gradient")?;
        let places = self.find(&moved, &grads, left.as_ref())?;
        Ok(Open { module, visits, tensors, grads, moved, places })
    }

    /// Makes tensors contiguous, and checks that they have the numbers of their parameters and are on the optimizer's device.
    fn straighten(&self, tensors: Vec<Numbered<CubeTensor>>, what: &str) -> Result<Vec<Numbered<CubeTensor>>> {
        let service = lock(&self.arena).client.service_id();
        let straighten = |Numbered { number, tensor }: Numbered<CubeTensor>| {
            let home = &self.homes[number];
            let problem = if tensor.handle.service != service {
                let of_tensor = tensor.handle.service;
                format!(
                    "its {what} is on {of_tensor}, and the optimizer on {service}: make an optimizer for the module where it is now"
                )
            } else if tensor.dtype != home.dtype {
                format!("its {what} has numbers in {:?}, needs {:?}", tensor.dtype, home.dtype)
            } else if *tensor.meta.shape() != home.shape {
                format!("its {what} has shape {:?}, needs {:?}", tensor.meta.shape().as_slice(), home.shape.as_slice())
            } else {
                match straight(tensor) {
                    Ok(tensor) => return Ok(Numbered { number, tensor }),
                    Err(problem) => format!("its {what}: {problem}"),
                }
            };
            Err(Error::param(&self.index.params[number].path, problem))
        };
        tensors.into_iter().map(straighten).collect()
    }

    /// Finds the buffers of everything that a step uses.
    fn find(
        &self,
        moved: &[Numbered<CubeTensor>],
        grads: &[Numbered<CubeTensor>],
        left: Option<&Arena>,
    ) -> Result<Places> {
        let arena = lock(&self.arena);
        let mut handles = vec![arena.handle().clone()];
        handles.extend(left.map(|left| left.handle().clone()));
        handles.extend(moved.iter().chain(grads).map(|tensor| tensor.tensor.handle.clone()));
        let mut found = places(&arena.client, handles).map_err(Error::Burn)?.into_iter();
        let arena = found.next().ok_or_else(|| Error::Burn("it found no memory".to_owned()))?;
        let left = left.and_then(|_| found.next());
        let moved = found.by_ref().take(moved.len()).collect();
        Ok(Places { arena, left, moved, grads: found.collect() })
    }

    /// The buffers between which the engine's parameters move before a step: from the first to the second.
    pub(crate) fn rebound<M>(&mut self, open: &Open<M>) -> [wgpu::Buffer; 2] {
        let to = open.places.arena.buffer.clone();
        [std::mem::replace(&mut self.bound, to.clone()), to]
    }

    /// Records the copies that bring every parameter to its place.
    pub(crate) fn settle<M>(&self, encoder: &mut wgpu::CommandEncoder, open: &Open<M>) {
        let to = &open.places.arena.buffer;
        if let Some(left) = &open.places.left {
            encoder.copy_buffer_to_buffer(&left.buffer, left.offset, to, 0, lock(&self.arena).bytes());
        }
        for (param, place) in open.moved.iter().zip(&open.places.moved) {
            let range = self.homes[param.number].range;
            encoder.copy_buffer_to_buffer(&place.buffer, place.offset, to, range.offset, range.bytes);
        }
    }

    /// Records the copies of the gradients to where the engine reads them; there must be `needed`.
    pub(crate) fn gather<M>(&self, encoder: &mut wgpu::CommandEncoder, open: &Open<M>, needed: usize) -> Result<()> {
        let Some(to) = &self.gathered else { return Ok(()) };
        if open.grads.len() < needed {
            let lacks = |number: &usize| !open.grads.iter().any(|grad| grad.number == *number);
            let path = (0..self.index.params.len()).find(lacks).map_or("", |number| &self.index.params[number].path);
            let problem = "it has no gradient in this step, and a step that gathers gradients needs one of every parameter: freeze it before init";
            return Err(Error::param(path, problem));
        }
        for (number, slice) in self.slices(open) {
            let range = self.homes[number].range;
            encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), to, range.offset, range.bytes);
        }
        Ok(())
    }

    /// The buffer of one tensor. Burn's work on it is submitted.
    pub(crate) fn resolve(&self, tensor: Primitive) -> Result<Place> {
        let tensor = resolve(tensor).map_err(Error::Burn)?;
        self.locate(tensor)
    }

    /// As [`resolve`](Self::resolve), for integers of 32 bits.
    pub(crate) fn resolve_int(&self, tensor: IntPrimitive) -> Result<Place> {
        let tensor = resolve_int(tensor);
        if tensor.dtype.size() != 4 {
            return Err(Error::Usage(format!(
                "the indices have numbers in {:?}, needs I32 or U32: call cast",
                tensor.dtype
            )));
        }
        self.locate(tensor)
    }

    fn locate(&self, tensor: CubeTensor) -> Result<Place> {
        let tensor = straight(tensor).map_err(Error::Usage)?;
        let mut found = places(&lock(&self.arena).client, vec![tensor.handle]).map_err(Error::Burn)?;
        found.pop().ok_or_else(|| Error::Burn("it found no memory".to_owned()))
    }

    /// The gradients' ranges, with the numbers of their parameters.
    pub(crate) fn slices<'a, M>(&'a self, open: &'a Open<M>) -> Vec<(usize, wgpu::BufferSlice<'a>)> {
        let slice = |(grad, place): (&Numbered<CubeTensor>, &'a Place)| {
            (grad.number, place.slice(self.homes[grad.number].range.bytes))
        };
        open.grads.iter().zip(&open.places.grads).map(slice).collect()
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim-burn") })
    }
}
