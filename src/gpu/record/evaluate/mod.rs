//! Steps that evaluate the objective while they are under way: they yield what they need, and everything between stays on the GPU. The
//! objective itself is the caller's.

mod adaptive;

use crate::gpu::Optimizer;
use crate::gpu::hyper::scalars::Slot;
use crate::gpu::kernel::kernels::Kind;
use crate::optim::Procedure;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::evaluation::{EvalRequest, Evaluations};
use crate::optim::procedure::integrator::Control;
use crate::{Error, Result};

/// A step under way: ask it what it needs, evaluate that, and ask again until it needs nothing more.
///
/// One that is dropped before its end has not stepped, and may have recorded passes that leave the parameters moved: then the encoder is
/// not to be submitted.
#[derive(Debug)]
pub struct PendingStep<'a> {
    optimizer: &'a mut Optimizer,
    slot: Option<Slot>,
    /// Whether the update comes at the end.
    steps: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The gradient at the parameters is next.
    Begun,
    /// It is there.
    Evaluated,
    /// The losses up to this one are there.
    Probed(usize),
    /// The derivatives up to this stage are there.
    Staged(usize),
    /// A first guess at an integrator's step was tried.
    Guessed {
        guess: f64,
        derivative: f64,
    },
    /// The derivatives of an attempt up to this stage are there.
    Attempted {
        control: Control,
        stage: usize,
    },
    Done,
}

impl Optimizer {
    /// Begins a step of any rule with everything that it evaluates, beginning with the gradient. The step uses the settings of now.
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
    /// while let Some(need) = step.next(&mut encoder)? {
    ///     match need {
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
    /// As [`step`](Self::step); gradients move.
    pub fn begin_step(&mut self) -> Result<PendingStep<'_>> {
        if self.kernels.runs.is_some() {
            let problem = "gradients move: call probe where the rule probes, and then step_with_grads";
            return Err(Error::Usage(problem.to_owned()));
        }
        let slot = self.scalars.begin(&self.context.device, &self.context.queue, &self.spec.groups, None)?;
        Ok(PendingStep { optimizer: self, slot: Some(slot), steps: true, state: State::Begun })
    }

    /// Begins the probes of a rule that probes, without a step: the steps that follow, of whatever form, are damped by their slopes
    /// until there are others. Nothing to evaluate for other rules.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn probe(&mut self) -> Result<PendingStep<'_>> {
        let probes = matches!(self.procedure(), Procedure::Probe(_));
        let slot = self.scalars.begin(&self.context.device, &self.context.queue, &self.spec.groups, None)?;
        let state = if probes { State::Evaluated } else { State::Done };
        Ok(PendingStep { optimizer: self, slot: Some(slot), steps: false, state })
    }

    /// Records a step of any rule; `evaluate` records what it needs: a gradient to where the optimizer reads it, or a loss, one f32, to
    /// the slice that is given.
    ///
    /// # Errors
    /// As [`begin_step`](Self::begin_step), and what `evaluate` returns; the encoder is then not to be submitted. An integrator that reads
    /// numbers back, which needs [`step_with_submits`](Self::step_with_submits).
    pub fn step_with(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        mut evaluate: impl FnMut(EvalRequest, Option<wgpu::BufferSlice<'_>>, &mut wgpu::CommandEncoder) -> Result<()>,
    ) -> Result<()> {
        let mut step = self.begin_step()?;
        while let Some(need) = step.next(encoder)? {
            evaluate(need, step.place(need)?, encoder)?;
        }
        Ok(())
    }

    /// As [`step_with`](Self::step_with) for callers who submit work of their own, and for every integrator: the step submits its passes
    /// itself, and what `evaluate` submits runs between them.
    ///
    /// # Errors
    /// As [`begin_step`](Self::begin_step), and what `evaluate` returns; the device was lost.
    pub async fn step_with_submits(
        &mut self,
        mut evaluate: impl FnMut(EvalRequest, Option<wgpu::BufferSlice<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut step = self.begin_step()?;
        while let Some(need) = step.next_submitted().await? {
            evaluate(need, step.place(need)?)?;
        }
        Ok(())
    }

    /// How often steps have asked for gradients and losses so far.
    #[must_use]
    pub const fn evaluations(&self) -> Evaluations {
        self.evaluations
    }

    fn procedure(&self) -> Procedure {
        self.spec.groups[0].rule.procedure()
    }
}

impl PendingStep<'_> {
    /// Records what can be recorded, and says what is to be evaluated next; `None` once the step is whole.
    ///
    /// # Errors
    /// An integrator that reads numbers back: [`next_submitted`](Self::next_submitted).
    pub fn next(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        let need = match (self.state, self.optimizer.procedure()) {
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
                let problem = "dopri5 decides on the host from numbers that it reads back: call next_submitted";
                return Err(Error::Usage(problem.to_owned()));
            }
        };
        if let Some(need) = need {
            self.optimizer.evaluations.count(need);
        }
        Ok(need)
    }

    /// As [`next`](Self::next), in encoders of its own that it submits: what the caller submits before the next call runs in between.
    /// Where that saves gradients, it waits, without blocking, for what the GPU decided.
    ///
    /// # Errors
    /// The device was lost.
    pub async fn next_submitted(&mut self) -> Result<Option<EvalRequest>> {
        let need = match (self.state, self.optimizer.procedure()) {
            (State::Evaluated, Procedure::Integrate(scheme)) => self.begin_flow(scheme).await?,
            (State::Guessed { guess, derivative }, Procedure::Integrate(Scheme::Dopri5 { tolerance })) => {
                self.begin_attempts(guess, derivative, tolerance).await?
            }
            (State::Attempted { control, stage }, Procedure::Integrate(Scheme::Dopri5 { tolerance })) => {
                self.attempt(control, stage, tolerance).await?
            }
            _ => return self.submit(Self::next),
        };
        if let Some(need) = need {
            self.optimizer.evaluations.count(need);
        }
        Ok(need)
    }

    /// The optimizer whose step it is, to be read.
    #[must_use]
    pub const fn optimizer(&self) -> &Optimizer {
        self.optimizer
    }

    /// Where the loss of a slot goes: [`Optimizer::loss_slot`].
    ///
    /// # Errors
    /// There is no such slot.
    pub fn loss_slot(&self, slot: usize) -> Result<wgpu::BufferSlice<'_>> {
        self.optimizer.loss_slot(slot)
    }

    fn place(&self, need: EvalRequest) -> Result<Option<wgpu::BufferSlice<'_>>> {
        match need {
            EvalRequest::Gradient => Ok(None),
            EvalRequest::Loss(slot) => self.loss_slot(slot).map(Some),
        }
    }

    fn slot(&self) -> Result<&Slot> {
        self.slot.as_ref().ok_or_else(|| Error::Usage("the step is whole".to_owned()))
    }

    /// Records with `record` into an encoder of its own, and submits that.
    fn submit<T>(&mut self, record: impl FnOnce(&mut Self, &mut wgpu::CommandEncoder) -> Result<T>) -> Result<T> {
        let label = self.optimizer.context.label.clone();
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some(&label) };
        let mut encoder = self.optimizer.context.device.create_command_encoder(&descriptor);
        let done = record(self, &mut encoder)?;
        self.optimizer.context.queue.submit([encoder.finish()]);
        Ok(done)
    }

    /// Runs the procedure's pass number `record`.
    fn pass(&self, encoder: &mut wgpu::CommandEncoder, record: usize) -> Result<()> {
        let mut pass = self.optimizer.begin_pass(encoder);
        self.optimizer.dispatch_record(&mut pass, Kind::Procedure, self.slot()?, record);
        Ok(())
    }

    /// Moves the parameters along the direction after the `j`-th, or back after the last.
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

    /// The classical method's stages; after the last, the update.
    fn stage(&mut self, encoder: &mut wgpu::CommandEncoder, stage: usize) -> Result<Option<EvalRequest>> {
        self.pass(encoder, stage)?;
        if stage + 1 < Scheme::Rk4.stages() {
            self.state = State::Staged(stage + 1);
            return Ok(Some(EvalRequest::Gradient));
        }
        self.settle(encoder)
    }

    /// What every rule's step ends with: sums, decision and update.
    fn finish(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        if self.steps {
            self.optimizer.record(encoder, self.slot()?, None);
        }
        self.end(encoder)
    }

    /// What an integrator's step ends with: the decision completed by how far it went, and the update.
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
