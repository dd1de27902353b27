//! Adaptive integrators: the host decides between evaluations, from numbers that it waits for.

use crate::Result;
use crate::gpu::access::readback::read_buffer;
use crate::gpu::kernel::passes::{ADVANCE, MOVE, PassRecord, RESTORE, SHIFT, START, STORE};
use crate::gpu::record::evaluate::{PendingStep, State};
use crate::optim::Scalar;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::evaluation::EvalRequest;
use crate::optim::procedure::integrator::{Control, Verdict, first_step, second_step};
use crate::options::schedule::scalars_at;

impl PendingStep<'_> {
    /// Decides whether the step follows the flow. If so, moves the parameters to the integrator's first position.
    pub(crate) async fn begin_flow(&mut self, scheme: Scheme) -> Result<Option<EvalRequest>> {
        self.submit(|step, encoder| {
            let slot = step.slot()?;
            step.part().decide(&mut step.part().begin_pass(encoder), slot, None);
            Ok(())
        })?;
        let flows = self.flows().await?;
        if scheme == Scheme::Rk4 && flows {
            return self.submit(|step, encoder| step.stage(encoder, 0));
        }
        if scheme == Scheme::Rk4 {
            // The pass keeps the gradient for the update, and moves nothing.
            return self.submit(|step, encoder| step.pass(encoder, 0).and_then(|()| step.settle(encoder)));
        }
        self.run(PassRecord::new(START | STORE, 0))?;
        if !flows {
            return self.submit(Self::settle);
        }
        let Scheme::Dopri5 { tolerance } = scheme else { return Ok(None) };
        let first = PassRecord { tolerance: tolerance as f32, ..PassRecord::default() }.weighing(only(0, 1.0));
        let (position, derivative) = self.norms(first).await?;
        let guess = first_step(position, derivative);
        self.run(PassRecord::new(MOVE, 0).weighing(only(0, guess)))?;
        self.state = State::Guessed { guess, derivative };
        Ok(Some(EvalRequest::Gradient))
    }

    /// Chooses the first step from the change of the derivative at the guess.
    pub(crate) async fn begin_attempts(
        &mut self,
        guess: f64,
        derivative: f64,
        tolerance: f64,
    ) -> Result<Option<EvalRequest>> {
        self.run(PassRecord::new(STORE, 1))?;
        let change = PassRecord { tolerance: tolerance as f32, ..PassRecord::default() };
        let (_, change) = self.norms(change.weighing([-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])).await?;
        let control = Control::new(self.horizon().await?, second_step(guess, derivative, change));
        self.move_on(control)
    }

    /// Stores the derivative of a stage. After the last stage, judges the attempt.
    pub(crate) async fn attempt(
        &mut self,
        mut control: Control,
        stage: usize,
        tolerance: f64,
    ) -> Result<Option<EvalRequest>> {
        if stage < 6 {
            self.run(PassRecord::new(STORE | MOVE, stage).weighing(control.position(stage)))?;
            self.state = State::Attempted { control, stage: stage + 1 };
            return Ok(Some(EvalRequest::Gradient));
        }
        self.run(PassRecord::new(STORE, stage))?;
        let error = PassRecord { tolerance: tolerance as f32, next: 1.0, ..PassRecord::default() };
        let (_, error) = self.norms(error.weighing(control.error())).await?;
        let poison = match control.judge(error) {
            Verdict::Again => return self.move_on(control),
            Verdict::Onward(weights) => {
                self.run(PassRecord::new(ADVANCE | SHIFT, 0).weighing(weights))?;
                return self.move_on(control);
            }
            Verdict::Arrived(weights) => PassRecord::new(ADVANCE | RESTORE, 0).weighing(weights),
            Verdict::Failed => {
                self.part_mut().evaluations.abandoned += 1;
                PassRecord { poison: f32::NAN, ..PassRecord::new(ADVANCE | RESTORE, 0) }
            }
        };
        self.run(poison)?;
        self.submit(Self::settle)
    }

    /// Moves the parameters to the first position of an attempt.
    fn move_on(&mut self, control: Control) -> Result<Option<EvalRequest>> {
        self.run(PassRecord::new(MOVE, 0).weighing(control.position(0)))?;
        self.state = State::Attempted { control, stage: 1 };
        Ok(Some(EvalRequest::Gradient))
    }

    /// Writes the one record of the procedure and runs a pass with it. The write of the next record follows this submission.
    fn run(&mut self, record: PassRecord) -> Result<()> {
        self.write_record(record);
        self.submit(|step, encoder| step.pass(encoder, 0))
    }

    fn write_record(&self, record: PassRecord) {
        if let Some(passes) = &self.part().kernels.passes {
            self.part().context.queue.write_buffer(passes, 0, bytemuck::bytes_of(&record));
        }
    }

    /// Whether the GPU decided to follow the flow.
    async fn flows(&self) -> Result<bool> {
        let at = self.part().placement.classes[0].decision.iter().position(|name| *name == "flow");
        let decision = self.part().read_decision(self.part().spec.tensor_handle(0)).await?;
        Ok(at.and_then(|at| decision.get(at)).is_some_and(|flow| *flow != 0.0))
    }

    /// The root mean squares, over all parameters, of the position and of the record's combination of derivatives, in units of the
    /// tolerance.
    async fn norms(&mut self, record: PassRecord) -> Result<(f64, f64)> {
        self.write_record(record);
        let round = self.part().kernels.main_rounds + 1;
        self.submit(|step, encoder| {
            let slot = step.slot()?;
            step.part().sum(&mut step.part().begin_pass(encoder), round, slot, None);
            Ok(())
        })?;
        let optimizer = self.part();
        let totals = optimizer.kernels.rounds[round].totals.buffer.slice(..32);
        let bytes = read_buffer(&optimizer.context.device, &optimizer.context.queue, totals).await?;
        let totals: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let live = optimizer.spec.tensors.iter().filter(|t| !t.frozen).map(|t| t.elements).sum::<u64>().max(1) as f64;
        Ok(((f64::from(totals[0]) / live).sqrt(), (f64::from(totals[4]) / live).sqrt()))
    }

    /// The length of time for which the step follows the flow.
    async fn horizon(&self) -> Result<f64> {
        let group = &self.part().spec.groups[0];
        let t = if group.scheduled.is_empty() { 1 } else { self.part().read_step_count().await? + 1 };
        let scalars = scalars_at(group.rule.as_ref(), &group.scheduled, &group.name, t)?;
        Ok(scalars.iter().find(|s| s.name == "horizon").map_or(0.0, Scalar::value))
    }
}

/// A weight on one derivative.
fn only(number: usize, weight: f64) -> crate::optim::procedure::integrator::Weights {
    std::array::from_fn(|j| if j == number { weight } else { 0.0 })
}
