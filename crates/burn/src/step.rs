//! A step.

use burn::module::Module;
use burn::optim::GradientsParams;
use wgpu_optim::{Optimizer, Tensor, wgpu};

use crate::error::{Error, Result};
use crate::optimizer::WgpuOptimizer;
use crate::rates::LearningRates;

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
        let rates = Some(lr.into());
        self.record(module, grads, rates, |engine, encoder, grads| engine.step_with_grads(encoder, grads))
    }

    /// Adds the gradients of a micro-batch, for [`Builder::accumulate`](wgpu_optim::Builder::accumulate) in
    /// [`Options::with`](crate::Options::with): the [`step`](Self::step) with the gradients of the last micro-batch takes them all. The module
    /// stays as it is.
    ///
    /// # Errors
    /// As [`step`](Self::step); the optimizer was built without `accumulate`.
    pub fn accumulate<M: Module>(&mut self, module: M, grads: GradientsParams) -> Result<M> {
        self.record(module, grads, None, |engine, encoder, grads| engine.accumulate_with_grads(encoder, grads))
    }

    /// Brings the parameters to their places, and lets `work` use the gradients, if there are any.
    fn record<M: Module>(
        &mut self,
        module: M,
        grads: GradientsParams,
        rates: Option<LearningRates>,
        work: impl FnOnce(
            &mut Optimizer,
            &mut wgpu::CommandEncoder,
            Vec<(Tensor, wgpu::BufferSlice<'_>)>,
        ) -> wgpu_optim::Result<()>,
    ) -> Result<M> {
        let open = self.params.open(module, grads)?;
        // Now the parameters have the ids of this module, by which a scheduler may know them.
        rates.map_or(Ok(()), |rates| self.set_rates(&rates))?;
        let [from, to] = self.params.rebound(&open);
        self.engine.rebind_params(&from, &to)?;
        let mut encoder = self.params.encoder();
        self.params.settle(&mut encoder, &open);
        if !open.grads.is_empty() {
            work(&mut self.engine, &mut encoder, self.params.slices(&open.grads).collect())?;
        }
        self.params.queue.submit([encoder.finish()]);
        Ok(open.close().0)
    }

    /// Sets the engine's rates.
    pub(crate) fn set_rates(&mut self, rates: &LearningRates) -> Result<()> {
        let rates = match rates {
            LearningRates::Own => return Ok(()),
            LearningRates::All(rate) => vec![Some(*rate); self.groups.len()],
            LearningRates::ByParam(rates) => {
                let mut of_group: Vec<Option<(f64, usize)>> = vec![None; self.groups.len()];
                for (number, (known, group)) in self.params.index.params.iter().zip(&self.group_of).enumerate() {
                    let rate = rates.lr_from_param(known.id, Some(&known.path));
                    let (of_first, first) = *of_group[*group].get_or_insert((rate, number));
                    if of_first != rate {
                        let first = &self.params.index.params[first].path;
                        return Err(Error::param(
                            &known.path,
                            format!(
                                "its learning rate is {rate}, and that of `{first}` in the same group is {of_first}: give it a group of its own \
                                 with Options::with_group"
                            ),
                        ));
                    }
                }
                of_group.into_iter().map(|group| group.map(|(rate, _)| rate)).collect()
            }
        };
        for (group, rate) in self.groups.iter().zip(rates) {
            if let Some(rate) = rate {
                self.engine.set_lr(*group, rate)?;
            }
        }
        Ok(())
    }
}
