//! Recording a step.

use crate::gpu::Optimizer;
use crate::gpu::build::blame::{destroyed, is_destroyed};
use crate::gpu::build::spec::Tensor;
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::Kind;
use crate::gpu::kernel::kernels::Offsets;
use crate::gpu::layout::units::{ABSENT, ACCUMULATED, RAN, ROUNDED};
use crate::gpu::record::dynamic::DynamicGradients;
use crate::options::around::Mode;
use crate::{Error, Result};

impl Optimizer {
    /// Records one step that rebinds the gradients of some tensors: ranges with the lengths and alignment of
    /// [`Builder::bind`](crate::Builder::bind), in buffers that hold no parameters. The other tensors use their bound gradients; with
    /// [`Builder::partial_steps`](crate::Builder::partial_steps) the step leaves them out. The step has one dispatch per run of tensors with
    /// gradients in one buffer.
    ///
    /// # Errors
    /// The builder did not set [`Builder::dynamic_gradients`](crate::Builder::dynamic_gradients); a range does not fit; a tensor is named
    /// twice, or has no gradient; a buffer was destroyed, or belongs to another device; as [`step`](Self::step).
    pub fn step_with_grads<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'a>)>,
    ) -> Result<()> {
        self.check_whole()?;
        let dynamic = self.dynamic_gradients(grads, self.kinds_of_step())?;
        let slot = self.begin_call(Some(&dynamic.positions))?;
        self.record(encoder, &slot, Some(&dynamic));
        self.finish(encoder, slot);
        Ok(())
    }

    /// Records one step over these tensors, with the gradients that they were bound with. It leaves out the other tensors: parameters, states,
    /// averages, accumulators, gradients and their step counts stay as they are, and they have no part in sums. With accumulation, the step
    /// also takes the tensors with gradients in their accumulators. A step without any tensor counts too.
    ///
    /// # Errors
    /// The builder did not set [`Builder::partial_steps`](crate::Builder::partial_steps); otherwise as [`step`](Self::step), except that a tensor
    /// that the step leaves out needs no gradient.
    pub fn step_tensors(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        tensors: impl IntoIterator<Item = Tensor>,
    ) -> Result<()> {
        self.check_whole()?;
        let named = self.named(tensors)?;
        if self.kernels.runs.is_some() {
            let grads = self.bound_grads(&named)?;
            return self.step_with_grads(
                encoder,
                grads.iter().map(|(tensor, buffer, range)| (*tensor, buffer.slice(range.clone()))),
            );
        }
        let slot = self.begin_call(Some(&named))?;
        self.record(encoder, &slot, None);
        self.finish(encoder, slot);
        Ok(())
    }

    /// The position of each tensor's gradient for a call that names these tensors: 0, or [`ABSENT`].
    fn named(&self, tensors: impl IntoIterator<Item = Tensor>) -> Result<Vec<u32>> {
        if !self.spec.around.partial {
            let problem =
                "a call that names its tensors leaves out the others: tell the builder with partial_steps(true)";
            return Err(Error::Usage(problem.to_owned()));
        }
        let mut named = vec![ABSENT; self.spec.tensors.len()];
        for tensor in tensors {
            named[self.spec.tensor(tensor)?] = 0;
        }
        Ok(named)
    }

    /// The bound gradients of the named tensors.
    pub(crate) fn bound_grads(&self, named: &[u32]) -> Result<Vec<(Tensor, wgpu::Buffer, std::ops::Range<u64>)>> {
        let tensors = self.spec.tensor_handles().zip(named).filter(|(_, position)| **position != ABSENT);
        let bound = |((tensor, _), _)| {
            let slice = self.grad(tensor)?;
            Ok((tensor, slice.buffer().clone(), slice.offset()..slice.offset() + slice.size()))
        };
        tensors.map(bound).collect()
    }

    /// Records the first half of a step: the sums, reduced into [`totals`](Self::totals). Rules without sums record nothing. The second half,
    /// [`record_update`](Self::record_update), uses the settings at this call. Submit the sums before the update. The half step ends without
    /// a step where its encoder is dropped, and at the next recorded call, restore, change of the step count, or change of a setting that is
    /// computed ahead.
    /// Where [`sum_rounds`](Self::sum_rounds) is 2, [`record_next_sums`](Self::record_next_sums) comes between the two.
    ///
    /// # Errors
    /// As [`step`](Self::step); the optimizer has dynamic gradients.
    pub fn record_sums(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        if self.kernels.runs.is_some() {
            return Err(Error::Usage("a step with dynamic gradients has no halves: call step_with_grads".to_owned()));
        }
        self.check_whole()?;
        let slot = self.begin_call(None)?;
        if self.kernels.main_rounds > 0 {
            self.sum(&mut self.begin_pass(encoder), 0, &slot, None);
        }
        self.scalars.keep_half(encoder, slot, 0);
        Ok(())
    }

    /// Records the decisions from the totals of the first round of sums, and the sums of the second round into [`totals`](Self::totals), which is
    /// then another buffer.
    ///
    /// # Errors
    /// No [`record_sums`](Self::record_sums) came before, or the step has no further round of sums ([`sum_rounds`](Self::sum_rounds)).
    pub fn record_next_sums(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.check_trains()?;
        self.check_buffers()?;
        let round = self.scalars.half_round() + 1;
        if round >= self.kernels.main_rounds {
            return Err(Error::Usage(
                "record_next_sums is for a step with a round of sums that is not recorded yet".to_owned(),
            ));
        }
        let slot = self.scalars.take_half()?;
        {
            let mut pass = self.begin_pass(encoder);
            self.conclude(&mut pass, round - 1, &slot);
            self.sum(&mut pass, round, &slot, None);
        }
        self.scalars.keep_half(encoder, slot, round);
        Ok(())
    }

    /// Records the decisions from the totals of a round.
    fn conclude(&self, pass: &mut wgpu::ComputePass<'_>, round: usize, slot: &Slot) {
        let round = self.kernels.rounds[..self.kernels.main_rounds].get(round);
        if let Some((round, conclude)) = round.and_then(|round| Some((round, round.conclude.as_ref()?))) {
            round.finish(pass, conclude, slot);
        }
    }

    /// Records the second half: the decision from the totals, and the update.
    ///
    /// # Errors
    /// No [`record_sums`](Self::record_sums) came before, or the half step ended, or a second round of sums is not recorded; the average of the
    /// weights is swapped in, or the parameters are at the point of evaluation.
    pub fn record_update(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.check_trains()?;
        self.check_buffers()?;
        let last = self.kernels.main_rounds.saturating_sub(1);
        if last > self.scalars.half_round() {
            return Err(Error::Usage(
                "record_update needs a record_next_sums before it: the step has two rounds of sums".to_owned(),
            ));
        }
        let slot = self.scalars.take_half()?;
        {
            let mut pass = self.begin_pass(encoder);
            self.conclude(&mut pass, last, &slot);
            self.update(&mut pass, &slot, None);
        }
        self.finish(encoder, slot);
        Ok(())
    }

    /// Records the addition of a micro-batch's gradients to the accumulator. The gradients lie where [`step`](Self::step) reads them. The step
    /// itself adds the last micro-batch: for a mean over n, call `accumulate` n-1 times and then step. A window that ends early is divided by
    /// the count of its own micro-batches.
    ///
    /// # Errors
    /// The builder did not set [`Builder::accumulate`](crate::Builder::accumulate); a tensor has no bound gradient and needs
    /// [`accumulate_with_grads`](Self::accumulate_with_grads).
    pub fn accumulate(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        if self.kernels.runs.is_some() {
            if self.spec.around.partial {
                let all: Vec<Tensor> = self.spec.tensor_handles().map(|(tensor, _)| tensor).collect();
                return self.accumulate_tensors(encoder, all);
            }
            return self.accumulate_with_grads(encoder, []);
        }
        self.check_accumulates()?;
        let slot = self.begin_call(None)?;
        self.record_micro_batch(encoder, slot, None);
        Ok(())
    }

    /// As [`accumulate`](Self::accumulate), for a micro-batch with gradients of these tensors alone. The step of the window takes every tensor
    /// that a micro-batch of the window named.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate) and [`step_tensors`](Self::step_tensors).
    pub fn accumulate_tensors(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        tensors: impl IntoIterator<Item = Tensor>,
    ) -> Result<()> {
        self.check_accumulates()?;
        let named = self.named(tensors)?;
        if self.kernels.runs.is_some() {
            let grads = self.bound_grads(&named)?;
            let grads = grads.iter().map(|(tensor, buffer, range)| (*tensor, buffer.slice(range.clone())));
            return self.accumulate_with_grads(encoder, grads);
        }
        let slot = self.begin_call(Some(&named))?;
        self.record_micro_batch(encoder, slot, None);
        Ok(())
    }

    /// As [`accumulate`](Self::accumulate), with gradients named as in [`step_with_grads`](Self::step_with_grads).
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate) and [`step_with_grads`](Self::step_with_grads).
    pub fn accumulate_with_grads<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'a>)>,
    ) -> Result<()> {
        self.check_accumulates()?;
        let dynamic = self.dynamic_gradients(grads, [Kind::Accumulate])?;
        let slot = self.begin_call(Some(&dynamic.positions))?;
        self.record_micro_batch(encoder, slot, Some(&dynamic));
        Ok(())
    }

    fn record_micro_batch(&self, encoder: &mut wgpu::CommandEncoder, slot: Slot, dynamic: Option<&DynamicGradients>) {
        {
            let mut pass = self.begin_pass(encoder);
            self.dispatch(&mut pass, Kind::Accumulate, &slot, dynamic);
            if let Some(round) = self.kernels.rounds.first()
                && let Some(wait) = &round.wait
            {
                round.finish(&mut pass, wait, &slot);
            }
        }
        self.count_micro_batches(encoder);
        self.scalars.release(encoder, slot);
    }

    /// Records the copy of the count of micro-batches to the control buffer.
    fn count_micro_batches(&self, encoder: &mut wgpu::CommandEncoder) {
        if let (Some(first), Some(_)) = (self.kernels.dispatches.first(), self.spec.around.accumulate) {
            encoder.copy_buffer_to_buffer(&first.arena.buffer, 8, &self.kernels.control, ACCUMULATED, 4);
        }
    }

    /// Records that the weights and their average swap: call it before an evaluation and again after it. Before the first step the
    /// call exchanges nothing. A step between the two calls is an error.
    ///
    /// # Errors
    /// The builder did not set [`Builder::ema`](crate::Builder::ema); a tensor keeps too few bits of its average.
    pub fn swap_ema(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        if self.spec.around.ema.is_none() {
            return Err(Error::Usage("the optimizer was built without an average of the weights".to_owned()));
        }
        if let Some(info) = self.spec.tensors.iter().find(|info| !info.frozen && !info.formats.params.is_exact()) {
            return Err(info.error(
                "its average would be rounded to half precision where it takes the weights' place: keep them with bf16-split or a \
                 master, or read the state `ema`"
                    .to_owned(),
            ));
        }
        self.check_mode("swap_ema", &[Mode::Training, Mode::Average])?;
        self.record_aside(encoder, Kind::Swap)?;
        // Before the first step the kernel exchanges nothing.
        if self.scalars.most_steps() > 0 {
            self.change_mode(encoder, Mode::Average);
        }
        Ok(())
    }

    /// Records a pass outside of steps.
    pub(crate) fn record_aside(&mut self, encoder: &mut wgpu::CommandEncoder, kind: Kind) -> Result<()> {
        let slot = self.begin_call(None)?;
        self.dispatch(&mut self.begin_pass(encoder), kind, &slot, None);
        self.scalars.release(encoder, slot);
        Ok(())
    }

    /// Checks that the rule evaluates no gradient inside the step, and that its probes came before.
    pub(crate) fn check_whole(&self) -> Result<()> {
        self.check_trains()?;
        match self.spec.rule().procedure().and_then(|procedure| procedure.needs_call()) {
            None => self.spec.check_probed(self.probed.get()),
            Some(call) => {
                let rule = self.spec.rule().name();
                Err(Error::Usage(format!("{rule} evaluates gradients inside the step: call {call}")))
            }
        }
    }

    fn check_accumulates(&self) -> Result<()> {
        self.check_trains()?;
        self.spec
            .around
            .accumulate
            .map(|_| ())
            .ok_or_else(|| Error::Usage("the optimizer was built without accumulate".to_owned()))
    }

    /// Prepares the scalars of the next recorded call. `gradients`: the gradient positions of the call, for dynamic gradients.
    pub(crate) fn begin_call(&mut self, gradients: Option<&[u32]>) -> Result<Slot> {
        self.check_buffers()?;
        self.scalars.begin(&self.context, &self.spec.groups, gradients)
    }

    /// Checks that the device works, and that the caller destroyed none of the bound buffers: no encoder with them could be submitted.
    pub(crate) fn check_buffers(&self) -> Result<()> {
        self.context.check()?;
        if let Some(buffer) = self.placement.callers.iter().find(|buffer| is_destroyed(buffer)) {
            let ranges = self.spec.tensors.iter().enumerate().flat_map(|(index, info)| {
                let grad = self.placement.grad(index).map(|grad| (info, "gradients", grad));
                std::iter::once((info, "parameters", self.placement.param(index))).chain(grad)
            });
            if let Some((info, what, _)) = ranges.into_iter().find(|(.., slice)| slice.buffer() == buffer) {
                return Err(destroyed(info, what));
            }
        }
        self.placement.rows.check_masks()
    }

    pub(crate) fn begin_pass<'e>(&self, encoder: &'e mut wgpu::CommandEncoder) -> wgpu::ComputePass<'e> {
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(&self.context.label),
            timestamp_writes: None,
        })
    }

    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        let mut pass = self.begin_pass(encoder);
        self.decide(&mut pass, slot, dynamic);
        self.update(&mut pass, slot, dynamic);
    }

    /// Records the rounds of sums that every step makes, and the decisions from them.
    pub(crate) fn decide(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        for number in 0..self.kernels.main_rounds {
            self.round(pass, number, slot, dynamic);
        }
    }

    /// Records the sums of a round and the decision from them.
    pub(crate) fn round(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        number: usize,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
        self.dispatch(pass, Kind::Stats(number), slot, dynamic);
        self.kernels.rounds[number].finish(pass, &self.kernels.rounds[number].finalize, slot);
    }

    pub(crate) fn update(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        if self.passes_before_update() {
            self.dispatch(pass, Kind::Procedure, slot, dynamic);
        }
        self.dispatch(pass, Kind::Update, slot, dynamic);
    }

    /// Records the sums of a round without the decision.
    pub(crate) fn sum(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        round: usize,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
        self.dispatch(pass, Kind::Stats(round), slot, dynamic);
        self.kernels.rounds[round].finish(pass, &self.kernels.rounds[round].reduce, slot);
    }

    /// Whether every step runs the pass of the rule's procedure before the update.
    pub(crate) fn passes_before_update(&self) -> bool {
        self.placement.classes[0].pass().is_some_and(|pass| pass.before_update)
    }

    /// The dispatches of a step that may read gradients.
    pub(crate) fn kinds_of_step(&self) -> impl Iterator<Item = Kind> + use<> {
        (0..self.kernels.rounds.len()).map(Kind::Stats).chain([Kind::Procedure, Kind::Update])
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, kind: Kind, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        self.dispatch_record(pass, kind, slot, 0, dynamic);
    }

    /// As [`dispatch`](Self::dispatch), with the number of the record that the procedure's pass reads.
    pub(crate) fn dispatch_record(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        kind: Kind,
        slot: &Slot,
        record: usize,
        dynamic: Option<&DynamicGradients>,
    ) {
        if let Some(dynamic) = dynamic {
            dynamic.dispatch(pass, kind, slot.offset, record);
        }
        for (p, pipeline) in self.kernels.dispatches.iter().filter_map(|shard| shard.pass(kind)) {
            // A dispatch that reads rebound gradients has no bindings of its own.
            let Some(group) = p.group_of(kind) else { continue };
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, Offsets { slot: slot.offset, record, run: 0 }.of(&p.pipeline).as_slice());
            pass.dispatch_workgroups(p.grid.0, p.grid.1, 1);
        }
    }

    /// Records the end of a step: the copies of its counts to the control buffer, the telemetry, and the callbacks that free the slot.
    pub(crate) fn finish(&mut self, encoder: &mut wgpu::CommandEncoder, slot: Slot) {
        let Some(first) = self.kernels.dispatches.first() else {
            // Without tensors to step, no kernel counts the step.
            self.record_sample(encoder);
            return self.scalars.release(encoder, slot);
        };
        encoder.copy_buffer_to_buffer(&first.arena.buffer, 0, &self.kernels.control, 0, 4);
        if self.placement.classes[0].stochastic {
            encoder.copy_buffer_to_buffer(&first.arena.buffer, 4, &self.kernels.control, ROUNDED, 4);
        }
        if self.scalars.may_skip() {
            encoder.copy_buffer_to_buffer(&first.arena.buffer, 12, &self.kernels.control, RAN, 4);
        }
        self.count_micro_batches(encoder);
        self.record_sample(encoder);
        self.scalars.end(encoder, slot, &self.kernels.control);
    }
}
