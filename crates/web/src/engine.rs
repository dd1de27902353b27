//! The built optimizer. Tensors, groups and row sets have their names here.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use js_sys::{Array, Float32Array, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wgpu_optim::checkpoint::{Checkpoint, Fit, restore_torch};
use wgpu_optim::{Group, Norms, Optimizer, RowSet, Tensor, wgpu};

use crate::device::{Buffer, Device, Recorded};
use crate::fault::{OrFault as _, Result, fault, promise, usage};
use crate::settings;

/// An optimizer; empty while a step that awaits has it, and after [`destroy`](Self::destroy).
#[wasm_bindgen]
pub struct Engine {
    pub(crate) optimizer: Rc<RefCell<Option<Optimizer>>>,
    pub(crate) gpu: Device,
}

/// A range of a buffer of the caller, under a name.
#[wasm_bindgen]
#[derive(Default)]
pub struct Ranges(Vec<(String, wgpu::Buffer, u64, u64)>);

#[wasm_bindgen]
impl Ranges {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Ranges {
        Self::default()
    }

    pub fn add(&mut self, name: &str, buffer: &Buffer, offset: f64, size: f64) {
        let slice = buffer.slice(offset, size);
        self.0.push((name.to_owned(), slice.buffer().clone(), slice.offset(), slice.size()));
    }
}

impl Ranges {
    /// The ranges with the handles of their tensors.
    fn of<'a>(&'a self, optimizer: &Optimizer) -> wgpu_optim::Result<Vec<(Tensor, wgpu::BufferSlice<'a>)>> {
        let one = |(name, buffer, offset, size): &'a (String, wgpu::Buffer, u64, u64)| {
            Ok((optimizer.tensor(name)?, buffer.slice(*offset..*offset + *size)))
        };
        self.0.iter().map(one).collect()
    }
}

#[wasm_bindgen]
impl Engine {
    pub fn step(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.step(encoder))
    }

    #[wasm_bindgen(js_name = stepWithGrads)]
    pub fn step_with_grads(&self, grads: &Ranges) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.step_with_grads(encoder, grads.of(optimizer)?))
    }

    pub fn accumulate(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.accumulate(encoder))
    }

    #[wasm_bindgen(js_name = accumulateWithGrads)]
    pub fn accumulate_with_grads(&self, grads: &Ranges) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.accumulate_with_grads(encoder, grads.of(optimizer)?))
    }

    #[wasm_bindgen(js_name = recordSums)]
    pub fn record_sums(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.record_sums(encoder))
    }

    #[wasm_bindgen(js_name = recordUpdate)]
    pub fn record_update(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.record_update(encoder))
    }

    #[wasm_bindgen(js_name = swapEma)]
    pub fn swap_ema(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.swap_ema(encoder))
    }

    #[wasm_bindgen(js_name = toEvalParams)]
    pub fn to_eval_params(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.to_eval_params(encoder))
    }

    #[wasm_bindgen(js_name = toTrainParams)]
    pub fn to_train_params(&self) -> Result<Recorded> {
        self.record(|optimizer, encoder| optimizer.to_train_params(encoder))
    }

    pub fn remap(&self, set: &str, indices: &Buffer, offset: f64, size: f64, rows: usize) -> Result<Recorded> {
        self.record(|optimizer, encoder| {
            optimizer.remap(encoder, optimizer.row_set(set)?, indices.slice(offset, size), rows)
        })
    }

    #[wasm_bindgen(js_name = resetStates)]
    pub fn reset_states(&self, names: Vec<String>) -> Result<Recorded> {
        self.record(|optimizer, encoder| {
            let tensors: Vec<Tensor> =
                names.iter().map(|name| optimizer.tensor(name)).collect::<wgpu_optim::Result<_>>()?;
            optimizer.reset_states(encoder, &tensors)
        })
    }

    #[wasm_bindgen(js_name = resetRows)]
    pub fn reset_rows(&self, set: &str, flags: &Buffer, offset: f64, size: f64) -> Result<Recorded> {
        self.record(|optimizer, encoder| {
            optimizer.reset_rows(encoder, optimizer.row_set(set)?, flags.slice(offset, size))
        })
    }

    /// The settings of a group.
    pub fn settings(&self, group: &str) -> Result<Object> {
        let optimizer = self.optimizer()?;
        let group = find_group(&optimizer, group)?;
        optimizer.rule(group).map(settings::write).or_fault()
    }

    /// The name of a group's rule.
    pub fn rule(&self, group: &str) -> Result<String> {
        let optimizer = self.optimizer()?;
        let group = find_group(&optimizer, group)?;
        optimizer.rule(group).map(|rule| rule.name().to_owned()).or_fault()
    }

    pub fn set(&self, group: &str, changed: &Object) -> Result<()> {
        let changed = settings::read(changed).or_fault()?;
        let mut optimizer = self.optimizer_mut()?;
        let group = find_group(&optimizer, group)?;
        optimizer.set_all(group, changed.iter().map(|(name, value)| (name.as_str(), value))).or_fault()
    }

    pub fn lr(&self, group: &str) -> Result<f64> {
        let optimizer = self.optimizer()?;
        let group = find_group(&optimizer, group)?;
        optimizer.lr(group).or_fault()
    }

    #[wasm_bindgen(js_name = setClip)]
    pub fn set_clip(&self, most: f64) -> Result<()> {
        self.optimizer_mut()?.set_clip(most).or_fault()
    }

    pub fn groups(&self) -> Result<Vec<String>> {
        Ok(self.optimizer()?.groups().map(|(_, name)| name.to_owned()).collect())
    }

    /// Pairs of a name and a shape.
    pub fn tensors(&self) -> Result<Array> {
        let optimizer = self.optimizer()?;
        let one = |(_, name, shape): (Tensor, &str, &[usize])| {
            let shape: Array = shape.iter().map(|n| JsValue::from_f64(*n as f64)).collect();
            Array::of2(&name.into(), &shape)
        };
        Ok(optimizer.tensors().map(one).collect())
    }

    /// The range of a tensor's parameters, as `{ buffer, offset, size }`.
    pub fn param(&self, name: &str) -> Result<Object> {
        let optimizer = self.optimizer()?;
        optimizer.tensor(name).and_then(|tensor| Ok(range(optimizer.param(tensor)?))).or_fault()
    }

    pub fn grad(&self, name: &str) -> Result<Object> {
        let optimizer = self.optimizer()?;
        optimizer.tensor(name).and_then(|tensor| Ok(range(optimizer.grad(tensor)?))).or_fault()
    }

    /// The range of the loss scale; undefined without one.
    #[wasm_bindgen(js_name = lossScale)]
    pub fn loss_scale(&self) -> Result<Option<Object>> {
        Ok(self.optimizer()?.loss_scale().map(range))
    }

    /// The buffer of totals; undefined where the step has no sums.
    pub fn totals(&self) -> Result<Option<Object>> {
        Ok(self.optimizer()?.totals().map(|buffer| range(buffer.slice(..))))
    }

    #[wasm_bindgen(js_name = lossSlot)]
    pub fn loss_slot(&self, slot: usize) -> Result<Object> {
        self.optimizer()?.loss_slot(slot).map(range).or_fault()
    }

    #[wasm_bindgen(js_name = writeLosses)]
    pub fn write_losses(&self, losses: &[f32]) -> Result<()> {
        self.optimizer_mut()?.write_losses(losses).or_fault()
    }

    #[wasm_bindgen(js_name = writeParam)]
    pub fn write_param(&self, name: &str, values: &[f32]) -> Result<()> {
        let optimizer = self.optimizer()?;
        optimizer.tensor(name).and_then(|tensor| optimizer.write_param(tensor, values)).or_fault()
    }

    #[wasm_bindgen(js_name = writeGrad)]
    pub fn write_grad(&self, name: &str, values: &[f32]) -> Result<()> {
        let optimizer = self.optimizer()?;
        optimizer.tensor(name).and_then(|tensor| optimizer.write_grad(tensor, values)).or_fault()
    }

    #[wasm_bindgen(js_name = writeState)]
    pub fn write_state(&self, name: &str, state: &str, values: &[f32]) -> Result<()> {
        let optimizer = self.optimizer()?;
        optimizer.tensor(name).and_then(|tensor| optimizer.write_state(tensor, state, values)).or_fault()
    }

    #[wasm_bindgen(js_name = readParam)]
    pub fn read_param(&self, name: &str) -> Result<Promise> {
        let optimizer = self.optimizer()?;
        Ok(floats(optimizer.read_param(optimizer.tensor(name).or_fault()?)))
    }

    #[wasm_bindgen(js_name = readGrad)]
    pub fn read_grad(&self, name: &str) -> Result<Promise> {
        let optimizer = self.optimizer()?;
        Ok(floats(optimizer.read_grad(optimizer.tensor(name).or_fault()?)))
    }

    #[wasm_bindgen(js_name = readState)]
    pub fn read_state(&self, name: &str, state: &str) -> Result<Promise> {
        let optimizer = self.optimizer()?;
        Ok(floats(optimizer.read_state(optimizer.tensor(name).or_fault()?, state)))
    }

    #[wasm_bindgen(js_name = stateNames)]
    pub fn state_names(&self, name: &str) -> Result<Vec<String>> {
        let optimizer = self.optimizer()?;
        let names = optimizer.tensor(name).and_then(|tensor| optimizer.state_names(tensor)).or_fault()?;
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    #[wasm_bindgen(js_name = readDecision)]
    pub fn read_decision(&self, name: &str) -> Result<Promise> {
        let optimizer = self.optimizer()?;
        Ok(floats(optimizer.read_decision(optimizer.tensor(name).or_fault()?)))
    }

    #[wasm_bindgen(js_name = readGlobalState)]
    pub fn read_global_state(&self) -> Result<Promise> {
        Ok(floats(self.optimizer()?.read_global_state()))
    }

    #[wasm_bindgen(js_name = readStepCount)]
    pub fn read_step_count(&self) -> Result<Promise> {
        let reading = self.optimizer()?.read_step_count();
        Ok(promise(async move { Ok(reading.await? as f64) }))
    }

    #[wasm_bindgen(js_name = readSkipped)]
    pub fn read_skipped(&self) -> Result<Promise> {
        let reading = self.optimizer()?.read_skipped();
        Ok(promise(async move { Ok(reading.await? as f64) }))
    }

    #[wasm_bindgen(js_name = readLossScale)]
    pub fn read_loss_scale(&self) -> Result<Promise> {
        Ok(promise(self.optimizer()?.read_loss_scale()))
    }

    #[wasm_bindgen(js_name = writeStepCount)]
    pub fn write_step_count(&self, count: u32) -> Result<()> {
        self.optimizer_mut()?.write_step_count(count).or_fault()
    }

    /// The measurements of the newest finished step; undefined while there is none.
    pub fn stats(&self) -> Result<Option<Object>> {
        let Some(stats) = self.optimizer()?.try_stats() else { return Ok(None) };
        let tensors: Array = stats.tensors.iter().map(|tensor| norms(tensor.norms, Some(&tensor.name))).collect();
        let parts = [
            ("stepCount", JsValue::from_f64(stats.step_count as f64)),
            ("skipped", JsValue::from_f64(stats.skipped as f64)),
            ("dropped", JsValue::from_f64(stats.dropped as f64)),
            ("total", norms(stats.total, None).into()),
            ("tensors", tensors.into()),
        ];
        Ok(Some(object(parts)))
    }

    #[wasm_bindgen(js_name = rowCount)]
    pub fn row_count(&self, set: &str) -> Result<usize> {
        let optimizer = self.optimizer()?;
        rows(&optimizer, set).and_then(|set| optimizer.row_count(set).or_fault())
    }

    #[wasm_bindgen(js_name = setRowCount)]
    pub fn set_row_count(&self, set: &str, count: usize) -> Result<()> {
        let mut optimizer = self.optimizer_mut()?;
        let set = rows(&optimizer, set)?;
        optimizer.set_row_count(set, count).or_fault()
    }

    /// The range of a set's mask; undefined for a set without a mask.
    pub fn mask(&self, set: &str) -> Result<Option<Object>> {
        let optimizer = self.optimizer()?;
        let set = rows(&optimizer, set)?;
        optimizer.mask(set).map(|mask| mask.map(range)).or_fault()
    }

    #[wasm_bindgen(js_name = writeMask)]
    pub fn write_mask(&self, set: &str, flags: &[u32]) -> Result<()> {
        let optimizer = self.optimizer()?;
        let set = rows(&optimizer, set)?;
        optimizer.write_mask(set, flags).or_fault()
    }

    #[wasm_bindgen(js_name = setColumnRates)]
    pub fn set_column_rates(&self, name: &str, rates: &[f64]) -> Result<()> {
        let mut optimizer = self.optimizer_mut()?;
        let tensor = optimizer.tensor(name).or_fault()?;
        optimizer.set_column_rates(tensor, rates).or_fault()
    }

    pub fn dispatches(&self) -> Result<usize> {
        Ok(self.optimizer()?.dispatches())
    }

    /// The bytes of GPU memory by role, as `[role, owner, bytes]`.
    pub fn memory(&self) -> Result<Array> {
        let usage = self.optimizer()?.memory_usage();
        let share = |share: &wgpu_optim::memory::Share| {
            let owner = if share.owner == wgpu_optim::memory::Owner::Crate { "optimizer" } else { "caller" };
            Array::of3(&share.role.to_string().into(), &owner.into(), &JsValue::from_f64(share.bytes as f64))
        };
        Ok(usage.shares().iter().map(share).collect())
    }

    /// Submits a copy of everything that resuming needs. Resolves to the bytes of a checkpoint.
    pub fn save(&self) -> Result<Promise> {
        let mut encoder = self.gpu.encoder();
        let snapshot = self.optimizer()?.snapshot(&mut encoder).or_fault()?;
        self.gpu.queue.submit([encoder.finish()]);
        Ok(promise(async move { Ok(Uint8Array::from(snapshot.checkpoint().await?.to_bytes()?.as_slice())) }))
    }

    /// Restores a checkpoint; with `convert`, one of another storage too.
    pub fn load(&self, bytes: &[u8], convert: bool) -> Result<()> {
        let mut optimizer = self.optimizer_mut()?;
        let fit = if convert { Fit::Converted } else { Fit::Whole };
        Checkpoint::from_bytes("checkpoint", bytes)
            .and_then(|checkpoint| checkpoint.restore_fitting(&mut optimizer, fit))
            .or_fault()
    }

    /// Restores the states of one of torch's optimizers from a safetensors file.
    #[wasm_bindgen(js_name = loadTorch)]
    pub fn load_torch(&self, bytes: &[u8]) -> Result<()> {
        restore_torch("torch", bytes, &mut *self.optimizer_mut()?).or_fault()
    }

    /// Gives the optimizer's memory back.
    pub fn destroy(&self) {
        if let Some(optimizer) = self.optimizer.borrow_mut().take() {
            optimizer.destroy();
        }
    }
}

impl Engine {
    pub(crate) fn new(optimizer: Optimizer, device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let gpu = Device { device: device.clone(), queue: queue.clone(), adapter: None };
        Self { optimizer: Rc::new(RefCell::new(Some(optimizer))), gpu }
    }

    pub(crate) fn record(
        &self,
        record: impl FnOnce(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<()>,
    ) -> Result<Recorded> {
        let mut optimizer = self.optimizer_mut()?;
        self.gpu.record(|encoder| record(&mut optimizer, encoder)).or_fault()
    }

    fn optimizer(&self) -> Result<Ref<'_, Optimizer>> {
        Ref::filter_map(self.optimizer.borrow(), Option::as_ref).map_err(|_| gone())
    }

    pub(crate) fn optimizer_mut(&self) -> Result<RefMut<'_, Optimizer>> {
        RefMut::filter_map(self.optimizer.borrow_mut(), Option::as_mut).map_err(|_| gone())
    }
}

pub(crate) fn gone() -> JsValue {
    usage("the optimizer was destroyed, or a step that you did not await yet has it")
}

fn find_group(optimizer: &Optimizer, name: &str) -> Result<Group> {
    let found = optimizer.groups().find(|(_, known)| *known == name).map(|(group, _)| group);
    found.ok_or_else(|| {
        let known: Vec<&str> = optimizer.groups().map(|(_, name)| name).collect();
        usage(&format!("unknown group `{name}`; known: {}", known.join(", ")))
    })
}

fn rows(optimizer: &Optimizer, set: &str) -> Result<RowSet> {
    optimizer.row_set(set).map_err(|error| fault(&error))
}

fn floats(reading: impl Future<Output = wgpu_optim::Result<Vec<f32>>> + 'static) -> Promise {
    promise(async move { Ok(Float32Array::from(reading.await?.as_slice())) })
}

/// An object with these properties.
pub(crate) fn object<const N: usize>(parts: [(&str, JsValue); N]) -> Object {
    let object = Object::new();
    for (name, value) in parts {
        // A plain object takes any property.
        let _ = Reflect::set(&object, &name.into(), &value);
    }
    object
}

/// `{ buffer, offset, size }`.
pub(crate) fn range(slice: wgpu::BufferSlice<'_>) -> Object {
    let buffer = slice.buffer().as_webgpu().map_or(JsValue::UNDEFINED, |buffer| buffer.clone().into());
    let [offset, size] = [slice.offset(), slice.size()].map(|n| JsValue::from_f64(n as f64));
    object([("buffer", buffer), ("offset", offset), ("size", size)])
}

fn norms(norms: Norms, name: Option<&str>) -> Object {
    let Norms { gradient, nonfinite, parameter, update, clip } = norms;
    let numbers = [gradient, nonfinite as f64, parameter, update, clip].map(JsValue::from_f64);
    let [gradient, nonfinite, parameter, update, clip] = numbers;
    let made = object([
        ("gradient", gradient),
        ("nonfinite", nonfinite),
        ("parameter", parameter),
        ("update", update),
        ("clip", clip),
    ]);
    if let Some(name) = name {
        // A plain object takes any property.
        let _ = Reflect::set(&made, &"name".into(), &name.into());
    }
    made
}
