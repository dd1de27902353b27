//! `info --model`.

use std::path::Path;

use clap::Args;
use serde_json::{Map, json};

use wgpu_optim::memory::MemoryUsage;
use wgpu_optim::optim::{self, Value};
use wgpu_optim::tools::backend::Kind;
use wgpu_optim::tools::model::Shapes;
use wgpu_optim::wgpu::{AdapterInfo, Limits};
use wgpu_optim::{Error, Rule, Storage};

use super::PASSED;
use super::failure::Failure;
use super::output::Output;
use super::place::Place;
use super::rules::{Named, Optimizers, Settings, Storages};

/// The storage forms that are counted without --storage.
const STORAGES: [&str; 5] = ["f32", "f32,8bit", "bf16-split", "bf16-sr", "bf16-sr,8bit"];

/// The options that choose the model, the optimizers and the storage forms.
#[derive(Args, Debug)]
pub(super) struct Counted {
    /// Count the GPU memory for a model with tensors of these shapes, such as 12*768x768,12*768 or 16M, or with the tensors of a
    /// safetensors file
    #[arg(long, value_name = "SHAPES|FILE")]
    model: Option<String>,
    #[command(flatten)]
    storages: Storages,
    #[command(flatten)]
    optimizers: Optimizers,
    #[command(flatten)]
    settings: Settings,
    /// Print the bytes by role for each optimizer and storage
    #[arg(long, requires = "model")]
    roles: bool,
}

/// The memory of one optimizer in one storage, or why the optimizer refuses that storage.
struct Count {
    optimizer: &'static str,
    storage: Storage,
    memory: Result<MemoryUsage, Error>,
}

impl Counted {
    /// The model that --model gives; `None` without the option.
    pub(super) fn model(&self) -> Result<Option<Shapes>, Failure> {
        let counts = [("--storage", !self.storages.given.is_empty()), ("--set", !self.settings.pairs.is_empty())];
        match (&self.model, counts.into_iter().find(|(_, given)| *given)) {
            (None, Some((option, _))) => Err(Error::Usage(format!("{option} needs --model")).into()),
            (None, None) => Ok(None),
            (Some(file), _) if [".safetensors", ".index.json"].iter().any(|end| file.ends_with(end)) => {
                Ok(Some(Shapes::read(Path::new(file))?))
            }
            (Some(shapes), _) => Ok(Some(shapes.parse()?)),
        }
    }

    /// The optimizers that the options name.
    pub(super) fn optimizers(&self) -> &[Named] {
        &self.optimizers.names
    }

    fn rules(&self) -> Result<Vec<Box<dyn Rule>>, Failure> {
        let all: Vec<Named> = optim::ALL.iter().map(Named).collect();
        let named = if self.optimizers.names.is_empty() { &all } else { &self.optimizers.names };
        let rule = |Named(entry): &Named| {
            // The value of a required learning rate does not change the memory.
            let required = entry.required.iter().map(|name| (*name, Value::Number(1.0)));
            Ok(entry.configure(required.chain(self.settings.iter()))?)
        };
        named.iter().map(rule).collect()
    }

    fn storages(&self) -> Result<Vec<Storage>, Failure> {
        if !self.storages.given.is_empty() {
            return Ok(self.storages.given.clone());
        }
        Ok(STORAGES.into_iter().map(str::parse).collect::<Result<_, _>>()?)
    }
}

pub(super) fn run(options: &Counted, shapes: &Shapes, place: &Place, out: &Output) -> Result<u8, Failure> {
    let (rules, storages) = (options.rules()?, options.storages()?);
    let (limits, adapter) = limits(place)?;
    out.header(adapter.as_ref())?;
    let limited_by =
        adapter.map_or_else(|| "wgpu's default limits".to_owned(), |found| format!("the limits of {}", found.name));
    let tensors = shapes.tensors().count();
    let plural = if tensors == 1 { "" } else { "s" };
    out.text(format_args!("{} parameters in {tensors} tensor{plural}, with {limited_by}", shapes.parameters()))?;
    if shapes.left_out() > 0 {
        Output::note(format_args!("tensors of integers are not parameters: {} not counted", shapes.left_out()));
    }
    let count = |rule: &dyn Rule, storage: &Storage| Count {
        optimizer: rule.name(),
        storage: storage.clone(),
        memory: shapes.memory_usage(rule, storage, &limits),
    };
    let counts: Vec<Vec<Count>> =
        rules.iter().map(|rule| storages.iter().map(|storage| count(rule.as_ref(), storage)).collect()).collect();
    for count in counts.iter().flatten() {
        out.json(&object(count, tensors))?;
    }
    if options.roles || matches!(&counts[..], [only] if only.len() == 1) {
        counts.iter().flatten().try_for_each(|count| print_roles(count, out))?;
    } else {
        print_table(&counts, out)?;
    }
    Ok(PASSED)
}

/// The limits of the adapter that the options choose; wgpu's defaults if there is no adapter and the options name none.
fn limits(place: &Place) -> Result<(Limits, Option<AdapterInfo>), Failure> {
    let request = place.request()?;
    if let Some(kind @ (Kind::Cpu | Kind::Reference)) = request.kind {
        let problem = format!("--model counts the memory of a GPU, but --backend is {}", kind.name());
        return Err(Error::Usage(problem).into());
    }
    match pollster::block_on(request.selector.find()) {
        Ok(adapter) => Ok((adapter.limits(), Some(adapter.get_info()))),
        Err(Error::NoAdapter(_)) if request.kind.is_none() => {
            Output::note("no adapter: counted with wgpu's default limits");
            Ok((Limits::default(), None))
        }
        Err(error) => Err(error.into()),
    }
}

fn object(count: &Count, tensors: usize) -> serde_json::Value {
    let memory = count.memory.as_ref().ok();
    let mut roles = Map::new();
    for share in memory.map_or(&[][..], MemoryUsage::shares) {
        roles.insert(share.role.to_string(), share.bytes.into());
    }
    json!({
        "optimizer": count.optimizer,
        "storage": count.storage.to_string(),
        "tensors": tensors,
        "parameters": memory.map(MemoryUsage::parameters),
        "bytes": memory.map(MemoryUsage::total),
        "bytes_per_parameter": memory.map(MemoryUsage::per_parameter),
        "state_bytes": memory.map(MemoryUsage::states),
        "roles": roles,
        "refused": count.memory.as_ref().err().map(ToString::to_string),
    })
}

fn print_roles(count: &Count, out: &Output) -> Result<(), Failure> {
    out.text(format_args!("\n{} in {}", count.optimizer, count.storage))?;
    match &count.memory {
        Ok(memory) => out.text(memory),
        Err(why) => out.text(format_args!("refused: {why}")),
    }
}

/// Prints one line per optimizer with one column per storage, then the reasons of refusals.
fn print_table(counts: &[Vec<Count>], out: &Output) -> Result<(), Failure> {
    let cell = |text: &str| format!("  {text:>18}");
    let row = |name: &str, cells: String| out.text(format!("{name:<20}{cells}").trim_end());
    out.text("bytes per parameter, and in all: parameters, gradients, states and the other buffers of a step\n")?;
    let storages = counts.first().map_or(&[][..], Vec::as_slice).iter();
    row("", storages.map(|count| cell(&count.storage.to_string())).collect())?;
    let mut refusals: Vec<String> = Vec::new();
    for of_rule in counts {
        let mut cells = String::new();
        for count in of_rule {
            match &count.memory {
                Ok(memory) => cells += &cell(&format!("{:.2}  {:>9}", memory.per_parameter(), size(memory.total()))),
                Err(why) => {
                    cells += &cell("refused");
                    refusals.push(format!("refused: {}: {why}", count.optimizer));
                }
            }
        }
        row(of_rule[0].optimizer, cells)?;
    }
    refusals.dedup();
    refusals.iter().try_for_each(|refusal| out.text(refusal))
}

/// Bytes as text for people, in decimal units.
fn size(bytes: u64) -> String {
    let (scale, unit) = match bytes {
        0..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{:.1} {unit}", bytes as f64 / scale)
}
