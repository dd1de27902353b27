//! A step.

use std::sync::PoisonError;

use burn::backend::wgpu::CubeTensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use wgpu_optim::wgpu;

use crate::error::{Error, Result};
use crate::module::give::give;
use crate::module::take::{Taken, take};
use crate::optimizer::WgpuOptimizer;
use crate::rates::LearningRates;
use crate::tensor::arena::Arena;
use crate::tensor::exchange;
use crate::tensor::exchange::{Exchanged, Numbered, lock};
use crate::tensor::place::{Place, places, straight};

impl WgpuOptimizer {
    /// Changes the parameters of `module` with the gradients, and returns the module, as Burn's `ModuleOptimizer::step`. A parameter without a
    /// gradient stays as it is. `lr` is a number, the rates of a scheduler of Burn, or `()` for the rates of the rules.
    ///
    /// Clones of the module, and of its tensors, keep their values. Where there are any, the step copies all parameters first.
    ///
    /// # Errors
    /// The module has other parameters than at [`init`](crate::Options::init); a gradient has another shape or number type, or is on another device;
    /// rates that differ within a group; Burn failed to compute a gradient; an error of the engine. No number has changed then, in a kept clone
    /// neither; the module itself is gone.
    pub fn step<M: Module>(&mut self, lr: impl Into<LearningRates>, module: M, grads: GradientsParams) -> Result<M> {
        self.set_rates(&lr.into())?;
        let (module, taken) = take(module, &self.index, self.stand_in(), grads)?;
        let Taken { visits, params, grads, renamed } = taken;
        for (number, id) in renamed {
            self.index.put_id(number, id);
        }
        let exchanged = exchange(&self.arena, &self.homes, params, grads).map_err(Error::Burn)?;
        let Exchanged { params, moved, grads, left } = exchanged;
        self.run(moved, grads, left)?;
        Ok(give(module, visits, params))
    }

    /// Sets the engine's rates.
    fn set_rates(&mut self, rates: &LearningRates) -> Result<()> {
        match rates {
            LearningRates::Own => {}
            LearningRates::All(rate) => {
                for group in &self.groups {
                    self.engine.set_lr(*group, *rate)?;
                }
            }
            LearningRates::ByParam(rates) => {
                let mut of_group: Vec<Option<(f64, usize)>> = vec![None; self.groups.len()];
                for (number, known) in self.index.params.iter().enumerate() {
                    let group = self.options.group_of(known.id, &known.path);
                    let rate = rates.lr_from_param(known.id, Some(&known.path));
                    let (of_first, first) = *of_group[group].get_or_insert((rate, number));
                    if of_first != rate {
                        let first = &self.index.params[first].path;
                        return Err(Error::param(
                            &known.path,
                            format!(
                                "its learning rate is {rate}, and that of `{first}` in the same group is {of_first}: give it a group of its own with \
                                 Options::with_group"
                            ),
                        ));
                    }
                }
                for (group, rate) in self.groups.iter().zip(of_group) {
                    if let Some((rate, _)) = rate {
                        self.engine.set_lr(*group, rate)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a step on the GPU: moves parameters to their places, and steps.
    fn run(
        &mut self,
        moved: Vec<Numbered<CubeTensor>>,
        grads: Vec<Numbered<CubeTensor>>,
        left: Option<Arena>,
    ) -> Result<()> {
        let moved = self.straighten(moved, "tensor")?;
        let grads = self.straighten(grads, "gradient")?;
        let found = self.find(&moved, &grads, left.as_ref())?;
        self.engine.rebind_params(&self.bound, &found.arena.buffer)?;
        self.bound = found.arena.buffer.clone();
        let mut encoder = self.encoder();
        found.settle(&mut encoder, &self.homes, &moved, lock(&self.arena).bytes());
        self.record(&mut encoder, &grads, &found.grads)?;
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Records the step with these gradients.
    fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        grads: &[Numbered<CubeTensor>],
        places: &[Place],
    ) -> Result<()> {
        if self.gathered.is_some() {
            self.gather(encoder, grads, places)?;
            return Ok(self.engine.step(encoder)?);
        }
        let slice = |(grad, place): (&Numbered<CubeTensor>, &'_ Place)| {
            (self.tensors[grad.number], place.buffer.clone(), place.offset, self.homes[grad.number].range.bytes)
        };
        let slices: Vec<_> = grads.iter().zip(places).map(slice).collect();
        let named =
            slices.iter().map(|(tensor, buffer, offset, bytes)| (*tensor, buffer.slice(*offset..offset + bytes)));
        Ok(self.engine.step_with_grads(encoder, named)?)
    }

    /// Copies the gradients to where the engine reads them.
    pub(crate) fn gather(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        grads: &[Numbered<CubeTensor>],
        places: &[Place],
    ) -> Result<()> {
        let Some(gathered) = &self.gathered else { return Ok(()) };
        for (grad, place) in grads.iter().zip(places) {
            let range = self.homes[grad.number].range;
            encoder.copy_buffer_to_buffer(&place.buffer, place.offset, gathered, range.offset, range.bytes);
        }
        Ok(())
    }

    /// Makes tensors contiguous, and checks that they have the numbers of their parameters and are on the optimizer's device.
    pub(crate) fn straighten(
        &self,
        tensors: Vec<Numbered<CubeTensor>>,
        what: &str,
    ) -> Result<Vec<Numbered<CubeTensor>>> {
        let service = lock(&self.arena).client.service_id();
        let straighten = |Numbered { number, tensor }: Numbered<CubeTensor>| {
            let (home, path) = (&self.homes[number], || self.index.params[number].path.clone());
            if tensor.handle.service != service {
                let (of_tensor, ours) = (tensor.handle.service, service);
                let problem = format!(
                    "its {what} is on {of_tensor}, and the optimizer on {ours}: call init_again for a module that moved to another device"
                );
                return Err(Error::param(path(), problem));
            }
            if tensor.dtype != home.dtype {
                let problem = format!("its {what} has numbers in {:?}, needs {:?}", tensor.dtype, home.dtype);
                return Err(Error::param(path(), problem));
            }
            if *tensor.meta.shape() != home.shape {
                let problem = format!("its {what} has shape {:?}, needs {:?}", tensor.meta.shape(), home.shape);
                return Err(Error::param(path(), problem));
            }
            let tensor = straight(tensor).map_err(|problem| Error::param(path(), problem))?;
            Ok(Numbered { number, tensor })
        };
        tensors.into_iter().map(straighten).collect()
    }

    /// Finds the buffers of everything that a step uses.
    pub(crate) fn find(
        &self,
        moved: &[Numbered<CubeTensor>],
        grads: &[Numbered<CubeTensor>],
        left: Option<&Arena>,
    ) -> Result<Found> {
        let arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handles = vec![arena.handle().clone()];
        handles.extend(left.map(|left| left.handle().clone()));
        handles.extend(moved.iter().chain(grads).map(|tensor| tensor.tensor.handle.clone()));
        let mut found = places(&arena.client, handles).map_err(Error::Burn)?.into_iter();
        let mut next = |count: usize| found.by_ref().take(count).collect::<Vec<_>>();
        let (arena, left, moved, grads) = (next(1), next(left.iter().count()), next(moved.len()), next(grads.len()));
        let arena = arena.into_iter().next().ok_or_else(|| Error::Burn("it found no memory".to_owned()))?;
        Ok(Found { arena, left: left.into_iter().next(), moved, grads })
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wgpu-optim-burn") })
    }
}

/// The places of what a step uses. It holds Burn's memory: drop it after the commands were submitted.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) arena: Place,
    left: Option<Place>,
    moved: Vec<Place>,
    pub(crate) grads: Vec<Place>,
}

impl Found {
    /// Records the copies that bring every parameter to its place.
    pub(crate) fn settle(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        homes: &[crate::tensor::arena::Home],
        moved: &[Numbered<CubeTensor>],
        bytes: u64,
    ) {
        if let Some(left) = &self.left {
            encoder.copy_buffer_to_buffer(&left.buffer, left.offset, &self.arena.buffer, 0, bytes);
        }
        for (param, place) in moved.iter().zip(&self.moved) {
            let range = homes[param.number].range;
            encoder.copy_buffer_to_buffer(&place.buffer, place.offset, &self.arena.buffer, range.offset, range.bytes);
        }
    }
}
