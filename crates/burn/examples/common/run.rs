//! Burn's optimizer and this crate's, with the same settings, to compare their times.

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use wgpu_optim::AdamW;
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use super::Result;

/// An optimizer with its model.
pub(crate) struct Run<M> {
    optim: Optim,
    /// `None` after a step that failed.
    model: Option<M>,
}

enum Optim {
    Burn(ModuleOptimizer),
    Here(Box<WgpuOptimizer>),
}

impl<M: Module> Run<M> {
    pub(crate) fn burn(model: M, optim: ModuleOptimizer) -> Self {
        Self { optim: Optim::Burn(optim), model: Some(model) }
    }

    pub(crate) fn here(model: M, optim: WgpuOptimizer) -> Self {
        Self { optim: Optim::Here(Box::new(optim)), model: Some(model) }
    }

    /// A step with the gradients that `grads` computes for the model. The times: until the step has returned, and until the GPU has finished it.
    pub(crate) fn step(&mut self, device: &Device, grads: impl FnOnce(&M) -> GradientsParams) -> Result<[Duration; 2]> {
        let model = self.model.take().ok_or("a step failed")?;
        let grads = grads(&model);
        device.sync()?;
        let begin = Instant::now();
        self.model = Some(match &mut self.optim {
            Optim::Burn(optim) => optim.step(1e-3, model, grads),
            Optim::Here(optim) => optim.step(1e-3, model, grads)?,
        });
        let host = begin.elapsed();
        device.sync()?;
        Ok([host, begin.elapsed()])
    }
}

/// Burn's AdamW with the settings of [`adamw`].
pub(crate) fn burns_adamw() -> ModuleOptimizer {
    AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init()
}

pub(crate) fn adamw<M: Module>(model: &M, setup: &WgpuSetup) -> Result<WgpuOptimizer> {
    Ok(WgpuOptimizer::new(AdamW::default()).with_setup(setup).init(model)?)
}

/// The median, in milliseconds.
pub(crate) fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
