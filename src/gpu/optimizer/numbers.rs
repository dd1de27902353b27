//! Parameters, gradients, states and counters, read and written outside of steps.

use crate::Result;
#[cfg(feature = "tools")]
use crate::gpu::build::division::InPart;
use crate::gpu::build::spec::{Group, Tensor};
use crate::gpu::optimizer::Optimizer;
use crate::gpu::part::Part;
#[cfg(feature = "tools")]
use crate::options::storage::{Formats, Packed};

impl Optimizer {
    /// Reads the parameters of a tensor in full precision: the numbers that steps change, with the master or remainder of half precision. An
    /// optimizer with an [own range](crate::Builder::own_range) has the master or remainder of this range alone, and the other elements are
    /// those of the buffer.
    ///
    /// # Errors
    /// The device was lost; the caller's buffer lacks `COPY_SRC`.
    pub fn read_param(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_param(tensor));
        async move { reading?.await }
    }

    /// Reads a tensor's gradients.
    ///
    /// # Errors
    /// As [`read_param`](Self::read_param); the tensor was bound without gradients.
    pub fn read_grad(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_grad(tensor));
        async move { reading?.await }
    }

    /// Writes the parameters of a tensor, before the next submitted work. In half precision this rounds to nearest, and writes the master or
    /// remainder too.
    ///
    /// # Errors
    /// The tensor has another length; the caller's buffer lacks `COPY_DST`.
    pub fn write_param(&self, tensor: Tensor, values: &[f32]) -> Result<()> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.write_param(tensor, values)
    }

    /// Writes the gradients of a tensor, before the next submitted work.
    ///
    /// # Errors
    /// As [`write_param`](Self::write_param); the tensor was bound without gradients.
    pub fn write_grad(&self, tensor: Tensor, values: &[f32]) -> Result<()> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.write_grad(tensor, values)
    }

    /// The names of the states of a tensor: the states of the rule, then `gradient_accumulator` and `ema` if the builder set them, then
    /// `master` (f32) or `remainder` (16 bits, as whole numbers) of parameters in half precision, then WarpAdam's `warp_gradient` and the
    /// columns of its matrix. A frozen tensor has no states.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn state_names(&self, tensor: Tensor) -> Result<Vec<&'static str>> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.state_names(tensor)
    }

    /// Reads a state of a tensor, in any storage.
    ///
    /// # Errors
    /// The rule keeps no state of this name; the device was lost.
    pub fn read_state(&self, tensor: Tensor, state: &str) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_state(tensor, state));
        async move { reading?.await }
    }

    /// Writes a state of a tensor, in any storage, before the next submitted work. Rounds to nearest.
    ///
    /// # Errors
    /// The rule keeps no state of this name; the tensor has another length.
    pub fn write_state(&self, tensor: Tensor, state: &str, values: &[f32]) -> Result<()> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.write_state(tensor, state, values)
    }

    /// The step count on the GPU. With several rules, the largest: a rule that refuses or holds a step counts fewer, see
    /// [`read_step_count_of`](Self::read_step_count_of).
    ///
    /// # Errors
    /// The device was lost.
    pub fn read_step_count(&self) -> impl Future<Output = Result<u64>> + use<> {
        let counts: Vec<_> = self.parts.iter().map(Part::read_step_count).collect();
        async move {
            let mut most = 0;
            for count in counts {
                most = most.max(count.await?);
            }
            Ok(most)
        }
    }

    /// The step count of the rule of a group; 0 if no tensor has this rule.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the device was lost.
    pub fn read_step_count_of(&self, group: Group) -> impl Future<Output = Result<u64>> + use<> {
        let place = self.directory.group(&self.spec, group);
        let reading = place.map(|place| place.map(|place| self.parts[place.part].read_step_count()));
        async move {
            match reading? {
                Some(reading) => reading.await,
                None => Ok(0),
            }
        }
    }

    /// The count of steps that were skipped because a gradient was not finite.
    ///
    /// # Errors
    /// The device was lost.
    pub fn read_skipped(&self) -> impl Future<Output = Result<u64>> + use<> {
        let reading = self.parts.first().map(Part::read_skipped);
        async move {
            match reading {
                Some(reading) => reading.await,
                None => Ok(0),
            }
        }
    }

    /// The current loss scale; 1 if the optimizer has none.
    ///
    /// # Errors
    /// The device was lost.
    pub fn read_loss_scale(&self) -> impl Future<Output = Result<f32>> + use<> {
        let reading = self.parts.first().map(Part::read_loss_scale);
        async move {
            match reading {
                Some(reading) => reading.await,
                None => Ok(1.0),
            }
        }
    }

    /// Reads the numbers that the rule keeps once per tensor, in the order of [`Rule::progress`](crate::Rule::progress); empty for most rules.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the device was lost.
    pub fn read_progress(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_progress(tensor));
        async move { reading?.await }
    }

    /// The step count of a tensor on the GPU: that of its rule, without the steps that left out the tensor.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the device was lost.
    pub fn read_tensor_step_count(&self, tensor: Tensor) -> impl Future<Output = Result<u64>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_tensor_step_count(tensor));
        async move { reading?.await }
    }

    /// Sets the step count of a tensor, up to 2²⁴, for example when states are loaded. The progress of a rule that keeps one becomes that of as
    /// many steps with the current settings.
    ///
    /// # Errors
    /// The builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps); a recorded step is not yet finished.
    pub fn write_tensor_step_count(&self, tensor: Tensor, step_count: u32) -> Result<()> {
        let (part, tensor) = self.of_tensor(tensor)?;
        part.write_tensor_step_count(tensor, step_count)
    }

    /// Sets the step count of every rule, for example when states are loaded. The progress of a rule that keeps one
    /// ([`Rule::progress`](crate::Rule::progress)) becomes that of as many steps with the current settings, and with
    /// [`Builder::partial_steps`](crate::Builder::partial_steps) or [`Builder::fresh_rows`](crate::Builder::fresh_rows) every tensor and every
    /// row gets this count. A step with recorded sums and no recorded update ends.
    ///
    /// # Errors
    /// The encoder of a recorded step or of recorded sums is neither finished nor dropped.
    pub fn write_step_count(&mut self, step_count: u32) -> Result<()> {
        self.check_idle()?;
        self.parts.iter_mut().try_for_each(|part| part.write_step_count(step_count))
    }

    /// Returns an error while a recorded step is unfinished.
    pub(crate) fn check_idle(&self) -> Result<()> {
        self.parts.iter().try_for_each(Part::check_idle)
    }

    /// Writes the numbers that the rule keeps for a tensor, by its index.
    #[cfg(feature = "tools")]
    pub(crate) fn write_progress(&self, tensor: usize, values: &[f32]) -> Result<()> {
        let InPart { part, index } = self.directory.tensors()[tensor];
        self.parts[part].write_progress(index, values)
    }

    /// The formats of a tensor, by its index.
    #[cfg(feature = "tools")]
    pub(crate) fn formats(&self, tensor: usize) -> &Formats {
        &self.spec.tensors[tensor].formats
    }

    /// The parameters of a tensor as the model sees them, by its index.
    #[cfg(feature = "tools")]
    pub(crate) fn read_seen(&self, tensor: usize) -> impl Future<Output = Result<Packed>> + use<> {
        let InPart { part, index } = self.directory.tensors()[tensor];
        self.parts[part].read_seen(index)
    }
}
