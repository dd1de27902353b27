//! The losses of probes, the global state and the decisions, read and written outside of steps.

use crate::gpu::Part;
use crate::gpu::access::readback::read_buffer;
use crate::gpu::build::spec::Tensor;
use crate::gpu::layout::units::{CONTROL_HEAD, LOSS_BYTES, VEC4};
use crate::gpu::record::probed::Probed;
use crate::{Error, Result};

impl Part {
    /// The range for the loss of an evaluation, one f32: slot 0 for the loss at the parameters, slot `j` for the loss at the j-th probe.
    pub(crate) fn loss_slot(&self, slot: usize) -> Result<wgpu::BufferSlice<'_>> {
        let probes = self.placement.classes[0].probes();
        match &self.kernels.losses {
            Some(losses) if slot <= probes => {
                let at = slot as u64 * LOSS_BYTES;
                Ok(losses.slice(at..at + 4))
            }
            _ => Err(Error::Usage(format!("loss slot {slot} does not exist: the rule probes {probes} directions"))),
        }
    }

    /// Writes the losses of probes, for callers that evaluate them on the host.
    pub(crate) fn write_losses(&mut self, losses: &[f32]) -> Result<()> {
        self.put_losses(losses)?;
        self.probed = Probed::given(true);
        Ok(())
    }

    /// As [`write_losses`](Self::write_losses), but steps still count as not probed.
    pub(crate) fn put_losses(&self, losses: &[f32]) -> Result<()> {
        let probes = self.placement.classes[0].probes();
        if probes == 0 || losses.len() != probes + 1 {
            return Err(Error::Usage(format!(
                "{} losses were given, the rule probes {probes} directions",
                losses.len()
            )));
        }
        for (slot, loss) in losses.iter().enumerate() {
            let slot = self.loss_slot(slot)?;
            self.context.write(slot.buffer(), slot.offset(), bytemuck::bytes_of(loss))?;
        }
        Ok(())
    }

    /// The count of numbers of the global state.
    pub(crate) fn global_state_count(&self) -> usize {
        self.placement.classes[0].global_state.len()
    }

    /// Reads the global state that decisions keep from step to step, in the order of [`Rule::global_state`](crate::Rule::global_state); empty
    /// for most rules.
    pub(crate) async fn read_global_state(&self) -> Result<Vec<f32>> {
        let count = self.placement.classes[0].global_state.len();
        self.read_floats(CONTROL_HEAD, count).await
    }

    /// Writes the global state, for example when states are restored, before the next submitted work.
    pub(crate) fn write_global_state(&self, values: &[f32]) -> Result<()> {
        let count = self.placement.classes[0].global_state.len();
        if values.len() != count {
            return Err(Error::Usage(format!(
                "{} numbers were given, the rule's global state has {count}",
                values.len()
            )));
        }
        if count > 0 {
            self.context.write(&self.kernels.control, CONTROL_HEAD, bytemuck::cast_slice(values))?;
        }
        Ok(())
    }

    /// Reads the last step's decision for a tensor, in the order of [`Rule::decision`](crate::Rule::decision): S-Adam's `damp` and `lgi`,
    /// FlowAdam's `flow`.
    pub(crate) async fn read_decision(&self, tensor: Tensor) -> Result<Vec<f32>> {
        let class = &self.placement.classes[0];
        let vec4s = class.global_state_vec4s() + self.spec.tensor(tensor)? * class.decision_vec4s();
        self.read_floats(CONTROL_HEAD + vec4s as u64 * VEC4, class.decision.len()).await
    }

    async fn read_floats(&self, first: u64, count: usize) -> Result<Vec<f32>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let slice = self.kernels.control.slice(first..first + count as u64 * 4);
        Ok(bytemuck::pod_collect_to_vec(&read_buffer(&self.context.device, &self.context.queue, slice).await?))
    }
}
