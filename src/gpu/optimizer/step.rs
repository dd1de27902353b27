//! Steps, micro-batches, and moves of the parameters, recorded into the caller's encoder.

use crate::gpu::build::spec::Tensor;
use crate::gpu::kernel::kernels::Kind;
use crate::gpu::optimizer::Optimizer;
use crate::gpu::optimizer::partial::slices;
use crate::gpu::part::Part;
use crate::options::around::Mode;
use crate::{Error, Result};

impl Optimizer {
    /// Records one step over every tensor of every group. The step reads gradients and changes parameters when the encoder is submitted, in
    /// the order of the encoder: two steps in one encoder are two steps. If all tensors are frozen or empty, no step is counted.
    ///
    /// # Errors
    /// Too many recorded steps are not yet finished; a tensor has no bound gradient and needs [`step_with_grads`](Self::step_with_grads); the
    /// rule evaluates gradients inside the step; the rule probes and was not probed yet
    /// ([`Builder::undamped_steps`](crate::Builder::undamped_steps)); a bound buffer was destroyed; the device was lost.
    pub fn step(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.check_whole()?;
        if self.spec.dynamic_gradients {
            let grads = self.grads_without_names()?;
            return self.step_with_grads(encoder, slices(&grads));
        }
        let call = self.begin()?;
        self.record(encoder, &call);
        self.finish(encoder, call);
        Ok(())
    }

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
        let call = self.begin_with(grads, |part| part.kinds_of_step().collect())?;
        self.record(encoder, &call);
        self.finish(encoder, call);
        Ok(())
    }

    /// Records the first half of a step: the sums, reduced into [`totals`](Self::totals). Rules without sums record nothing. The second half,
    /// [`record_update`](Self::record_update), uses the settings at this call. Submit the sums before the update. The half step ends without
    /// a step where its encoder is dropped, and at the next recorded call, restore, change of the step count, or change of a setting that is
    /// computed ahead. Where [`sum_rounds`](Self::sum_rounds) is 2, [`record_next_sums`](Self::record_next_sums) comes between the two.
    ///
    /// # Errors
    /// As [`step`](Self::step); the optimizer has dynamic gradients.
    pub fn record_sums(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        if self.spec.dynamic_gradients {
            return Err(Error::Usage("a step with dynamic gradients has no halves: call step_with_grads".to_owned()));
        }
        self.check_whole()?;
        let call = self.begin()?;
        self.record_first_half(encoder, &call);
        self.keep_half(encoder, call, 0);
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
        let round = self.half_round() + 1;
        if round >= self.sum_rounds() {
            return Err(Error::Usage(
                "record_next_sums is for a step with a round of sums that is not recorded yet".to_owned(),
            ));
        }
        let call = self.take_half()?;
        self.record_next_round(encoder, &call, round);
        self.keep_half(encoder, call, round);
        Ok(())
    }

    /// Records the second half: the decision from the totals, and the update.
    ///
    /// # Errors
    /// No [`record_sums`](Self::record_sums) came before, or the half step ended, or a second round of sums is not recorded; the average of the
    /// weights is swapped in, or the parameters are at the point of evaluation.
    pub fn record_update(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.check_trains()?;
        self.check_buffers()?;
        let last = self.sum_rounds().saturating_sub(1);
        if last > self.half_round() {
            return Err(Error::Usage(
                "record_update needs a record_next_sums before it: the step has two rounds of sums".to_owned(),
            ));
        }
        let call = self.take_half()?;
        self.record_second_half(encoder, &call, last);
        self.finish(encoder, call);
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
        if self.spec.dynamic_gradients {
            let grads = self.grads_without_names()?;
            return self.accumulate_with_grads(encoder, slices(&grads));
        }
        self.check_accumulates()?;
        let call = self.begin()?;
        self.record_micro_batch(encoder, call);
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
        let call = self.begin_with(grads, |_| vec![Kind::Accumulate])?;
        self.record_micro_batch(encoder, call);
        Ok(())
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
        self.parts.iter().try_for_each(|part| part.check_mode("swap_ema", &[Mode::Training, Mode::Average]))?;
        self.record_aside(encoder, Kind::Swap, |_| true)?;
        // Before the first step the kernel exchanges nothing.
        for part in self.parts.iter().filter(|part| part.scalars.most_steps() > 0) {
            part.change_mode(encoder, Mode::Average);
        }
        Ok(())
    }

    /// Records that the parameters move to the point at which the model is evaluated: with the schedule-free rules from y to the average x.
    /// Call [`to_train_params`](Self::to_train_params) before the next step. The two moves together may change a parameter by an ulp.
    ///
    /// ```
    /// use wgpu_optim::{Group, Optimizer, SgdScheduleFree};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(SgdScheduleFree { lr: 0.1, ..SgdScheduleFree::default() });
    /// builder.tensor(Group::DEFAULT, "w", &[8]);
    /// let mut optimizer = builder.build(&device, &queue)?;
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// optimizer.step(&mut encoder)?;
    /// optimizer.to_eval_params(&mut encoder)?;
    /// // … passes that evaluate the model …
    /// optimizer.to_train_params(&mut encoder)?;
    /// queue.submit([encoder.finish()]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The rule trains and evaluates the model at the same point; the parameters are not at the point of training. A step before
    /// [`to_train_params`](Self::to_train_params) is an error.
    pub fn to_eval_params(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.move_params(encoder, Kind::ToEvaluation)
    }

    /// Records that the parameters move back to the point at which the model is trained.
    ///
    /// # Errors
    /// As [`to_eval_params`](Self::to_eval_params).
    pub fn to_train_params(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.move_params(encoder, Kind::ToTraining)
    }

    fn move_params(&mut self, encoder: &mut wgpu::CommandEncoder, way: Kind) -> Result<()> {
        let moves = |part: &Part| part.spec.rule().evaluation().is_some();
        if !self.parts.iter().any(moves) {
            let rules: Vec<&str> = self.parts.iter().map(|part| part.spec.rule().name()).collect();
            let verb = if rules.len() == 1 { "is evaluated where it is" } else { "are evaluated where they are" };
            return Err(Error::Usage(format!("{} {verb} trained", rules.join(" and "))));
        }
        let (call, from) = match way {
            Kind::ToEvaluation => ("to_eval_params", Mode::Training),
            _ => ("to_train_params", Mode::Evaluation),
        };
        self.parts.iter().filter(|part| moves(part)).try_for_each(|part| part.check_mode(call, &[from]))?;
        self.record_aside(encoder, way, moves)?;
        self.parts.iter().filter(|part| moves(part)).for_each(|part| part.change_mode(encoder, Mode::Evaluation));
        Ok(())
    }

    /// Checks that the rules evaluate no gradient inside the step, and that their probes came before.
    pub(crate) fn check_whole(&self) -> Result<()> {
        self.check_trains()?;
        self.parts.iter().try_for_each(Part::check_whole)
    }

    /// Checks that the parameters are those at which the rules train.
    pub(crate) fn check_trains(&self) -> Result<()> {
        self.parts.iter().try_for_each(Part::check_trains)
    }

    /// Checks that the device works, and that the caller destroyed none of the bound buffers.
    pub(crate) fn check_buffers(&self) -> Result<()> {
        self.parts.iter().try_for_each(Part::check_buffers)
    }

    pub(crate) fn check_accumulates(&self) -> Result<()> {
        self.check_trains()?;
        let accumulates = self.spec.around.accumulate.map(|_| ());
        accumulates.ok_or_else(|| Error::Usage("the optimizer was built without accumulate".to_owned()))
    }
}
