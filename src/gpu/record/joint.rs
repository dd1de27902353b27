//! One call to all parts of an optimizer: the sums of all parts, then the updates, in one pass.

use crate::Result;
use crate::gpu::Optimizer;
use crate::gpu::build::spec::Tensor;
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::Kind;
use crate::gpu::part::Part;
use crate::gpu::record::dynamic::DynamicGradients;

/// A recorded call: for each part the slot with its scalars, and the gradients if the call names them.
#[derive(Debug)]
pub(crate) struct Call {
    slots: Vec<Slot>,
    dynamic: Vec<DynamicGradients>,
}

impl Call {
    /// The slot of a part, and its gradients if the call names them.
    pub(crate) fn of(&self, part: usize) -> (&Slot, Option<&DynamicGradients>) {
        (&self.slots[part], self.dynamic.get(part))
    }

    /// Forgets the gradients that the call named.
    pub(crate) fn forget_gradients(&mut self) {
        self.dynamic.clear();
    }

    /// Whether the call names its gradients.
    pub(crate) fn names_gradients(&self) -> bool {
        !self.dynamic.is_empty()
    }
}

impl Optimizer {
    /// Takes the slots of a call with the current settings and the bound gradients.
    pub(crate) fn begin(&mut self) -> Result<Call> {
        let slots = self.parts.iter_mut().map(|part| part.begin_call(None)).collect::<Result<_>>()?;
        Ok(Call { slots, dynamic: Vec::new() })
    }

    /// As [`begin`](Self::begin), with gradients that the call names. `kinds` returns the kinds of a part's dispatches that read gradients.
    pub(crate) fn begin_with<'a>(
        &mut self,
        grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'a>)>,
        kinds: impl Fn(&Part) -> Vec<Kind>,
    ) -> Result<Call> {
        let mut of_part: Vec<Vec<(Tensor, wgpu::BufferSlice<'a>)>> = vec![Vec::new(); self.parts.len()];
        for (tensor, slice) in grads {
            let place = self.directory.tensor(&self.spec, tensor)?;
            of_part[place.part].push((self.parts[place.part].spec.tensor_handle(place.index), slice));
        }
        let named = self.parts.iter().zip(of_part);
        let dynamic: Vec<_> =
            named.map(|(part, grads)| part.dynamic_gradients(grads, kinds(part))).collect::<Result<_>>()?;
        let begun = self.parts.iter_mut().zip(&dynamic);
        let slots = begun.map(|(part, dynamic)| part.begin_call(Some(&dynamic.positions))).collect::<Result<_>>()?;
        Ok(Call { slots, dynamic })
    }

    /// As [`begin`](Self::begin), for a call that leaves out tensors. `named` holds the position of each tensor's gradient: 0, or
    /// [`ABSENT`](crate::gpu::layout::units::ABSENT).
    pub(crate) fn begin_named(&mut self, named: Vec<u32>) -> Result<Call> {
        let shares = self.directory.shares(self.parts.len(), named);
        let begun = self.parts.iter_mut().zip(&shares);
        let slots = begun.map(|(part, named)| part.begin_call(Some(named))).collect::<Result<_>>()?;
        Ok(Call { slots, dynamic: Vec::new() })
    }

    /// Records the sums of a round of every step. After those of the first round, parts exchange norms and counts.
    pub(crate) fn sum_round(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call, round: usize) {
        let exchange = self.exchange.as_ref().filter(|_| round == 0);
        for (number, part) in self.parts_with(round) {
            let (slot, dynamic) = call.of(number);
            match exchange {
                Some(_) => part.sum(pass, round, slot, dynamic),
                None => part.contribute(pass, round, slot, dynamic),
            }
        }
        exchange.iter().for_each(|exchange| exchange.record(pass));
    }

    /// Records the decisions from the sums of a round.
    pub(crate) fn decide_round(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call, round: usize) {
        for (number, part) in self.parts_with(round) {
            let (slot, _) = call.of(number);
            match &self.exchange {
                Some(_) if round == 0 => part.conclude(pass, round, slot),
                _ => part.finalize(pass, round, slot),
            }
        }
    }

    /// The parts whose steps have a round of this number.
    fn parts_with(&self, round: usize) -> impl Iterator<Item = (usize, &Part)> {
        self.parts.iter().enumerate().filter(move |(_, part)| part.kernels.main_rounds > round)
    }

    /// Records the updates of all parts, or of all but one.
    pub(crate) fn update(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call, but: Option<usize>) {
        for (number, part) in self.parts.iter().enumerate().filter(|(number, _)| Some(*number) != but) {
            let (slot, dynamic) = call.of(number);
            part.update(pass, slot, dynamic);
        }
    }

    /// Records the first half of a step.
    pub(crate) fn record_first_half(&self, encoder: &mut wgpu::CommandEncoder, call: &Call) {
        if self.parts.iter().all(|part| part.kernels.main_rounds == 0) {
            return;
        }
        let mut pass = self.begin_pass(encoder);
        for (part, slot) in self.parts.iter().zip(&call.slots).filter(|(part, _)| part.kernels.main_rounds > 0) {
            part.sum(&mut pass, 0, slot, None);
        }
        if let Some(exchange) = &self.exchange {
            exchange.record(&mut pass);
        }
    }

    /// Records the decisions from the last round of sums, whose number is `round`, and the updates.
    pub(crate) fn record_second_half(&self, encoder: &mut wgpu::CommandEncoder, call: &Call, round: usize) {
        let mut pass = self.begin_pass(encoder);
        for (part, slot) in self.parts.iter().zip(&call.slots) {
            part.conclude(&mut pass, round, slot);
        }
        self.update(&mut pass, call, None);
    }

    /// Records the decisions from the round of sums before `round`, and the sums of this round.
    pub(crate) fn record_next_round(&self, encoder: &mut wgpu::CommandEncoder, call: &Call, round: usize) {
        let mut pass = self.begin_pass(encoder);
        for (part, slot) in self.parts.iter().zip(&call.slots) {
            part.conclude(&mut pass, round - 1, slot);
            if round < part.kernels.main_rounds {
                part.sum(&mut pass, round, slot, None);
            }
        }
    }

    /// Records the end of a step.
    pub(crate) fn finish(&mut self, encoder: &mut wgpu::CommandEncoder, call: Call) {
        for (part, slot) in self.parts.iter_mut().zip(call.slots) {
            part.finish(encoder, slot);
        }
    }

    /// Records the addition of a micro-batch.
    pub(crate) fn record_micro_batch(&self, encoder: &mut wgpu::CommandEncoder, call: Call) {
        {
            let mut pass = self.begin_pass(encoder);
            for (number, part) in self.parts.iter().enumerate() {
                let (slot, dynamic) = call.of(number);
                part.accumulate(&mut pass, slot, dynamic);
            }
        }
        for (part, slot) in self.parts.iter().zip(call.slots) {
            part.count_micro_batches(encoder);
            part.scalars.release(encoder, slot);
        }
    }

    /// Records a pass outside of steps, over the parts that `which` picks.
    pub(crate) fn record_aside(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        kind: Kind,
        which: impl Fn(&Part) -> bool,
    ) -> Result<()> {
        let call = self.begin()?;
        {
            let mut pass = self.begin_pass(encoder);
            for (part, slot) in self.parts.iter().zip(&call.slots).filter(|(part, _)| which(part)) {
                part.dispatch(&mut pass, kind, slot, None);
            }
        }
        self.release(encoder, call);
        Ok(())
    }

    /// Keeps the slots of a call until the work of the encoder is done or dropped.
    pub(crate) fn keep(&self, encoder: &wgpu::CommandEncoder, call: &Call) {
        for (part, slot) in self.parts.iter().zip(&call.slots) {
            part.scalars.release(encoder, slot.clone());
        }
    }

    /// Keeps the slots of a step whose sums, up to this round, are in the encoder.
    pub(crate) fn keep_half(&mut self, encoder: &wgpu::CommandEncoder, call: Call, round: usize) {
        for (part, slot) in self.parts.iter_mut().zip(call.slots) {
            part.scalars.keep_half(encoder, slot, round);
        }
    }

    /// The last round of sums that a half step recorded; 0 if there is no half step.
    pub(crate) fn half_round(&self) -> usize {
        self.parts.iter().map(|part| part.scalars.half_round()).max().unwrap_or(0)
    }

    /// The call of the step whose sums were recorded.
    ///
    /// # Errors
    /// No sums were recorded since the last other call of any part; their encoder was dropped. The half step ends in all parts.
    pub(crate) fn take_half(&mut self) -> Result<Call> {
        let slots = self.parts.iter_mut().map(|part| part.scalars.take_half()).collect::<Result<_>>()?;
        Ok(Call { slots, dynamic: Vec::new() })
    }

    /// Frees the slots of a call that counts no step.
    pub(crate) fn release(&self, encoder: &mut wgpu::CommandEncoder, call: Call) {
        for (part, slot) in self.parts.iter().zip(call.slots) {
            part.scalars.release(encoder, slot);
        }
    }

    pub(crate) fn begin_pass<'e>(&self, encoder: &'e mut wgpu::CommandEncoder) -> wgpu::ComputePass<'e> {
        self.parts[0].begin_pass(encoder)
    }

    /// Begins a pass that writes these timestamps.
    pub(crate) fn begin_timed_pass<'e>(
        &self,
        encoder: &'e mut wgpu::CommandEncoder,
        timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> wgpu::ComputePass<'e> {
        self.parts[0].begin_timed_pass(encoder, timestamps)
    }
}
