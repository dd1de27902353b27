//! A step.

use burn::module::Module;
use burn::optim::GradientsParams;

use crate::error::{Error, Result};
use crate::module::give::give;
use crate::optimizer::WgpuOptimizer;
use crate::params::Open;
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
        self.set_rates(&lr.into())?;
        let open = self.params.open(module, grads)?;
        let steps = !open.grads.is_empty();
        let [from, to] = self.params.rebound(&open);
        self.engine.rebind_params(&from, &to)?;
        let mut encoder = self.params.encoder();
        self.params.settle(&mut encoder, &open);
        if steps {
            self.record(&mut encoder, &open)?;
        }
        self.params.queue.submit([encoder.finish()]);
        let Open { module, visits, tensors, .. } = open;
        Ok(give(module, visits, tensors))
    }

    /// Records the step of the engine.
    fn record<M>(&mut self, encoder: &mut wgpu_optim::wgpu::CommandEncoder, open: &Open<M>) -> Result<()> {
        if self.params.gathered.is_some() {
            self.params.gather(encoder, open, 0)?;
            let tensors = open.grads.iter().map(|grad| self.params.tensors[grad.number]);
            return Ok(self.engine.step_tensors(encoder, tensors)?);
        }
        let slices = self.params.slices(open);
        let named = slices.into_iter().map(|(number, slice)| (self.params.tensors[number], slice));
        Ok(self.engine.step_with_grads(encoder, named)?)
    }

    /// Sets the engine's rates.
    pub(crate) fn set_rates(&mut self, rates: &LearningRates) -> Result<()> {
        let rates = match rates {
            LearningRates::Own => return Ok(()),
            LearningRates::All(rate) => vec![Some(*rate); self.groups.len()],
            LearningRates::ByParam(rates) => {
                let mut of_group: Vec<Option<(f64, usize)>> = vec![None; self.groups.len()];
                for (number, known) in self.params.index.params.iter().enumerate() {
                    let rate = rates.lr_from_param(known.id, Some(&known.path));
                    let group = self.options.group_of(known.id, &known.path);
                    let (of_first, first) = *of_group[group].get_or_insert((rate, number));
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
