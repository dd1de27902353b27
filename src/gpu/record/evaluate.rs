//! Steps with evaluations inside: a step requests the gradients and losses that it needs, and the caller evaluates the objective. All
//! work in between stays on the GPU.

use crate::gpu::access::readback::read_buffer;
use crate::gpu::build::spec::Tensor;
use crate::gpu::kernel::kernels::Kind;
use crate::gpu::optimizer::partial::slices;
use crate::gpu::record::joint::Call;
use crate::gpu::{Optimizer, Part};
use crate::optim::Scalar;
use crate::optim::procedure::evaluation::{EvalRequest, Evaluations};
use crate::optim::procedure::record::PassRecord;
use crate::optim::procedure::script::{Fixed, Move, Reading, Script};
use crate::optim::procedure::{evaluates, probes};
use crate::options::schedule::scalars_at;
use crate::{Error, Result};

/// A step that is not complete: call [`next`](Self::next), evaluate the request, and repeat until there is no request.
///
/// If you drop a `PendingStep` before its end, no step happens. The recorded passes may leave the parameters displaced: do not submit the
/// encoder.
#[derive(Debug)]
pub struct PendingStep<'a> {
    optimizer: &'a mut Optimizer,
    /// The number of the part that evaluates. The other parts step from the first gradient.
    at: usize,
    call: Option<Call>,
    /// Whether the update follows the last evaluation.
    steps: bool,
    /// `None` before the first call, which chooses the script.
    script: Option<Box<dyn Script>>,
    /// The numbers of the script's last reading.
    read: Vec<f64>,
}

/// The reason why no encoder of the caller can hold the step.
const READS_BACK: &str = "decides on the host from numbers that it reads back";

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
    /// As [`step`](Self::step).
    pub fn begin_step(&mut self) -> Result<PendingStep<'_>> {
        self.pending_step(true)
    }

    /// Begins the probes of a rule that probes, without a step. The following steps use the slopes of these probes until the next probes.
    /// Other rules request nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn probe(&mut self) -> Result<PendingStep<'_>> {
        let mut probes_alone = self.pending_step(false)?;
        if probes(&probes_alone.part().spec.rule().procedure()) == 0 {
            probes_alone.script = Some(Box::new(Fixed::new([])));
        }
        Ok(probes_alone)
    }

    fn pending_step(&mut self, steps: bool) -> Result<PendingStep<'_>> {
        self.check_trains()?;
        let evaluates = |part: &Part| evaluates(&part.spec.rule().procedure());
        let at = self.parts.iter().position(evaluates).unwrap_or(0);
        let call = Some(self.begin()?);
        Ok(PendingStep { optimizer: self, at, call, steps, script: None, read: Vec::new() })
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
        self.check_recordable("step_with_submits")?;
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

    /// Checks that an encoder of the caller can hold the step; `call` is the call that makes other steps.
    fn check_recordable(&self, call: &str) -> Result<()> {
        for rule in self.parts.iter().map(|part| part.spec.rule()) {
            if rule.procedure().is_some_and(|procedure| procedure.reads_back()) {
                return Err(Error::Usage(format!("{} {READS_BACK}: call {call}", rule.name())));
            }
        }
        Ok(())
    }
}

impl PendingStep<'_> {
    /// Records the passes up to the next evaluation and returns its request; `None` once the step is complete.
    ///
    /// # Errors
    /// The integrator reads numbers back and needs [`next_submitted`](Self::next_submitted); gradients are rebound, and a tensor has none.
    pub fn next(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<Option<EvalRequest>> {
        self.optimizer.check_recordable("next_submitted")?;
        self.optimizer.check_buffers()?;
        let mut moves = Vec::new();
        loop {
            match self.next_move(false) {
                Some(Move::Ask(request)) => {
                    self.record(encoder, &moves)?;
                    self.optimizer.evaluations.count(request);
                    return Ok(Some(request));
                }
                Some(Move::Read(_) | Move::Write(_)) => {
                    return Err(Error::Usage(format!("the step {READS_BACK}: call next_submitted")));
                }
                Some(next) => moves.push(next),
                None => {
                    self.record(encoder, &moves)?;
                    self.end(encoder);
                    return Ok(None);
                }
            }
        }
    }

    /// As [`next`](Self::next), but the step makes its own encoders and submits them. Work that the caller submits before the next call runs in
    /// between. If that saves gradients, the future waits, without blocking, for the decision of the GPU.
    ///
    /// # Errors
    /// The device was lost; gradients are rebound, and a tensor has none.
    pub async fn next_submitted(&mut self) -> Result<Option<EvalRequest>> {
        let mut moves = Vec::new();
        loop {
            match self.next_move(true) {
                Some(Move::Ask(request)) => {
                    self.submit(&mut moves)?;
                    self.optimizer.evaluations.count(request);
                    return Ok(Some(request));
                }
                Some(Move::Write(record)) => {
                    self.submit(&mut moves)?;
                    self.write_record(record)?;
                }
                Some(Move::Read(reading)) => {
                    self.submit(&mut moves)?;
                    self.read = self.reading(reading).await?;
                }
                Some(Move::Abandon) => self.optimizer.evaluations.abandoned += 1,
                Some(next) => moves.push(next),
                None => {
                    let mut encoder = self.encoder();
                    self.record(&mut encoder, &moves)?;
                    self.end(&mut encoder);
                    self.part().context.submit(encoder)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Names the gradients of the last request [`EvalRequest::Gradient`], where each step names its gradients
    /// ([`Builder::dynamic_gradients`](crate::Builder::dynamic_gradients)): ranges as in [`Optimizer::step_with_grads`]. Call it before the
    /// next [`next`](Self::next). Without it, the passes read the bound gradients. With [`Builder::partial_steps`](crate::Builder::partial_steps) the
    /// step leaves out the tensors that the call does not name.
    ///
    /// ```
    /// use wgpu_optim::optim::Integrator;
    /// use wgpu_optim::{EvalRequest, FlowAdam, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// # let gradients = device.create_buffer(&wgpu_optim::wgpu::BufferDescriptor {
    /// #     label: None, size: 256, usage: wgpu_optim::wgpu::BufferUsages::STORAGE, mapped_at_creation: false });
    /// let mut builder = Optimizer::builder(FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() });
    /// let w = builder.tensor(Group::DEFAULT, "w", &[64]);
    /// let mut optimizer = builder.dynamic_gradients(true).build(&device, &queue)?;
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// let mut step = optimizer.begin_step()?;
    /// while let Some(EvalRequest::Gradient) = step.next(&mut encoder)? {
    ///     // the model's backward pass, into buffers of its choice
    ///     step.set_grads([(w, gradients.slice(..))])?;
    /// }
    /// queue.submit([encoder.finish()]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Optimizer::step_with_grads`].
    pub fn set_grads<'g>(&mut self, grads: impl IntoIterator<Item = (Tensor, wgpu::BufferSlice<'g>)>) -> Result<()> {
        self.call = Some(self.optimizer.begin_with(grads, |part| part.kinds_of_step().collect())?);
        Ok(())
    }

    /// As [`Optimizer::rebind_params`], between two evaluations: the passes that follow use `to`. The step forgets the gradients that
    /// [`set_grads`](Self::set_grads) named, because their bind groups hold `from` too: name them again.
    ///
    /// # Errors
    /// As there.
    pub fn rebind_params(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer) -> Result<()> {
        self.optimizer.rebind_params(from, to)?;
        if let Some(call) = self.call.as_mut().filter(|_| from != to) {
            call.forget_gradients();
        }
        Ok(())
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

    /// The part that evaluates.
    fn part(&self) -> &Part {
        &self.optimizer.parts[self.at]
    }

    fn place(&self, request: EvalRequest) -> Result<Option<wgpu::BufferSlice<'_>>> {
        match request {
            EvalRequest::Gradient => Ok(None),
            EvalRequest::Loss(slot) => self.loss_slot(slot).map(Some),
        }
    }

    /// The next move that this step makes. Probes without a step ask for losses alone, and neither decide nor update.
    fn next_move(&mut self, submits: bool) -> Option<Move> {
        let procedure = self.part().spec.rule().procedure();
        let script = self.script.get_or_insert_with(|| {
            let of_procedure = procedure.and_then(|procedure| procedure.script(submits));
            of_procedure.unwrap_or_else(|| Box::new(Fixed::plain()))
        });
        loop {
            let next = script.next(&self.read)?;
            let of_step =
                matches!(next, Move::Ask(EvalRequest::Gradient) | Move::Decide | Move::Complete(_) | Move::Update);
            if self.steps || !of_step {
                return Some(next);
            }
        }
    }

    fn call(&self) -> Result<&Call> {
        self.call.as_ref().ok_or_else(|| Error::Usage("the step is complete: begin another with begin_step".to_owned()))
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        let label = self.part().context.label.as_str();
        self.part().context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) })
    }

    /// Records moves and submits them.
    fn submit(&mut self, moves: &mut Vec<Move>) -> Result<()> {
        if !moves.is_empty() {
            let mut encoder = self.encoder();
            self.record(&mut encoder, moves)?;
            self.part().context.submit(encoder)?;
            moves.clear();
        }
        Ok(())
    }

    /// Records moves, in one pass.
    fn record(&mut self, encoder: &mut wgpu::CommandEncoder, moves: &[Move]) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        if self.optimizer.spec.dynamic_gradients && !self.call()?.names_gradients() && self.steps {
            let grads = self.optimizer.grads_without_names()?;
            self.set_grads(slices(&grads))?;
        }
        let (part, call) = (self.part(), self.call()?);
        // The passes of a step may lie in several encoders and read several slots.
        self.optimizer.keep(encoder, call);
        let (slot, dynamic) = call.of(self.at);
        let main = part.kernels.main_rounds;
        let mut pass = part.begin_pass(encoder);
        for next in moves {
            match *next {
                Move::Decide => {
                    self.optimizer.decide(&mut pass, call);
                    // Later evaluations overwrite the gradients of the other parts.
                    self.optimizer.update(&mut pass, call, Some(self.at));
                }
                Move::Sum(round) => part.sum(&mut pass, main + round, slot, dynamic),
                Move::Complete(round) => part.round(&mut pass, main + round, slot, dynamic),
                Move::Pass(record) => part.dispatch_record(&mut pass, Kind::Procedure, slot, record, dynamic),
                Move::Update => part.update(&mut pass, slot, dynamic),
                Move::Ask(_) | Move::Write(_) | Move::Read(_) | Move::Abandon => {}
            }
        }
        Ok(())
    }

    fn write_record(&self, record: PassRecord) -> Result<()> {
        let part = self.part();
        let passes = part.kernels.passes.as_ref();
        passes.map_or(Ok(()), |passes| part.context.write(passes, 0, bytemuck::bytes_of(&record)))
    }

    /// The numbers that the script asked for.
    async fn reading(&self, reading: Reading) -> Result<Vec<f64>> {
        let part = self.part();
        match reading {
            Reading::Decision(name) => {
                let at = part.placement.classes[0].decision.iter().position(|member| *member == name);
                let decision = part.read_decision(part.spec.tensor_handle(0)).await?;
                Ok(at.and_then(|at| decision.get(at)).map(|x| f64::from(*x)).into_iter().collect())
            }
            Reading::Means(round) => {
                let round = &part.kernels.rounds[part.kernels.main_rounds + round];
                // Record 0 holds the totals over all tensors, one vec4 each.
                let records = part.spec.tensors.len() as u64 + 1;
                let all = round.totals.buffer.slice(..round.totals.size / records);
                let bytes = read_buffer(&part.context.device, &part.context.queue, all).await?;
                let totals: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&bytes);
                let live = part.spec.tensors.iter().filter(|t| !t.frozen).map(|t| t.elements).sum::<u64>().max(1);
                Ok(totals.iter().map(|total| f64::from(total[0]) / live as f64).collect())
            }
            Reading::Scalar(name) => {
                let group = &part.spec.groups[0];
                let t = if group.scheduled.is_empty() { 1 } else { part.read_step_count().await? + 1 };
                let scalars = scalars_at(group.rule.as_ref(), &group.scheduled, &group.name, t)?;
                Ok(scalars.iter().filter(|s| s.name == name).map(Scalar::value).collect())
            }
        }
    }

    fn end(&mut self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(call) = self.call.take() {
            self.part().probed.record(encoder);
            if self.steps {
                self.optimizer.finish(encoder, call);
            } else {
                self.optimizer.release(encoder, call);
            }
        }
    }
}
