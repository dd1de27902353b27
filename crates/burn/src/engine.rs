//! Work of the engine beside steps: averages, modes, rows, checkpoints.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};
use wgpu_optim::checkpoint::{Checkpoint, Fit, restore_torch};
use wgpu_optim::{Optimizer, RowSet, wgpu};

use crate::error::{Error, Result};
use crate::module::give::give;
use crate::optimizer::WgpuOptimizer;
use crate::params::Open;
use crate::tensor::primitive::int_primitive;

impl WgpuOptimizer {
    /// Runs `work` of the engine on the parameters of a module: everything that the engine records into an encoder beside steps, such as
    /// [`swap_ema`](Optimizer::swap_ema), [`to_evaluation`](Optimizer::to_evaluation) or [`reset_rows`](Optimizer::reset_rows), and what it writes
    /// into parameters. The module comes back with what `work` made of its parameters. Clones keep their values.
    ///
    /// ```no_run
    /// # use wgpu_optim_burn::{burn::module::Module, Result, WgpuOptimizer};
    /// # fn with_average<M: Module>(optim: &mut WgpuOptimizer, model: M) -> Result<M> {
    /// // Weights and their average change places, for an evaluation; the same call brings the weights back.
    /// let (model, ()) = optim.with_engine(model, |engine, encoder| engine.swap_ema(encoder))?;
    /// # Ok(model)
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step), and the errors of `work`.
    pub fn with_engine<M: Module, T>(
        &mut self,
        module: M,
        work: impl FnOnce(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<T>,
    ) -> Result<(M, T)> {
        let open = self.params.open(module, GradientsParams::new())?;
        let [from, to] = self.params.rebound(&open);
        self.engine.rebind_params(&from, &to)?;
        let mut encoder = self.params.encoder();
        self.params.settle(&mut encoder, &open);
        // What `work` writes through the queue comes before the next submission, and must not come before the parameters.
        self.params.queue.submit([encoder.finish()]);
        let mut encoder = self.params.encoder();
        let done = work(&mut self.engine, &mut encoder)?;
        self.params.queue.submit([encoder.finish()]);
        let Open { module, visits, tensors, .. } = open;
        Ok((give(module, visits, tensors), done))
    }

    /// As [`Optimizer::remap`]: row `i` of every parameter of the set, with its states, becomes what row `indices[i]` was. A negative index makes a
    /// fresh row. Name the set with [`Builder::row_set`](wgpu_optim::Builder::row_set) and
    /// [`Builder::row_capacity`](wgpu_optim::Builder::row_capacity) in [`Options::with`](crate::Options::with); the capacity is the parameter's
    /// first dimension, and rows beyond the count in use keep their place.
    ///
    /// # Errors
    /// As [`with_engine`](Self::with_engine) and [`Optimizer::remap`]; indices that are not 32 bits wide.
    pub fn remap<M: Module>(&mut self, module: M, set: RowSet, indices: Tensor<1, Int>) -> Result<M> {
        let rows = indices.shape().num_elements();
        let place = self.params.resolve_int(int_primitive(indices).map_err(Error::Usage)?)?;
        let (module, ()) =
            self.with_engine(module, |engine, encoder| engine.remap(encoder, set, place.slice(4 * rows as u64), rows))?;
        Ok(module)
    }

    /// The parameters of a module, the states and the counters, read back: a file from which training resumes, with the paths of the module as names.
    /// It waits for the GPU.
    ///
    /// # Errors
    /// As [`with_engine`](Self::with_engine); the device was lost.
    #[cfg(not(target_family = "wasm"))]
    pub fn checkpoint<M: Module>(&mut self, module: M) -> Result<(M, Checkpoint)> {
        pollster::block_on(self.checkpoint_async(module))
    }

    /// As `checkpoint`, for programs that may not block.
    ///
    /// # Errors
    /// As `checkpoint`.
    pub async fn checkpoint_async<M: Module>(&mut self, module: M) -> Result<(M, Checkpoint)> {
        let (module, snapshot) = self.with_engine(module, |engine, encoder| engine.snapshot(encoder))?;
        Ok((module, snapshot.checkpoint().await?))
    }

    /// Restores a checkpoint into the module and the optimizer.
    ///
    /// # Errors
    /// As [`with_engine`](Self::with_engine) and [`Checkpoint::restore_fitting`].
    pub fn restore<M: Module>(&mut self, module: M, checkpoint: &Checkpoint, fit: Fit) -> Result<M> {
        self.finish_steps()?;
        Ok(self.with_engine(module, |engine, _| checkpoint.restore_fitting(engine, fit))?.0)
    }

    /// Restores the states of an optimizer of torch, from a safetensors file as [`restore_torch`] reads it, and the parameters where the file has
    /// them. The names are the paths of the module. [`Checkpoint::to_torch`] writes such a file.
    ///
    /// # Errors
    /// As [`with_engine`](Self::with_engine) and [`restore_torch`].
    pub fn restore_torch<M: Module>(&mut self, module: M, name: &str, bytes: impl Into<Vec<u8>>) -> Result<M> {
        self.finish_steps()?;
        Ok(self.with_engine(module, |engine, _| restore_torch(name, bytes, engine))?.0)
    }

    /// Waits until every recorded step is finished: counters and settings change only then. A browser cannot wait here.
    pub(crate) fn finish_steps(&self) -> Result<()> {
        let waited = self.params.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map(|_| ()).map_err(|error| Error::Usage(format!("the device did not finish its steps: {error}")))
    }

    /// Begins again with a module that has other parameters than before. The states of parameters with the same path and shape stay; the others
    /// begin anew. It waits for the GPU.
    ///
    /// # Errors
    /// As [`Options::init`](crate::Options::init); the device was lost.
    #[cfg(not(target_family = "wasm"))]
    pub fn init_again<M: Module>(&mut self, module: &M) -> Result<()> {
        pollster::block_on(self.init_again_async(module))
    }

    /// As `init_again`, for programs that may not block.
    ///
    /// # Errors
    /// As `init_again`.
    pub async fn init_again_async<M: Module>(&mut self, module: &M) -> Result<()> {
        let mut again = Self::build(self.options.clone(), module)?;
        let mut encoder = self.params.encoder();
        let snapshot = self.engine.snapshot(&mut encoder)?;
        self.params.queue.submit([encoder.finish()]);
        let checkpoint = snapshot.checkpoint().await?;
        checkpoint.restore_fitting(&mut again.engine, Fit::Partial)?;
        again.engine.write_step_count(u32::try_from(checkpoint.step_count()).unwrap_or(u32::MAX))?;
        *self = again;
        Ok(())
    }
}
