//! `info`.

use clap::Args;
use serde_json::{Value as Json, json};

use wgpu_optim::optim::Value;
use wgpu_optim::tools::adapter::{self, Gpu};
use wgpu_optim::tools::backend::Choice;
use wgpu_optim::tools::report;
use wgpu_optim::wgpu::{Adapter, Limits};
use wgpu_optim::{Error, Group, Optimizer, cpu, optim, storage};

use super::failure::Failure;
use super::output::Output;
use super::place::Place;
use super::rules::Named;
use super::{PASSED, help, memory};

/// Show the adapters and the CPU with their limits, an optimizer's settings, or the GPU memory that optimizers take
///
/// Without options, the command lists each adapter and the CPU, what they run, and why an adapter runs nothing. With --optimizer, it
/// lists the optimizer's settings with their defaults and ranges. With --model, it counts the GPU memory that optimizers take for a model.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(super) struct Options {
    #[command(flatten)]
    memory: memory::Counted,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object per line: the run, then one per adapter, one for the CPU, and one for the backend that the options choose;
    /// with --optimizer, one per setting; with --model, one per optimizer and storage
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
The option --adapter takes the index that is printed for each adapter. The line `chosen` names the backend that the other commands \
use with the same --backend and --adapter.

With --model, nothing is allocated and no adapter is needed: without an adapter, wgpu's default limits apply. SHAPES are separated by \
commas: 768x3072 is a matrix, 12*768 is twelve vectors, 16M is a vector of 16 million elements (k, M and G are units). The count \
includes parameters, gradients, states and the buffers that a step needs; it excludes the copies that a snapshot or a readback makes. \
Without --optimizer, every optimizer is counted; without --storage, five common forms are.

Examples:
  wgpu-optim info
  wgpu-optim info --backend vulkan --json
  WGPU_POWER_PREF=low wgpu-optim info
  wgpu-optim info --optimizer adamw
  wgpu-optim info --model 12*768x3072,12*3072
  wgpu-optim info --model 16M --optimizer adamw --storage bf16-sr,8bit
  wgpu-optim info --model model.safetensors --optimizer adamw --optimizer lion --json

{}

{}",
        storage::HELP,
        help::EXIT
    )
}

pub(super) fn run(options: &Options) -> Result<u8, Failure> {
    let out = Output::new(options.json);
    if let Some(shapes) = options.memory.model()? {
        return memory::run(&options.memory, &shapes, &options.place, &out);
    }
    let named = options.memory.optimizers();
    if !named.is_empty() {
        return settings(named, &out);
    }
    let request = options.place.request()?;
    request.selector.check_backends()?;
    let adapters = pollster::block_on(adapter::adapters(request.selector.backends));
    let choice = pollster::block_on(request.open());
    let chosen = choice.as_ref().ok().and_then(|choice| choice.backend.gpu());
    out.header(chosen.map(|gpu| &gpu.info))?;
    for (index, adapter) in adapters.iter().enumerate() {
        print_adapter(index, adapter, &out)?;
    }
    print_cpu(&out)?;
    print_choice(choice?, &out)?;
    Ok(PASSED)
}

/// The settings of each optimizer, with their defaults and what they accept.
fn settings(optimizers: &[Named], out: &Output) -> Result<u8, Failure> {
    out.header(None)?;
    for (at, Named(entry)) in optimizers.iter().enumerate() {
        let specs = entry.setting_specs();
        let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
        let gap = if at > 0 { "\n" } else { "" };
        out.text(format_args!("{gap}{}", entry.name))?;
        out.text(format_args!("  {:<width$}  {:<10}  accepts", "setting", "default"))?;
        for spec in &specs {
            let default = help::default(spec);
            out.json(&json!({
                "optimizer": entry.name,
                "setting": spec.name,
                "default": spec.default.as_ref().map(plain),
                "accepts": spec.accepts,
            }))?;
            out.text(format_args!("  {:<width$}  {default:<10}  {}", spec.name, spec.accepts))?;
        }
    }
    Ok(PASSED)
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Number(x) => json!(x),
        Value::Flag(x) => json!(x),
        Value::Word(x) => json!(x),
    }
}

/// The limits that decide which optimizers an adapter can run.
fn limits(limits: &Limits) -> [(&'static str, u64); 8] {
    [
        ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size),
        ("max_buffer_size", limits.max_buffer_size),
        ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage.into()),
        ("min_storage_buffer_offset_alignment", limits.min_storage_buffer_offset_alignment.into()),
        ("max_compute_workgroups_per_dimension", limits.max_compute_workgroups_per_dimension.into()),
        ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup.into()),
        ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size.into()),
        (
            "max_dynamic_uniform_buffers_per_pipeline_layout",
            limits.max_dynamic_uniform_buffers_per_pipeline_layout.into(),
        ),
    ]
}

fn print_adapter(index: usize, adapter: &Adapter, out: &Output) -> Result<(), Failure> {
    let (info, hardware) = (adapter.get_info(), adapter::is_hardware(&adapter.get_info()));
    let refusal = pollster::block_on(probe(adapter)).err().map(|e| e.to_string());
    let features: Vec<String> = adapter.features().iter_names().map(|(name, _)| name.to_owned()).collect();
    let limits = limits(&adapter.limits());
    let run = report::Run::now(Some(&info));
    out.json(&json!({
        "index": index,
        "adapter": run.adapter,
        "vendor": run.vendor,
        "device": run.device,
        "device_type": run.device_type,
        "api": run.api,
        "driver": run.driver,
        "driver_info": run.driver_info,
        "hardware": hardware,
        "runs": refusal.is_none(),
        "why_not": refusal,
        "limits": limits.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "features": features,
    }))?;
    let kind = if hardware { "hardware" } else { "software" };
    out.text(format_args!("adapter {index}: {}", info.name))?;
    out.text(format_args!(
        "  {:?}, {kind} ({:?}), driver {} {}",
        info.backend, info.device_type, info.driver, info.driver_info
    ))?;
    for (name, value) in limits {
        out.text(format_args!("  {name:<48} {value:>12}"))?;
    }
    out.text(match (refusal, hardware) {
        (Some(why), _) => format!("  runs nothing: {why}\n"),
        (None, true) => "  runs every optimizer; verify, bench, train and the tour use it\n".to_owned(),
        (None, false) => {
            "  runs every optimizer; verify and bench use it; train and the tour use it only with --backend gpu, \
                          because the CPU is faster\n"
                .to_owned()
        }
    })
}

/// Builds an optimizer that has every stage of a step. An adapter that can build it can build all others.
async fn probe(adapter: &Adapter) -> Result<(), Error> {
    let gpu = Gpu::with_limits(adapter, adapter.limits()).await?;
    let mut builder = Optimizer::builder(optim::VRAdam::default());
    builder.tensor(Group::DEFAULT, "probe", &[4]);
    builder.build(&gpu.device, &gpu.queue).map(|_| ())
}

fn print_cpu(out: &Output) -> Result<(), Failure> {
    let (name, threads, units) = (report::cpu_name(), report::threads(), cpu::vector_units());
    out.json(&json!({ "cpu": name, "threads": threads, "vector_units": units, "runs": true }))?;
    out.text(format_args!("cpu: {name}"))?;
    out.text(format_args!("  {threads} threads, vector units {units}"))?;
    out.text("  runs every optimizer: the fast path in f32 (--backend cpu), the f64 reference (--backend reference)\n")
}

fn print_choice(choice: Choice, out: &Output) -> Result<(), Failure> {
    let Choice { backend, note } = choice;
    out.json(&json!({ "chosen": backend.kind().name(), "adapter": backend.gpu().map(|g| &g.info.name), "why": note }))?;
    let why = note.map_or_else(String::new, |note| format!("; {note}"));
    out.text(format_args!("chosen: {}{why}", backend.describe()))
}
