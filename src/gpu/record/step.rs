//! Recording a step.

use crate::gpu::Part;
use crate::gpu::build::blame::{destroyed, is_destroyed};
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::Kind;
use crate::gpu::kernel::kernels::Offsets;
use crate::gpu::layout::units::{ACCUMULATED, RAN, ROUNDED};
use crate::gpu::record::dynamic::DynamicGradients;
use crate::{Error, Result};

impl Part {
    /// Records the decisions from the totals of a round, if the step of the rule has this round.
    pub(crate) fn conclude(&self, pass: &mut wgpu::ComputePass<'_>, round: usize, slot: &Slot) {
        let round = self.kernels.rounds[..self.kernels.main_rounds].get(round);
        if let Some((round, conclude)) = round.and_then(|round| Some((round, round.conclude.as_ref()?))) {
            round.finish(pass, conclude, slot);
        }
    }

    /// Records the addition of a micro-batch, in a pass.
    pub(crate) fn accumulate(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        self.dispatch(pass, Kind::Accumulate, slot, dynamic);
        if let Some(round) = self.kernels.rounds.first()
            && let Some(wait) = &round.wait
        {
            round.finish(pass, wait, slot);
        }
    }

    /// Records the copy of the count of micro-batches to the control buffer.
    pub(crate) fn count_micro_batches(&self, encoder: &mut wgpu::CommandEncoder) {
        if let (Some(first), Some(_)) = (self.kernels.dispatches.first(), self.spec.around.accumulate) {
            encoder.copy_buffer_to_buffer(&first.arena.buffer, 8, &self.kernels.control, ACCUMULATED, 4);
        }
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
        self.begin_timed_pass(encoder, None)
    }

    /// Begins a pass that writes these timestamps.
    pub(crate) fn begin_timed_pass<'e>(
        &self,
        encoder: &'e mut wgpu::CommandEncoder,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> wgpu::ComputePass<'e> {
        let label = Some(self.context.label.as_str());
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes })
    }

    /// Records the sums of a round and the decision from them.
    pub(crate) fn round(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        number: usize,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
        self.contribute(pass, number, slot, dynamic);
        self.finalize(pass, number, slot);
    }

    /// Records the decision from the sums of a round.
    pub(crate) fn finalize(&self, pass: &mut wgpu::ComputePass<'_>, round: usize, slot: &Slot) {
        self.kernels.rounds[round].finish(pass, &self.kernels.rounds[round].finalize, slot);
    }

    pub(crate) fn update(&self, pass: &mut wgpu::ComputePass<'_>, slot: &Slot, dynamic: Option<&DynamicGradients>) {
        if self.passes_before_update() {
            self.dispatch(pass, Kind::Procedure, slot, dynamic);
            self.kernels.matrices.iter().for_each(|matrices| matrices.record(pass));
        }
        self.dispatch(pass, Kind::Update, slot, dynamic);
        self.kernels.factors.iter().for_each(|factors| factors.keep(pass, slot));
    }

    /// Records the sums of a round without the decision.
    pub(crate) fn sum(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        round: usize,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
        self.contribute(pass, round, slot, dynamic);
        self.kernels.rounds[round].finish(pass, &self.kernels.rounds[round].reduce, slot);
    }

    /// Records the sums of spans of a round. The factors of matrices move before the sums of the rule, which need them.
    pub(crate) fn contribute(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        round: usize,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
        if let Some(factors) = self.kernels.factors.as_ref().filter(|_| round + 1 == self.kernels.main_rounds) {
            self.dispatch(pass, Kind::Tiles, slot, dynamic);
            factors.fold(pass, slot);
        }
        self.dispatch(pass, Kind::Stats(round), slot, dynamic);
    }

    /// Whether every step runs the pass of the rule's procedure before the update.
    pub(crate) fn passes_before_update(&self) -> bool {
        self.placement.classes[0].pass().is_some_and(|pass| pass.before_update)
    }

    /// The dispatches of a step that may read gradients.
    pub(crate) fn kinds_of_step(&self) -> impl Iterator<Item = Kind> + use<> {
        let tiles = self.kernels.factors.as_ref().map(|_| Kind::Tiles);
        let stats = (0..self.kernels.rounds.len()).map(Kind::Stats);
        tiles.into_iter().chain(stats).chain([Kind::Procedure, Kind::Update])
    }

    /// Records the dispatches of one kind.
    pub(crate) fn dispatch(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        kind: Kind,
        slot: &Slot,
        dynamic: Option<&DynamicGradients>,
    ) {
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
