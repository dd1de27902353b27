//! Steps of rules that evaluate the model: S-Adam's probes and FlowAdam's integrators.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use wgpu_optim::{EvalRequest, PendingStep, Rule};

use crate::error::{Error, Result};
use crate::optimizer::{WgpuOptimizer, evaluates};
use crate::params::{Gradients, Params};
use crate::rates::LearningRates;
use crate::tensor::primitive::primitive;

/// What a model was evaluated to: the loss, and the gradients where the closure has them. Without gradients, the step runs the backward pass
/// itself, and only where it needs one.
#[derive(Debug)]
pub struct Evaluation {
    loss: Tensor<1>,
    grads: Option<GradientsParams>,
}

impl From<Tensor<1>> for Evaluation {
    fn from(loss: Tensor<1>) -> Self {
        Self { loss, grads: None }
    }
}

impl From<(Tensor<1>, GradientsParams)> for Evaluation {
    fn from((loss, grads): (Tensor<1>, GradientsParams)) -> Self {
        Self { loss, grads: Some(grads) }
    }
}

impl Evaluation {
    /// The loss without autodiff, and the gradients.
    fn split<M: Module>(self, module: &M) -> (Tensor<1>, GradientsParams) {
        let loss = self.loss.clone().without_autodiff();
        let grads = self.grads.unwrap_or_else(|| GradientsParams::from_grads(self.loss.backward(), module));
        (loss, grads)
    }
}

impl WgpuOptimizer {
    /// A step of any rule. `evaluate` computes the loss of the module that it gets, on the same batch at each call, or the loss and the gradients;
    /// [`Evaluation`] says more. S-Adam calls it once for each probe and once for the gradients; FlowAdam once for each stage of its integrator;
    /// other rules once.
    ///
    /// FlowAdam with dopri5 waits for numbers that it reads back. All other rules wait for nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step); a loss that is not one number; with FlowAdam's integrators, a parameter without a gradient.
    #[cfg(not(target_family = "wasm"))]
    pub fn step_with<M: Module, E: Into<Evaluation>>(
        &mut self,
        lr: impl Into<LearningRates>,
        module: M,
        evaluate: impl FnMut(&M) -> E,
    ) -> Result<M> {
        pollster::block_on(self.step_with_async(lr, module, evaluate))
    }

    /// As `step_with`, for programs that may not block, such as a page in a browser.
    ///
    /// # Errors
    /// As `step_with`.
    pub async fn step_with_async<M: Module, E: Into<Evaluation>>(
        &mut self,
        lr: impl Into<LearningRates>,
        module: M,
        mut evaluate: impl FnMut(&M) -> E,
    ) -> Result<M> {
        if !self.options.rules().any(evaluates) {
            let (_, grads) = evaluate(&module).into().split(&module);
            return self.step(lr, module, grads);
        }
        let reads_back = |rule: &dyn Rule| rule.procedure().is_some_and(|procedure| procedure.reads_back());
        let waits = self.options.rules().any(reads_back);
        let mut module = self.with_engine(module, |_, _| Ok(()))?.0;
        self.set_rates(&lr.into())?;
        let mut step = self.engine.begin_step()?;
        // The loss of the evaluation that gave the gradients is also the loss at the parameters, which probes begin with.
        let mut at_params = None;
        let mut grads = Gradients::default();
        loop {
            let request = if waits { step.next_submitted().await? } else { next(&mut step, &self.params)? };
            let Some(request) = request else { return Ok(module) };
            let evaluated = match (request, at_params.take()) {
                (EvalRequest::Loss(0), Some(loss)) => (loss, None),
                (EvalRequest::Loss(_), _) => (evaluate(&module).into().loss.without_autodiff(), None),
                (EvalRequest::Gradient, _) => {
                    let (loss, fresh) = evaluate(&module).into().split(&module);
                    at_params = Some(loss.clone());
                    (loss, Some(fresh))
                }
            };
            module = self.params.take_in(&mut step, request, evaluated, module, &mut grads)?;
        }
    }
}

/// Submits the passes up to the next request.
fn next(step: &mut PendingStep<'_>, params: &Params) -> Result<Option<EvalRequest>> {
    let mut encoder = params.encoder();
    let request = step.next(&mut encoder)?;
    params.queue.submit([encoder.finish()]);
    Ok(request)
}

impl Params {
    /// Gives the result of an evaluation to the step, and takes care that the next passes write no memory that somebody else sees: the closure may
    /// have kept a clone. `held` are the gradients of the last evaluation that had some: later passes of the step read them.
    fn take_in<M: Module>(
        &mut self,
        step: &mut PendingStep<'_>,
        request: EvalRequest,
        (loss, grads): (Tensor<1>, Option<GradientsParams>),
        module: M,
        held: &mut Gradients,
    ) -> Result<M> {
        let mut encoder = self.encoder();
        // The buffers of the loss and of the gradients must stay until they are submitted.
        let loss = match request {
            EvalRequest::Loss(slot) => {
                let place = self.resolve(loss_of(loss)?)?;
                let to = step.loss_slot(slot)?;
                encoder.copy_buffer_to_buffer(&place.buffer, place.offset, to.buffer(), to.offset(), 4);
                Some(place)
            }
            EvalRequest::Gradient => None,
        };
        let open = self.open(module, grads.unwrap_or_default())?;
        let [from, to] = self.rebound(&open);
        step.rebind_params(&from, &to)?;
        self.settle(&mut encoder, &open);
        self.queue.submit([encoder.finish()]);
        drop(loss);
        let (module, grads) = open.close();
        if request == EvalRequest::Gradient {
            *held = grads;
        }
        // A step whose parameters moved has forgotten its gradients.
        if request == EvalRequest::Gradient || from != to {
            step.set_grads(self.slices(held))?;
        }
        Ok(module)
    }
}

/// The primitive of a loss, one f32.
fn loss_of(loss: Tensor<1>) -> Result<crate::tensor::primitive::Primitive> {
    if loss.shape().num_elements() != 1 {
        let shape = loss.shape();
        return Err(Error::Usage(format!(
            "the loss has shape {:?}, needs one number: call mean or sum",
            shape.as_slice()
        )));
    }
    let loss = if loss.dtype() == DType::F32 { loss } else { loss.cast(DType::F32) };
    primitive(loss)
        .map_err(|error| Error::Usage(format!("the loss is not a float tensor of Burn's wgpu backend: {error}")))
}
