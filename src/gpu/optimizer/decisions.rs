//! The losses of probes, the global state and the decisions, read and written outside of steps.

use crate::gpu::build::spec::Tensor;
use crate::gpu::optimizer::Optimizer;
use crate::gpu::part::Part;
use crate::{Error, Result};

impl Optimizer {
    /// The range for the loss of an evaluation, one f32: slot 0 for the loss at the parameters, slot `j` for the loss at the j-th probe. Copy
    /// the loss into it, or bind it in a kernel.
    ///
    /// # Errors
    /// The rule has no such probe.
    pub fn loss_slot(&self, slot: usize) -> Result<wgpu::BufferSlice<'_>> {
        self.probing().loss_slot(slot)
    }

    /// Writes the losses of probes, for callers that evaluate them on the host. The first is the loss at the parameters. Steps use these losses until
    /// new ones are written.
    ///
    /// # Errors
    /// The count of losses is not one more than the count of probes.
    pub fn write_losses(&mut self, losses: &[f32]) -> Result<()> {
        let probing = self.probing_index();
        self.parts[probing].write_losses(losses)
    }

    /// Reads the global state that decisions keep from step to step, in the order of [`Rule::global_state`](crate::Rule::global_state), for one
    /// rule after the other; empty for most rules.
    ///
    /// # Errors
    /// The device was lost.
    pub fn read_global_state(&self) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let states: Vec<_> = self.parts.iter().map(Part::read_global_state).collect();
        async move {
            let mut values = Vec::new();
            for state in states {
                values.extend(state.await?);
            }
            Ok(values)
        }
    }

    /// Writes the global state, for example when states are restored, before the next submitted work.
    ///
    /// # Errors
    /// The rule's global state has another count of numbers.
    pub fn write_global_state(&self, values: &[f32]) -> Result<()> {
        let count: usize = self.parts.iter().map(Part::global_state_count).sum();
        if values.len() != count {
            return Err(Error::Usage(format!(
                "{} numbers were given, the rule's global state has {count}",
                values.len()
            )));
        }
        let mut rest = values;
        for part in &self.parts {
            let (own, others) = rest.split_at(part.global_state_count());
            part.write_global_state(own)?;
            rest = others;
        }
        Ok(())
    }

    /// Reads the last step's decision for a tensor, in the order of [`Rule::decision`](crate::Rule::decision): S-Adam's `damp` and
    /// `lgi`, FlowAdam's `flow`. Zeros before the first step.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the device was lost.
    pub fn read_decision(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let reading = self.of_tensor(tensor).map(|(part, tensor)| part.read_decision(tensor));
        async move { reading?.await }
    }

    /// The part with the rule that probes, or else the first part.
    pub(crate) fn probing_index(&self) -> usize {
        self.parts.iter().position(|part| part.kernels.losses.is_some()).unwrap_or(0)
    }

    pub(crate) fn probing(&self) -> &Part {
        &self.parts[self.probing_index()]
    }
}
