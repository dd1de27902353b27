//! The tools on the page: verification, benchmarks, races. What goes in and out is JSON, as on the command line.

use js_sys::{Function, Promise};
use serde_json::{Value as Json, json};
use wasm_bindgen::prelude::*;
use wgpu_optim::optim::{self, Rule, Value};
use wgpu_optim::tools::adapter::{Gpu, is_hardware};
use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::race::{Entrant, Event, Heat, Ledger, Plan as Race, Role, Track};
use wgpu_optim::tools::verify::{self, Case};
use wgpu_optim::tools::{bench, race};
use wgpu_optim::{Error, Storage};

use crate::device::Device;
use crate::fault::{OrFault as _, Result, promise};

impl Device {
    fn opened(&self) -> wgpu_optim::Result<Gpu> {
        let adapter = self.adapter.as_ref().ok_or_else(|| Error::Usage("the device has no adapter".to_owned()))?;
        Ok(Gpu::of(adapter.get_info(), self.device.clone(), self.queue.clone()))
    }
}

/// Whether the adapter is hardware.
#[wasm_bindgen(js_name = isHardware)]
pub fn hardware(device: &Device) -> Result<bool> {
    device.opened().map(|gpu| is_hardware(&gpu.info)).or_fault()
}

/// The names of the cases of `verify` in this storage.
#[wasm_bindgen(js_name = verifyCases)]
pub fn verify_cases(storage: &str) -> Result<Vec<String>> {
    let storage: Storage = storage.parse().or_fault()?;
    Ok(verify::cases_stored(&storage).iter().map(Case::name).collect())
}

/// Runs a case on the GPU. Resolves to its report.
#[wasm_bindgen(js_name = verifyGpu)]
pub fn verify_gpu(device: &Device, case: &str) -> Result<Promise> {
    let (gpu, case) = (device.opened().or_fault()?, Case::find(case).or_fault()?);
    Ok(promise(async move { verify::run_async(&gpu, &case).await.map(|report| text(&report)) }))
}

/// Runs a case on the host.
#[wasm_bindgen(js_name = verifyCpu)]
pub fn verify_cpu(case: &str) -> Result<String> {
    Case::find(case).and_then(|case| verify::run_cpu(&case)).map(|report| text(&report)).or_fault()
}

/// Measures steps on the GPU. `plan`: `{ rules, storages, sizes: [[tensors, elements]], seconds, samples }`. Calls `on` with each
/// measurement.
#[wasm_bindgen(js_name = benchGpu)]
pub fn bench_gpu(device: &Device, plan: &str, on: Function) -> Result<Promise> {
    device.opened().and_then(|gpu| measure(Some(gpu), plan, on)).or_fault()
}

/// As [`bench_gpu`], on the host.
#[wasm_bindgen(js_name = benchCpu)]
pub fn bench_cpu(plan: &str, on: Function) -> Result<Promise> {
    measure(None, plan, on).or_fault()
}

fn measure(gpu: Option<Gpu>, plan: &str, on: Function) -> wgpu_optim::Result<Promise> {
    let plan = bench_plan(plan, gpu.is_some())?;
    Ok(promise(async move {
        let mut thrown = Ok(());
        bench::run_async(&plan, gpu.as_ref(), |result| call(&on, &text(result), &mut thrown)).await?;
        thrown.map(|()| JsValue::UNDEFINED)
    }))
}

/// The median CPU seconds of recording a step over this many tensors.
#[wasm_bindgen]
pub fn recording(device: &Device, rule: &str, tensors: usize) -> Result<Promise> {
    let (gpu, rule) = (device.opened().or_fault()?, optim::find(rule).or_fault()?.sample());
    Ok(promise(async move { Ok(text(&bench::recording_async(&gpu, rule.as_ref(), tensors, false).await?)) }))
}

/// Races on the GPU. `plan`: `{ problem, settings, steps, seeds, entrants: [{ label, rule, settings, storage }] }`. Calls `on` with each
/// measurement and each outcome.
#[wasm_bindgen(js_name = raceGpu)]
pub fn race_gpu(device: &Device, plan: &str, on: Function) -> Result<Promise> {
    device.opened().and_then(|gpu| run_race(Backend::Gpu(Box::new(gpu)), plan, on)).or_fault()
}

/// As [`race_gpu`], on the host.
#[wasm_bindgen(js_name = raceCpu)]
pub fn race_cpu(plan: &str, on: Function) -> Result<Promise> {
    run_race(Backend::Cpu, plan, on).or_fault()
}

fn run_race(backend: Backend, plan: &str, on: Function) -> wgpu_optim::Result<Promise> {
    let plan = race_plan(plan)?;
    Ok(promise(async move {
        let mut thrown = Ok(());
        race::run_async(&plan, &backend, &mut Ledger::default(), |event| {
            let event = match event {
                Event::Planned { runs, .. } => json!({ "planned": runs }),
                Event::Measured(key, point) => json!({ "key": key, "point": point }),
                Event::Ended(outcome) => json!({ "outcome": outcome }),
            };
            call(&on, &event.to_string(), &mut thrown);
        })
        .await?;
        thrown.map(|()| JsValue::UNDEFINED)
    }))
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
}

/// Calls a function of the page; keeps the first error that it throws.
fn call(on: &Function, text: &str, thrown: &mut wgpu_optim::Result<()>) {
    if let Err(error) = on.call1(&JsValue::NULL, &text.into())
        && thrown.is_ok()
    {
        *thrown = Err(Error::Usage(format!("the callback threw {error:?}")));
    }
}

fn parsed(text: &str) -> wgpu_optim::Result<Json> {
    serde_json::from_str(text).map_err(|error| Error::Usage(format!("the plan is not JSON: {error}")))
}

fn words(plan: &Json, member: &str) -> Vec<String> {
    let list = plan[member].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The rule with the settings of an object.
fn rule(name: &str, settings: &Json) -> wgpu_optim::Result<Box<dyn Rule>> {
    let entry = optim::find(name)?;
    let mut rule = entry.sample();
    for (name, value) in settings.as_object().into_iter().flatten() {
        rule.set(name, &setting(value))?;
    }
    rule.check()?;
    Ok(rule)
}

fn setting(value: &Json) -> Value {
    match value {
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        other => Value::Word(other.as_str().unwrap_or_default().to_owned()),
    }
}

fn bench_plan(text: &str, on_gpu: bool) -> wgpu_optim::Result<bench::Plan> {
    let given = parsed(text)?;
    let number = |number: &Json| number.as_u64().unwrap_or(0) as usize;
    let size = |size: &Json| bench::Size::new(number(&size[0]), number(&size[1]));
    let default = bench::Plan::default();
    Ok(bench::Plan {
        rules: words(&given, "rules").iter().map(|name| rule(name, &Json::Null)).collect::<wgpu_optim::Result<_>>()?,
        storages: words(&given, "storages").iter().map(|text| text.parse()).collect::<wgpu_optim::Result<_>>()?,
        sizes: given["sizes"].as_array().map_or(default.sizes, |sizes| sizes.iter().map(size).collect()),
        backends: vec![if on_gpu { bench::BackendKind::Gpu } else { bench::BackendKind::Cpu }],
        seconds: given["seconds"].as_f64().unwrap_or(default.seconds),
        samples: given["samples"].as_u64().map_or(default.samples, |samples| samples as usize),
        ..default
    })
}

fn race_plan(text: &str) -> wgpu_optim::Result<Race> {
    let given = parsed(text)?;
    let problem = given["problem"].as_str().unwrap_or_default();
    let settings: Vec<(&str, Value)> = given["settings"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), setting(value)))
        .collect();
    let entrant = |entrant: &Json| {
        let word = |member: &str| entrant[member].as_str().unwrap_or_default();
        let rule = rule(word("rule"), &entrant["settings"])?;
        let storage: Storage = entrant["storage"].as_str().unwrap_or("f32").parse()?;
        Ok(Entrant::new(word("label"), Role::Rival, rule).stored(storage))
    };
    let entrants = given["entrants"].as_array().into_iter().flatten();
    let entrants = entrants.map(entrant).collect::<wgpu_optim::Result<_>>()?;
    let steps = given["steps"].as_u64().unwrap_or(500);
    let heat = Heat::new(problem, "the reader's choice", Track::new(problem, settings)?, steps, entrants);
    let mut race = Race::new("page", vec![heat]);
    race.seeds = Some(given["seeds"].as_u64().unwrap_or(1) as usize);
    Ok(race)
}
