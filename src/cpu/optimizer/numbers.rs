//! States, averages and counters, read and written between steps.

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::part::Part;
use crate::gpu::build::spec::{Group, Tensor};

impl<F: Number> Optimizer<F> {
    /// The names of the states of a tensor. A frozen tensor has none.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn state_names(&self, tensor: Tensor) -> Result<Vec<&'static str>> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.state_names(tensor)
    }

    /// A state of a tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the tensor has no state of this name.
    pub fn state(&self, tensor: Tensor, name: &str) -> Result<&[F]> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.state(tensor, name)
    }

    /// A state of a tensor, for writing.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn state_mut(&mut self, tensor: Tensor, name: &str) -> Result<&mut [F]> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.state_mut(tensor, name)
    }

    /// The average of a tensor's weights; zeros before the first step.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the builder did not set [`ema`](crate::Builder::ema); the tensor is frozen.
    pub fn ema(&self, tensor: Tensor) -> Result<&[F]> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.ema(tensor)
    }

    /// The step count. Skipped steps do not count. With several rules, the largest: a rule that refuses or holds a step counts fewer, see
    /// [`step_count_of`](Self::step_count_of).
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.parts.iter().map(Part::step_count).max().unwrap_or(0)
    }

    /// The step count of the rule of a group; 0 if no tensor has this rule.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn step_count_of(&self, group: Group) -> Result<u64> {
        let place = self.directory.group(&self.spec, group)?;
        Ok(place.map_or(0, |place| self.parts[place.part].step_count()))
    }

    /// The step count of a tensor: that of its rule, without the steps that left out the tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn tensor_step_count(&self, tensor: Tensor) -> Result<u64> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.tensor_step_count(tensor)
    }

    /// Sets the step count of a tensor, for example when states are restored. The progress of a rule that keeps one becomes that of as many
    /// steps with the current settings.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps).
    pub fn set_tensor_step_count(&mut self, tensor: Tensor, t: u64) -> Result<()> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.set_tensor_step_count(tensor, t)
    }

    /// The numbers that the rule keeps once per tensor, in the order of [`Rule::progress`](crate::Rule::progress); empty for most rules.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn progress(&self, tensor: Tensor) -> Result<&[F]> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.progress(tensor)
    }

    /// Sets the step count of every rule, for example when states are restored. The progress of a rule that keeps one
    /// ([`Rule::progress`](crate::Rule::progress)) becomes that of as many steps with the current settings, and with
    /// [`Builder::partial_steps`](crate::Builder::partial_steps) every tensor gets this count.
    pub fn set_step_count(&mut self, t: u64) {
        self.parts.iter_mut().for_each(|part| part.set_step_count(t));
    }

    /// The current loss scale; 1 without a loss scale.
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.parts.first().map_or(1.0, Part::loss_scale)
    }

    /// The count of steps that were skipped because a gradient was not finite.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.parts.first().map_or(0, Part::skipped)
    }

    /// WarpAdam's matrix of a tensor: for each element, the `warp_block` numbers of its row in its block.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no matrix.
    pub fn warp(&self, tensor: Tensor) -> Result<Vec<F>> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.warp(tensor)
    }

    /// Sets WarpAdam's matrix of a tensor, in the layout of [`warp`](Self::warp). Numbers past the end of a smaller last block must be 0.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no matrix; the length is wrong; a number past the end of a block is not 0.
    pub fn set_warp(&mut self, tensor: Tensor, rows: &[F]) -> Result<()> {
        let (part, tensor) = self.of_tensor_mut(tensor)?;
        part.set_warp(tensor, rows)
    }

    /// Rounds parameters to nearest, to the numbers that the model sees. Initial values must be such numbers. The storage keeps the difference,
    /// where it keeps full precision.
    ///
    /// # Errors
    /// A count or length that does not fit.
    pub fn store_params(&mut self, params: &mut [&mut [F]]) -> Result<()> {
        self.check_count("parameters", params.len())?;
        let mut shares = self.shares(params.iter_mut().map(|p| &mut **p));
        self.parts.iter().zip(&shares).try_for_each(|(part, share)| part.check_params(share))?;
        self.parts.iter_mut().zip(&mut shares).try_for_each(|(part, share)| part.store_params(share))
    }
}
