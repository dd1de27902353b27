//! Steps with evaluations inside: a step requests the gradients and losses that it needs, and the caller evaluates the objective. All
//! work between stays on the GPU.

mod adaptive;

use crate::gpu::Optimizer;
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::Kind;
use crate::optim::Procedure;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::evaluation::{EvalRequest, Evaluations};
use crate::optim::procedure::integrator::Control;
use crate::{Error, Result};

/// A step that is not complete: call [`next`](Self::next), evaluate the request, and repeat until there is no request.
///
/// A step that is dropped before its end did not step. Its recorded passes may leave the parameters moved, so do not submit the encoder.
#[derive(Debug)]
pub struct PendingStep<'a> {
    optimizer: &'a mut Optimizer,
    slot: Option<Slot>,
    /// Whether the update follows the last evaluation.
    steps: bool,
    state: State,
}

/// The reason why no encoder of the caller can hold a step of the integrator dopri5.
const READS_BACK: &str = "dopri5 decides on the host from numbers that it reads back";

#[derive(Clone, Copy, Debug)]
enum State {
    /// The gradient at the parameters comes next.
    Begun,
    /// The gradient at the parameters is evaluated.
    Evaluated,
    /// The losses up to this one are evaluated.
    Probed(usize),
    /// The derivatives up to this stage are evaluated.
    Staged(usize),
    /// The integrator evaluated its first guess of a step.
    Guessed {
        guess: f64,
        derivative: f64,
    },
    /// The derivatives of an attempt up to this stage are evaluated.
    Attempted {
        control: Control,
        stage: usize,
    },
    Done,
}

impl Optimizer {
    /// Begins a step of any rule, with all its evaluations; the first is the gradient. The step uses the settings at this call.
    ///
    /// ```
    /// use wgpu_optim::{EvalRequest, Group, Optimizer, SAdam};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// # let loss_of_the_model = device.create_buffer(&wgpu_optim::wgpu::BufferDescriptor {
    /// #     label: None, size: 4, usage: wgpu_optim::wgpu::BufferUsages::COPY_SRC, mapped_at_creation: false });
    /// let mut builder = Optimizer::builder(SAdam::default());
    /// builder.tensor(Group::DEFAULT, "w", &[64]);
    /// let mut optimizer = builder.build(&device, &queue)?;
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// let mut step = optimizer.begin_step()?;
    /// let mut losses = 0;
    /// while let Some(request) = step.next(&mut encoder)? {
    ///     match request {
    ///         EvalRequest::Gradient => {} // the model's backward pass
    ///         EvalRequest::Loss(slot) => {
    ///             // the model's forward pass, and its loss to where the step reads it
    ///             let to = step.loss_slot(slot)?;
    ///             encoder.copy_buffer_to_buffer(&loss_of_the_model, 0, to.buffer(), to.offset(), 4);
    ///             losses += 1;
    ///         }
    ///     }
    /// }
    /// queue.submit([encoder.finish()]);
    /// assert_eq!(losses, 3);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step); the optimizer has dynamic gradients.
    pub fn begin_step(&mut self) -> Result<PendingStep<'_>> {
        self.check_trains()?;
        if self.kernels.runs.is_some() {
            let problem =
                "the optimizer has dynamic gradients: call probe where the rule probes, and then step_with_grads";
            return Err(Error::Usage(problem.to_owned()));
        }
        let slot = self.scalars.begin(&self.context.device, &self.context.queue, &self.spec.groups, None)?;
        Ok(PendingStep { optimizer: self, slot: Some(slot), steps: true, state: State::Begun })
    }

    /// Begins the probes of a rule that probes, without a step. The following steps use the slopes of these probes until the next probes.
    /// Other rules request nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn probe(&mut self) -> Result<PendingStep<'_>> {
        self.check_trains()?;
        let probes = matches!(self.procedure(), Procedure::Probe(_));
        let slot = self.scalars.begin(&self.context.device, &self.context.queue, &self.spec.groups, None)?;
        let state = if probes { State::Evaluated } else { State::Done };
        Ok(PendingStep { optimizer: self, slot: Some(slot), steps: false, state })
    }

    /// Records a step of any rule. `evaluate` records each request: a gradient, which it writes to where the optimizer reads it, or a loss, one
    /// f32, which it writes to the given slice.
    ///
    /// # Errors
    /// As [`begin_step`](Self::begin_step), and the errors of `evaluate`; do not submit the encoder then. An integrator that reads numbers back
    /// needs [`step_with_submits`](Self::step_with_submits).
    pub fn step_with(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        mut evaluate: impl FnMut(EvalRequest, Option<wgpu::BufferSlice<'_>>, &mut wgpu::CommandEncoder) -> Result<()>,
    ) -> Result<()> {
        if let Procedure::Integrate(Scheme::Dopri5 { .. }) = self.procedure() {
            return Err(Error::Usage(format!("{READS_BACK}: call step_with_submits")));
        }
        let mut step = self.begin_step()?;
        while let Some(request) = step.next(encoder)? {
            evaluate(request, step.place(request)?, encoder)?;
        }
        Ok(())
    }

    /// As [`step_with`](Self::step_with), for callers that submit the evaluations themselves, and for every integrator: the step submits its
    /// passes, and the submissions of `evaluate` run between them.
    ///
    /// # Errors
    /// As [`begin_step`](Self::begin_step), and the errors of `evaluate`; the device was lost.
    pub async fn step_with_submits(
        &mut self,
        mut evaluate: impl FnMut(EvalRequest, Option<wgpu::BufferSlice<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut step = self.begin_step()?;
        while let Some(request) = step.next_submitted().await? {
            evaluate(request, step.place(request)?)?;
        }
        Ok(())
    }

    /// The counts of gradients and losses that steps requested so far.
    #[must_use]
    pub const fn evaluations(&self) -> Evaluations {
        self.evaluations
    }

    fn procedure(&self) -> Procedure {
        self.spec.groups[0].rule.procedure()
    }
}

impl PendingStep<'_> {
    /// Records the passes up to the next evaluation and returns its request; `None` once the step is complete.
    ///
    /// # Errors
    /// The integrator reads numbers back and needs [`next_submitted`](Self::next_submitted).
    pub fn next(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        let request = match (self.state, self.optimizer.procedure()) {
            (State::Begun, _) => {
                self.state = State::Evaluated;
                Some(EvalRequest::Gradient)
            }
            (State::Evaluated, Procedure::Probe(_)) => {
                self.state = State::Probed(0);
                Some(EvalRequest::Loss(0))
            }
            (State::Probed(j), Procedure::Probe(probe)) => self.probe(encoder, j, probe.count)?,
            (State::Evaluated, Procedure::Plain | Procedure::Warp(_)) => self.finish(encoder)?,
            (State::Evaluated, Procedure::Integrate(Scheme::Rk4)) => {
                let slot = self.slot()?;
                self.optimizer.decide(&mut self.optimizer.begin_pass(encoder), slot, None);
                self.stage(encoder, 0)?
            }
            (State::Staged(stage), Procedure::Integrate(Scheme::Rk4)) => self.stage(encoder, stage)?,
            (State::Done, _) => None,
            _ => {
                return Err(Error::Usage(format!("{READS_BACK}: call next_submitted")));
            }
        };
        if let Some(request) = request {
            self.optimizer.evaluations.count(request);
        }
        Ok(request)
    }

    /// As [`next`](Self::next), but the step makes its own encoders and submits them. Work that the caller submits before the next call runs in
    /// between. Where that saves gradients, the future waits, without blocking, for the decision of the GPU.
    ///
    /// # Errors
    /// The device was lost.
    pub async fn next_submitted(&mut self) -> Result<Option<EvalRequest>> {
        let request = match (self.state, self.optimizer.procedure()) {
            (State::Evaluated, Procedure::Integrate(scheme)) => self.begin_flow(scheme).await?,
            (State::Guessed { guess, derivative }, Procedure::Integrate(Scheme::Dopri5 { tolerance })) => {
                self.begin_attempts(guess, derivative, tolerance).await?
            }
            (State::Attempted { control, stage }, Procedure::Integrate(Scheme::Dopri5 { tolerance })) => {
                self.attempt(control, stage, tolerance).await?
            }
            _ => return self.submit(Self::next),
        };
        if let Some(request) = request {
            self.optimizer.evaluations.count(request);
        }
        Ok(request)
    }

    /// As [`Optimizer::rebind_params`], between two evaluations: the passes that follow use `to`.
    ///
    /// # Errors
    /// As there.
    pub fn rebind_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<()> {
        self.optimizer.rebind_params(from, to)
    }

    /// The optimizer of this step, for reading.
    #[must_use]
    pub const fn optimizer(&self) -> &Optimizer {
        self.optimizer
    }

    /// The range to which the loss of a slot is written: [`Optimizer::loss_slot`].
    ///
    /// # Errors
    /// The rule has no such slot.
    pub fn loss_slot(&self, slot: usize) -> Result<wgpu::BufferSlice<'_>> {
        self.optimizer.loss_slot(slot)
    }

    fn place(&self, request: EvalRequest) -> Result<Option<wgpu::BufferSlice<'_>>> {
        match request {
            EvalRequest::Gradient => Ok(None),
            EvalRequest::Loss(slot) => self.loss_slot(slot).map(Some),
        }
    }

    fn slot(&self) -> Result<&Slot> {
        self.slot.as_ref().ok_or_else(|| Error::Usage("the step is complete: begin another with begin_step".to_owned()))
    }

    /// Records with `record` into a new encoder, and submits the encoder.
    fn submit<T>(&mut self, record: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> Result<T>) -> Result<T> {
        let label = self.optimizer.context.label.clone();
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(&label) };
        let mut encoder = self.optimizer.context.device.create_command_encoder(&descriptor);
        let done = record(self, &mut encoder)?;
        self.optimizer.context.queue.submit([encoder.finish()]);
        Ok(done)
    }

    /// Records pass number `record` of the procedure.
    fn pass(&self, encoder: &mut wgpu::CommandEncoder, record: usize) -> Result<()> {
        let mut pass = self.optimizer.begin_pass(encoder);
        self.optimizer.dispatch_record(&mut pass, Kind::Procedure, self.slot()?, record);
        Ok(())
    }

    /// Moves the parameters along the direction that follows the `j`-th; after the last direction, moves them back.
    fn probe(&mut self, encoder: &mut wgpu::CommandEncoder, j: usize, count: usize) -> Result<Option<EvalRequest>> {
        if j == 0 {
            let round = self.optimizer.kernels.main_rounds;
            self.optimizer.sum(&mut self.optimizer.begin_pass(encoder), round, self.slot()?);
        }
        self.pass(encoder, j)?;
        if j < count {
            self.state = State::Probed(j + 1);
            return Ok(Some(EvalRequest::Loss(j + 1)));
        }
        self.finish(encoder)
    }

    /// Records a stage of the classical Runge-Kutta method; after the last stage, the update.
    fn stage(&mut self, encoder: &mut wgpu::CommandEncoder, stage: usize) -> Result<Option<EvalRequest>> {
        self.pass(encoder, stage)?;
        if stage + 1 < Scheme::Rk4.stages() {
            self.state = State::Staged(stage + 1);
            return Ok(Some(EvalRequest::Gradient));
        }
        self.settle(encoder)
    }

    /// Records the end of a step of any rule: sums, decision and update.
    fn finish(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        if self.steps {
            self.optimizer.record(encoder, self.slot()?, None);
        }
        self.end(encoder)
    }

    /// Records the end of an integrator's step: the decision, completed with the displacement, and the update.
    fn settle(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        {
            let slot = self.slot()?;
            let mut pass = self.optimizer.begin_pass(encoder);
            self.optimizer.round(&mut pass, self.optimizer.kernels.main_rounds, slot, None);
            self.optimizer.update(&mut pass, slot, None);
        }
        self.end(encoder)
    }

    fn end(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        if let Some(slot) = self.slot.take() {
            self.optimizer.probed = true;
            if self.steps {
                self.optimizer.finish(encoder, slot);
            } else {
                self.optimizer.scalars.release(encoder, slot);
            }
        }
        self.state = State::Done;
        Ok(None)
    }
}
