//! What an optimizer is built from, collected call by call. Groups, tensors and row sets are numbers here, in the order of the calls.

use js_sys::{Object, Promise};
use wasm_bindgen::prelude::*;
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{
    Accumulate, Builder, Clip, Ema, Error, Group, LossScale, NoDecay, Optimizer, RowSet, Rule, Schedule, Storage,
    Tensor,
};

use crate::device::{Buffer, Device};
use crate::engine::Engine;
use crate::fault::{OrFault as _, Result, promise};
use crate::settings;

/// A builder with its handles.
#[wasm_bindgen]
pub struct Plan {
    builder: Builder,
    rule: Box<dyn Rule>,
    groups: Vec<Group>,
    tensors: Vec<Tensor>,
    rows: Vec<RowSet>,
}

#[wasm_bindgen]
impl Plan {
    /// An optimizer with this rule. Settings that the object leaves out have their defaults.
    #[wasm_bindgen(constructor)]
    pub fn new(rule: &str, settings: &Object) -> Result<Plan> {
        settings::rule(rule, settings).map(Self::of).or_fault()
    }

    /// An optimizer with a rule in WGSL.
    #[cfg(feature = "full")]
    pub fn custom(name: &str, wgsl: &str, settings: &Object) -> Result<Plan> {
        let rule = wgpu_optim::CustomRule::from_wgsl(name, wgsl).or_fault()?;
        settings::changed(&rule, settings).map(Self::of).or_fault()
    }

    /// Adds a group: the first group's rule with some settings changed, or another rule.
    pub fn group(&mut self, name: &str, rule: Option<String>, changed: &Object) -> Result<usize> {
        let rule = match rule {
            Some(rule) if rule != self.rule.name() => settings::rule(&rule, changed),
            _ => settings::changed(self.rule.as_ref(), changed),
        };
        let group = self.builder.group(name, rule.or_fault()?);
        Ok(self.add_group(group))
    }

    pub fn maximize(&mut self, group: usize) {
        self.builder.maximize(self.groups[group]);
    }

    pub fn schedule(&mut self, group: usize, setting: &str, schedule: &str) -> Result<()> {
        let schedule: Schedule = schedule.parse().or_fault()?;
        self.builder.schedule_setting(self.groups[group], setting, schedule);
        Ok(())
    }

    /// Adds a group without decay, which takes the tensors that the text picks (`rank:1`, or a pattern of names).
    #[wasm_bindgen(js_name = excludeFromDecay)]
    pub fn exclude_from_decay(&mut self, group: usize, which: &str) -> Result<usize> {
        let which: NoDecay = which.parse().or_fault()?;
        let undecayed = self.builder.exclude_from_decay(self.groups[group], which).or_fault()?;
        Ok(self.add_group(undecayed))
    }

    /// Adds a tensor in the optimizer's own buffers.
    pub fn tensor(&mut self, group: usize, name: &str, shape: &[u32]) -> usize {
        let tensor = self.builder.tensor(self.groups[group], name, &sizes(shape));
        self.add_tensor(tensor)
    }

    /// Adds a tensor in the caller's buffers.
    #[allow(clippy::too_many_arguments, reason = "a range is a buffer with two numbers")]
    pub fn bind(
        &mut self,
        group: usize,
        name: &str,
        shape: &[u32],
        param: &Buffer,
        param_offset: f64,
        param_size: f64,
        grad: &Buffer,
        grad_offset: f64,
        grad_size: f64,
    ) -> usize {
        let (param, grad) = (param.slice(param_offset, param_size), grad.slice(grad_offset, grad_size));
        let tensor = self.builder.bind(self.groups[group], name, &sizes(shape), param, grad);
        self.add_tensor(tensor)
    }

    /// As [`bind`](Self::bind), for a tensor whose gradient every step names.
    #[wasm_bindgen(js_name = bindParam)]
    pub fn bind_param(
        &mut self,
        group: usize,
        name: &str,
        shape: &[u32],
        param: &Buffer,
        offset: f64,
        size: f64,
    ) -> usize {
        let tensor = self.builder.bind_param(self.groups[group], name, &sizes(shape), param.slice(offset, size));
        self.add_tensor(tensor)
    }

    pub fn freeze(&mut self, tensor: usize) {
        self.builder.freeze(self.tensors[tensor]);
    }

    #[wasm_bindgen(js_name = tensorStorage)]
    pub fn tensor_storage(&mut self, tensor: usize, storage: &str) -> Result<()> {
        self.builder.tensor_storage(self.tensors[tensor], storage.parse::<Storage>().or_fault()?);
        Ok(())
    }

    /// The bytes of a parameter and of a gradient in this storage.
    #[wasm_bindgen(js_name = bytesPerElement)]
    pub fn bytes_per_element(storage: &str) -> Result<Vec<f64>> {
        let Storage { params, grads, .. } = storage.parse().or_fault()?;
        Ok([params.format(), grads].map(|format| format.bytes() as f64).to_vec())
    }

    pub fn storage(&mut self, storage: &str) -> Result<()> {
        self.builder.storage(storage.parse::<Storage>().or_fault()?);
        Ok(())
    }

    pub fn clip(&mut self, kind: &str, most: f64) -> Result<()> {
        let clip = match kind {
            "globalNorm" => Clip::GlobalNorm(most),
            "groupNorm" => Clip::GroupNorm(most),
            "tensorNorm" => Clip::TensorNorm(most),
            "value" => Clip::Value(most),
            other => {
                return Err(crate::fault::usage(&format!(
                    "unknown clip `{other}`; known: globalNorm, groupNorm, tensorNorm, value"
                )));
            }
        };
        self.builder.clip(clip);
        Ok(())
    }

    #[wasm_bindgen(js_name = lossScale)]
    pub fn loss_scale(
        &mut self,
        initial: Option<f64>,
        growth: Option<f64>,
        backoff: Option<f64>,
        interval: Option<u32>,
    ) {
        let LossScale { initial: i, growth: g, backoff: b, interval: n } = LossScale::default();
        self.builder.loss_scale(LossScale {
            initial: initial.unwrap_or(i),
            growth: growth.unwrap_or(g),
            backoff: backoff.unwrap_or(b),
            interval: interval.unwrap_or(n),
        });
    }

    #[wasm_bindgen(js_name = skipNonfinite)]
    pub fn skip_nonfinite(&mut self, skip: bool) {
        self.builder.skip_nonfinite(skip);
    }

    /// Adds micro-batches: their mean over this many, or their sum.
    pub fn accumulate(&mut self, mean: Option<u32>) {
        self.builder.accumulate(mean.map_or(Accumulate::Sum, Accumulate::Mean));
    }

    pub fn ema(&mut self, decay: Option<f64>, warmup: Option<bool>) {
        let default = Ema::default();
        self.builder.ema(Ema { decay: decay.unwrap_or(default.decay), warmup: warmup.unwrap_or(default.warmup) });
    }

    #[wasm_bindgen(js_name = undampedSteps)]
    pub fn undamped_steps(&mut self, allow: bool) {
        self.builder.undamped_steps(allow);
    }

    #[wasm_bindgen(js_name = zeroGrad)]
    pub fn zero_grad(&mut self, zero: bool) {
        self.builder.zero_grad(zero);
    }

    pub fn telemetry(&mut self, measure: bool) {
        self.builder.telemetry(measure);
    }

    #[wasm_bindgen(js_name = dynamicGradients)]
    pub fn dynamic_gradients(&mut self, dynamic: bool) {
        self.builder.dynamic_gradients(dynamic);
    }

    pub fn seed(&mut self, seed: f64) {
        self.builder.seed(seed as u64);
    }

    #[wasm_bindgen(js_name = givenDirections)]
    pub fn given_directions(&mut self, given: bool) {
        self.builder.given_directions(given);
    }

    pub fn label(&mut self, label: &str) {
        self.builder.label(label);
    }

    #[wasm_bindgen(js_name = extraUsages)]
    pub fn extra_usages(&mut self, params: u32, grads: u32) {
        let [params, grads] = [params, grads].map(BufferUsages::from_bits_truncate);
        self.builder.extra_usages(params, grads);
    }

    #[wasm_bindgen(js_name = rowSet)]
    pub fn row_set(&mut self, name: &str, tensors: &[usize]) -> usize {
        let tensors: Vec<Tensor> = tensors.iter().map(|tensor| self.tensors[*tensor]).collect();
        self.rows.push(self.builder.row_set(name, &tensors));
        self.rows.len() - 1
    }

    #[wasm_bindgen(js_name = rowCapacity)]
    pub fn row_capacity(&mut self, rows: usize, count: usize) {
        self.builder.row_capacity(self.rows[rows], count);
    }

    pub fn mask(&mut self, rows: usize) {
        self.builder.mask(self.rows[rows]);
    }

    #[wasm_bindgen(js_name = maskIn)]
    pub fn mask_in(&mut self, rows: usize, mask: &Buffer, offset: f64, size: f64) {
        self.builder.mask_in(self.rows[rows], mask.slice(offset, size));
    }

    #[wasm_bindgen(js_name = skipZeroGradients)]
    pub fn skip_zero_gradients(&mut self, rows: usize) {
        self.builder.skip_zero_gradients(self.rows[rows]);
    }

    #[wasm_bindgen(js_name = columnRates)]
    pub fn column_rates(&mut self, tensor: usize, rates: &[f64]) {
        self.builder.column_rates(self.tensors[tensor], rates);
    }

    #[wasm_bindgen(js_name = shareSecondMoment)]
    pub fn share_second_moment(&mut self, tensor: usize) {
        self.builder.share_second_moment(self.tensors[tensor]);
    }

    /// Resolves to an [`Engine`] once the device has created everything.
    pub fn build(&self, gpu: &Device) -> Promise {
        let (builder, device, queue) = (self.builder.clone(), gpu.device.clone(), gpu.queue.clone());
        promise(async move {
            let optimizer = builder.build_async(&device, &queue).await?;
            Ok::<Engine, Error>(Engine::new(optimizer, &device, &queue))
        })
    }
}

impl Plan {
    fn of(rule: Box<dyn Rule>) -> Self {
        let builder = Optimizer::builder(rule.clone());
        Self { builder, rule, groups: vec![Group::DEFAULT], tensors: Vec::new(), rows: Vec::new() }
    }

    fn add_group(&mut self, group: Group) -> usize {
        self.groups.push(group);
        self.groups.len() - 1
    }

    fn add_tensor(&mut self, tensor: Tensor) -> usize {
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }
}

fn sizes(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|n| *n as usize).collect()
}
