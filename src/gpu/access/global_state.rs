//! The losses of probes, the global state, the progress and the decisions, read and written outside of steps.

use crate::gpu::Part;
use crate::gpu::build::spec::Tensor;
use crate::gpu::layout::units::{CONTROL_HEAD, LOSS_BYTES, ROW_STEPS, VEC4};
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
    pub(crate) fn read_global_state(&self) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        self.read_floats(CONTROL_HEAD, self.global_state_count())
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
    pub(crate) fn read_decision(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let class = &self.placement.classes[0];
        let reading = self.spec.tensor(tensor).map(|tensor| {
            let vec4s = class.global_state_vec4s() + tensor * class.decision_vec4s();
            self.read_floats(CONTROL_HEAD + vec4s as u64 * VEC4, class.decision.len())
        });
        async move { reading?.await }
    }

    /// Reads the numbers that the rule keeps once per tensor.
    pub(crate) fn read_progress(&self, tensor: Tensor) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let count = self.placement.classes[0].progress.len();
        let reading = self.spec.tensor(tensor).map(|tensor| self.read_floats(self.progress_at(tensor), count));
        async move { reading?.await }
    }

    /// Writes the numbers that are kept for a tensor, before the next submitted work.
    pub(crate) fn write_progress(&self, tensor: usize, values: &[f32]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.context.write(&self.kernels.control, self.progress_at(tensor), bytemuck::cast_slice(values))
    }

    /// Writes, for every tensor, the numbers that are kept after `step_count` steps with the current settings.
    pub(crate) fn restart_progress(&self, step_count: u64) -> Result<()> {
        (0..self.spec.tensors.len()).try_for_each(|tensor| self.restart_tensor(tensor, step_count))
    }

    fn restart_tensor(&self, tensor: usize, step_count: u64) -> Result<()> {
        let rule = self.spec.groups[self.spec.tensors[tensor].group].rule.as_ref();
        let own = if self.spec.around.partial { vec![step_count as f64, 0.0] } else { Vec::new() };
        let numbers = rule.progress_after(step_count).into_iter().chain(own).map(|x| x as f32);
        self.write_progress(tensor, &numbers.collect::<Vec<_>>())?;
        self.write_row_steps(tensor, step_count)
    }

    /// Sets the step count of every element of a tensor, where elements have step counts.
    fn write_row_steps(&self, tensor: usize, step_count: u64) -> Result<()> {
        let Some(array) = self.arrays(tensor).into_iter().find(|array| array.name == ROW_STEPS) else { return Ok(()) };
        for run in self.placement.layout.state_runs(tensor) {
            let arena = &self.kernels.dispatches[run.shard].arena.buffer;
            let counts = vec![step_count as f32; run.elements];
            self.context.write(arena, array.stretch(&run).start, bytemuck::cast_slice(&counts))?;
        }
        Ok(())
    }

    /// The step count of a tensor on the GPU.
    pub(crate) fn read_tensor_step_count(&self, tensor: Tensor) -> impl Future<Output = Result<u64>> + use<> {
        let class = &self.placement.classes[0];
        let (own, kept) = (class.progress.len(), class.kept_numbers().len());
        let reading = self.spec.tensor(tensor).map(|tensor| {
            let numbers = || self.read_floats(self.progress_at(tensor), kept);
            if self.spec.around.partial { Ok(numbers()) } else { Err(self.read_step_count()) }
        });
        async move {
            match reading? {
                Ok(numbers) => Ok(numbers.await?[own] as u64),
                Err(count) => count.await,
            }
        }
    }

    /// Sets the step count of a tensor.
    pub(crate) fn write_tensor_step_count(&self, tensor: Tensor, step_count: u32) -> Result<()> {
        let tensor = self.spec.tensor(tensor)?;
        if !self.spec.around.partial {
            let problem = "it has the step count of the optimizer: call write_step_count, or tell the builder with partial_steps(true)";
            return Err(self.spec.tensors[tensor].error(problem.to_owned()));
        }
        self.check_idle()?;
        self.restart_tensor(tensor, u64::from(step_count))
    }

    /// The byte of the control buffer at which the progress of a tensor lies.
    fn progress_at(&self, tensor: usize) -> u64 {
        CONTROL_HEAD + self.placement.classes[0].progress_word(tensor) as u64 * 4
    }

    pub(crate) fn read_floats(&self, first: u64, count: usize) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        let end = first + count as u64 * 4;
        let bytes = (count > 0).then(|| self.read_bytes(self.kernels.control.slice(first..end)));
        async move {
            match bytes {
                None => Ok(Vec::new()),
                Some(bytes) => Ok(bytemuck::pod_collect_to_vec(&bytes.await?)),
            }
        }
    }
}
