//! The parameters of a module as an optimizer holds them: where they lie, and the way between Burn and the engine's buffers.

use std::sync::{Arc, Mutex};

use burn::backend::wgpu::CubeTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use wgpu_optim::wgpu;

use crate::error::{Error, Result};
use crate::module::give::give;
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
}

/// A module whose parameters are taken, and everything that brings them to their places.
#[derive(Debug)]
pub(crate) struct Open<M> {
    module: M,
    visits: Vec<Visit>,
    /// The tensors to put back.
    tensors: Vec<Primitive>,
    pub(crate) grads: Gradients,
    places: Places,
}

/// A place with the number of its parameter.
type NumberedPlace = (usize, Place);

/// The buffers of what a step uses beside gradients. They hold Burn's memory: drop them after the commands were submitted.
#[derive(Debug)]
struct Places {
    arena: Place,
    left: Option<Place>,
    moved: Vec<NumberedPlace>,
}

/// The gradients of a step, in Burn's memory.
#[derive(Debug, Default)]
pub(crate) struct Gradients(Vec<NumberedPlace>);

impl Gradients {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<M: Module> Open<M> {
    /// Puts the parameters back, once the commands were submitted. Whoever still needs the gradients keeps them.
    pub(crate) fn close(self) -> (M, Gradients) {
        (give(self.module, self.visits, self.tensors), self.grads)
    }
}

impl Params {
    /// Takes the parameters out of a module, with their gradients.
    ///
    /// # Errors
    /// As [`take`]; a tensor does not fit its parameter; Burn failed.
    pub(crate) fn open<M: Module>(&mut self, module: M, grads: GradientsParams) -> Result<Open<M>> {
        let (module, Taken { visits, params, grads, renamed }) = take(module, &self.index, &self.burn, grads)?;
        for (number, id) in renamed {
            self.index.put_id(number, id);
        }
        let exchanged = exchange(&self.arena, &self.homes, params, grads).map_err(Error::Burn)?;
        let Exchanged { params: tensors, moved, grads, left } = exchanged;
        let moved = self.straighten(moved, "tensor")?;
        let grads = self.straighten(grads, "gradient")?;
        let (places, grads) = self.find(moved, grads, left.as_ref())?;
        Ok(Open { module, visits, tensors, grads, places })
    }

    /// Makes tensors contiguous, and checks that they have the shapes and the number types of their parameters.
    fn straighten(&self, tensors: Vec<Numbered<CubeTensor>>, what: &str) -> Result<Vec<Numbered<CubeTensor>>> {
        let straighten = |Numbered { number, tensor }: Numbered<CubeTensor>| {
            let home = &self.homes[number];
            let problem = if tensor.dtype != home.dtype {
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
        moved: Vec<Numbered<CubeTensor>>,
        grads: Vec<Numbered<CubeTensor>>,
        left: Option<&Arena>,
    ) -> Result<(Places, Gradients)> {
        let arena = lock(&self.arena);
        let mut handles = vec![arena.handle().clone()];
        handles.extend(left.map(|left| left.handle().clone()));
        let numbers = |tensors: &[Numbered<CubeTensor>]| -> Vec<usize> { tensors.iter().map(|t| t.number).collect() };
        let [moves, steps] = [numbers(&moved), numbers(&grads)];
        handles.extend(moved.into_iter().chain(grads).map(|tensor| tensor.tensor.handle));
        let mut found = places(&arena.client, handles).map_err(Error::Burn)?.into_iter();
        let arena = found.next().ok_or_else(|| Error::Burn("it found no memory".to_owned()))?;
        let left = left.and_then(|_| found.next());
        let moved = moves.into_iter().zip(found.by_ref()).collect();
        Ok((Places { arena, left, moved }, Gradients(steps.into_iter().zip(found).collect())))
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
        for (number, place) in &open.places.moved {
            let range = self.homes[*number].range;
            encoder.copy_buffer_to_buffer(&place.buffer, place.offset, to, range.offset, range.bytes);
        }
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

    /// The gradients as the engine takes them.
    pub(crate) fn slices<'a>(
        &'a self,
        grads: &'a Gradients,
    ) -> impl Iterator<Item = (wgpu_optim::Tensor, wgpu::BufferSlice<'a>)> {
        grads.0.iter().map(|(number, place)| (self.tensors[*number], place.slice(self.homes[*number].range.bytes)))
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim-burn") })
    }
}
