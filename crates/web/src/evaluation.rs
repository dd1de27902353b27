//! Steps that ask their caller for gradients and losses.

use std::rc::Rc;

use js_sys::{Function, Object, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wgpu_optim::{EvalRequest, Optimizer, wgpu};

use crate::device::Recorded;
use crate::engine::{Engine, gone, object, range};
use crate::fault::{OrFault as _, Result, boxed};

#[wasm_bindgen]
impl Engine {
    /// Records a step. `evaluate` gets each request and records it into the same encoder. Where `evaluate` throws, its error is thrown.
    #[wasm_bindgen(js_name = stepWith)]
    pub fn step_with(&self, evaluate: &Function) -> Result<Recorded> {
        self.evaluated(evaluate, Optimizer::begin_step)
    }

    /// As [`step_with`](Self::step_with), for the probes alone.
    pub fn probe(&self, evaluate: &Function) -> Result<Recorded> {
        self.evaluated(evaluate, Optimizer::probe)
    }

    /// Takes a step that submits its own passes. `evaluate` submits each request, and may return a promise.
    #[wasm_bindgen(js_name = stepWithSubmits)]
    pub fn step_with_submits(&self, evaluate: Function) -> Result<Promise> {
        let place = self.optimizer.clone();
        let mut optimizer = place.borrow_mut().take().ok_or_else(gone)?;
        Ok(boxed(Box::pin(async move {
            let done = submitted(&mut optimizer, &evaluate).await;
            place.borrow_mut().replace(optimizer);
            done.map(|()| JsValue::UNDEFINED)
        })))
    }
}

impl Engine {
    fn evaluated(
        &self,
        evaluate: &Function,
        begin: impl FnOnce(&mut Optimizer) -> wgpu_optim::Result<wgpu_optim::PendingStep<'_>>,
    ) -> Result<Recorded> {
        let optimizer = Rc::clone(&self.optimizer);
        // Taken, so that a call of `evaluate` into this optimizer is an error and not a panic.
        let mut taken = optimizer.borrow_mut().take().ok_or_else(gone)?;
        let mut thrown = None;
        let recorded = self.gpu.record(|encoder| {
            let mut step = begin(&mut taken)?;
            while let Some(asked) = step.next(encoder)? {
                let request = request(asked, |slot| step.loss_slot(slot))?;
                if let Err(error) = evaluate.call1(&JsValue::NULL, &request) {
                    thrown = Some(error);
                    break;
                }
            }
            Ok(())
        });
        optimizer.borrow_mut().replace(taken);
        match thrown {
            Some(error) => Err(error),
            None => recorded.or_fault(),
        }
    }
}

async fn submitted(optimizer: &mut Optimizer, evaluate: &Function) -> Result<()> {
    let mut step = optimizer.begin_step().or_fault()?;
    while let Some(asked) = step.next_submitted().await.or_fault()? {
        let request = request(asked, |slot| step.loss_slot(slot)).or_fault()?;
        let answer = evaluate.call1(&JsValue::NULL, &request)?;
        JsFuture::from(Promise::resolve(&answer)).await?;
    }
    Ok(())
}

/// `{ kind: "gradient" }`, or `{ kind: "loss", slot, to }` with the range that the loss goes to.
fn request<'a>(
    asked: EvalRequest,
    place: impl FnOnce(usize) -> wgpu_optim::Result<wgpu::BufferSlice<'a>>,
) -> wgpu_optim::Result<Object> {
    Ok(match asked {
        EvalRequest::Gradient => object([("kind", "gradient".into())]),
        EvalRequest::Loss(slot) => {
            let to = range(place(slot)?);
            object([("kind", "loss".into()), ("slot", JsValue::from_f64(slot as f64)), ("to", to.into())])
        }
    })
}
