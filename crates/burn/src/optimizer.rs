//! The optimizer of a module: its parts, how they are made, and what it tells.

use std::sync::{Arc, Mutex};

use burn::backend::DispatchDevice;
use burn::module::Module;
use burn::tensor::DType;
use wgpu_optim::storage::Format;
use wgpu_optim::{Group, Optimizer, Rule};

use crate::error::{Error, Result};
use crate::module::index::{Index, Known};
use crate::module::scan::{Found, scan};
use crate::options::Options;
use crate::params::Params;
use crate::tensor::arena::{Arena, Home, Range};
use crate::tensor::exchange::lock;
use crate::tensor::place::places;

/// An optimizer of wgpu-optim for a module of Burn. It reads like Burn's `ModuleOptimizer`; the crate's page has a whole program.
///
/// The parameters stay tensors of Burn, and the states lie in the optimizer. A step changes the numbers where they lie, in one dispatch; it reads
/// nothing back and waits for no work of the GPU.
pub struct WgpuOptimizer {
    pub(crate) options: Options,
    pub(crate) engine: Optimizer,
    pub(crate) groups: Vec<Group>,
    /// The number of each parameter's group. A parameter stays in it, also if it gets another id.
    pub(crate) group_of: Vec<usize>,
    pub(crate) params: Params,
}

impl WgpuOptimizer {
    /// Begins an optimizer with this rule: every rule of wgpu-optim, with its settings.
    #[expect(clippy::new_ret_no_self, reason = "it reads as Burn's `AdamWConfig::new().init()` in one type")]
    pub fn new(rule: impl Into<Box<dyn Rule>>) -> Options {
        Options::new(rule.into())
    }

    pub(crate) fn build<M: Module>(options: Options, module: &M) -> Result<Self> {
        let setup = options.setup.as_ref().ok_or_else(|| {
            Error::Usage(
                "the optimizer has no wgpu device: create Burn's device with `Device::wgpu_options().init_with_setup()?` and give the setup \
                 to with_setup"
                    .to_owned(),
            )
        })?;
        let (device, queue) = (setup.device.clone(), setup.queue.clone());
        let found = params(module)?;
        check_storage(&options, &found)?;
        let burn = found[0].device.clone().without_autodiff();
        let cube = cube(&found)?;
        let client = cube.client();
        let (homes, bytes) = homes(&found, client.properties().memory.alignment)?;
        let arena = Arena::new(cube, bytes);
        let place =
            places(&arena.client, vec![arena.handle().clone()]).map_err(|error| not_wgpu(&found[0], &error))?.remove(0);
        if place.offset != 0 {
            return Err(Error::Burn(format!("a buffer of its own begins at byte {}, needs 0", place.offset)));
        }
        let (mut builder, groups) = options.builder();
        let mut tensors = Vec::with_capacity(found.len());
        let group_of: Vec<usize> = found.iter().map(|param| options.group_of(param.id, &param.path)).collect();
        for ((param, home), group) in found.iter().zip(&homes).zip(&group_of) {
            let group = groups[*group];
            let Range { offset, bytes } = home.range;
            let slice = place.buffer.slice(offset..offset + bytes);
            tensors.push(builder.bind_param(group, &param.path, param.shape.as_slice(), slice));
        }
        options.change(&mut builder)?;
        let engine = builder.build(&device, &queue)?;
        let known = found.into_iter().map(|Found { path, id, shape, .. }| Known { path, id, shape }).collect();
        let params = Params {
            device,
            queue,
            burn,
            index: Index::new(known),
            homes: homes.into(),
            arena: Arc::new(Mutex::new(arena)),
            bound: place.buffer.clone(),
            tensors,
        };
        Ok(Self { options, engine, groups, group_of, params })
    }

    /// The engine: settings, telemetry, counters and everything else that does not step. Its tensors have the paths of the module as names.
    #[must_use]
    pub const fn engine(&self) -> &Optimizer {
        &self.engine
    }

    /// The engine, for changes of settings and counters. Do not step it.
    pub const fn engine_mut(&mut self) -> &mut Optimizer {
        &mut self.engine
    }

    /// Bytes of Burn's memory in which the parameters lie, with the gaps between them.
    #[must_use]
    pub fn param_bytes(&self) -> u64 {
        lock(&self.params.arena).bytes()
    }
}

/// Whether a step of the rule evaluates the model.
pub(crate) fn evaluates(rule: &dyn Rule) -> bool {
    rule.procedure().is_some_and(|procedure| procedure.losses() > 0 || procedure.needs_call().is_some())
}

/// The parameters that the optimizer holds. An empty one has nothing to step.
fn params<M: Module>(module: &M) -> Result<Vec<Found>> {
    let (mut found, frozen) = scan(module);
    found.retain(|param| param.shape.num_elements() > 0);
    if found.is_empty() {
        return Err(Error::Usage(format!(
            "the module has no parameter that requires a gradient and {frozen} that do not: create it on `device.autodiff()`, or call `train` or \
             `unfreeze` on it"
        )));
    }
    Ok(found)
}

/// Burn's compute device, which must be the one of all parameters.
fn cube(found: &[Found]) -> Result<burn::cubecl::Device> {
    let first = &found[0];
    if let Some(other) = found.iter().find(|param| param.device != first.device) {
        return Err(Error::param(
            &other.path,
            format!(
                "it is on {:?}, and `{}` is on {:?}: an optimizer holds parameters of one device; use one optimizer per device",
                other.device, first.path, first.device
            ),
        ));
    }
    let device = match first.device.as_dispatch().clone() {
        DispatchDevice::Autodiff(device) => device.inner(),
        device => device,
    };
    #[allow(unreachable_patterns, reason = "the backends of Burn that the application enables decide")]
    match device {
        DispatchDevice::Cube(device) => Ok(device),
        _ => Err(not_wgpu(first, "it is on another backend")),
    }
}

fn not_wgpu(param: &Found, error: &str) -> Error {
    Error::param(&param.path, format!("its device {:?} is not one of Burn's wgpu backend: {error}", param.device))
}

/// The places of the parameters in the arena, and the arena's bytes.
fn homes(found: &[Found], alignment: u64) -> Result<(Vec<Home>, u64)> {
    // What Burn may bind on its own begins at Burn's alignment.
    let alignment = alignment.max(256);
    let mut order: Vec<usize> = (0..found.len()).collect();
    // Burn puts gradients of like sizes into one page. Neighbours whose gradients lie in one page share a dispatch.
    order.sort_by_key(|&number| (std::cmp::Reverse(found[number].shape.num_elements()), number));
    let mut offsets = vec![0; found.len()];
    let mut end = 0_u64;
    for number in order {
        offsets[number] = end;
        end = (end + bytes(&found[number])?).next_multiple_of(alignment);
    }
    let home = |(param, offset): (&Found, u64)| {
        Ok(Home { range: Range { offset, bytes: bytes(param)? }, shape: param.shape.clone(), dtype: param.dtype })
    };
    Ok((found.iter().zip(offsets).map(home).collect::<Result<_>>()?, end))
}

/// The bytes of a parameter, in whole words.
fn bytes(param: &Found) -> Result<u64> {
    Ok((param.shape.num_elements() as u64 * format(param)?.bytes()).next_multiple_of(4))
}

/// The format of a parameter's numbers.
fn format(param: &Found) -> Result<Format> {
    match param.dtype {
        DType::F32 | DType::Flex32 => Ok(Format::F32),
        DType::F16 => Ok(Format::F16),
        DType::BF16 => Ok(Format::Bf16),
        other => Err(Error::param(&param.path, format!("its numbers are {other:?}, needs F32, F16 or BF16"))),
    }
}

/// Burn decides in which format parameters and gradients are.
fn check_storage(options: &Options, found: &[Found]) -> Result<()> {
    let Some(storage) = options.storage() else { return Ok(()) };
    for param in found {
        let format = format(param)?;
        if storage.params.format() != format || storage.grads != format {
            return Err(Error::param(
                &param.path,
                format!(
                    "its numbers are {:?}, and the storage is {storage}: name a storage with parameters and gradients in {format}, such as \
                     `with_storage(\"{}\".parse()?)`",
                    param.dtype,
                    if format == Format::F32 { "f32,8bit".to_owned() } else { format!("{format}-master") }
                ),
            ));
        }
    }
    Ok(())
}

impl std::fmt::Debug for WgpuOptimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths = self.params.index.params.iter().map(|known| known.path.as_str());
        f.debug_struct("WgpuOptimizer")
            .field("options", &self.options)
            .field("params", &paths.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
