//! The time of a step of Burn's AdamW and of this crate's, alternating in one run, and the memory of both.
//!
//!     cargo run --release -p wgpu-optim-burn --example measure
//!
//! The arguments are shapes, `TENSORSxELEMENTS`; without any, the shapes of the README.

use std::time::{Duration, Instant};

use burn::module::{Module, Param, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use wgpu_optim::AdamW;
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

#[derive(Module, Debug)]
struct Model {
    params: Vec<Param<Tensor<1>>>,
}

impl Model {
    fn new(tensors: usize, elements: usize, device: &Device) -> Self {
        let param =
            |i: usize| Param::from_tensor(Tensor::full([elements], 0.1 + i as f32 * 1e-4, device).require_grad());
        Self { params: (0..tensors).map(param).collect() }
    }

    /// Fresh gradients, as a backward pass leaves them.
    fn grads(&self, step: usize) -> GradientsParams {
        let mut grads = GradientsParams::new();
        for (i, param) in self.params.iter().enumerate() {
            let device = param.device().without_autodiff();
            let id: ParamId = param.id;
            let shape = param.shape();
            grads.register(id, Tensor::<1>::full(shape, 1e-3 * (i % 7 + step % 5) as f32, &device));
        }
        grads
    }
}

/// One optimizer with its module.
enum Run {
    Burn(ModuleOptimizer, Model),
    Ours(Box<WgpuOptimizer>, Model),
}

impl Run {
    /// A step: until it returns, and until the GPU has finished.
    fn step(self, step: usize, device: &Device) -> Result<(Self, [Duration; 2]), Box<dyn std::error::Error>> {
        let grads = match &self {
            Self::Burn(_, model) | Self::Ours(_, model) => model.grads(step),
        };
        device.sync()?;
        let begin = Instant::now();
        let run = match self {
            Self::Burn(mut optim, model) => {
                let model = optim.step(1e-3, model, grads);
                Self::Burn(optim, model)
            }
            Self::Ours(mut optim, model) => {
                let model = optim.step(1e-3, model, grads)?;
                Self::Ours(optim, model)
            }
        };
        let host = begin.elapsed();
        device.sync()?;
        Ok((run, [host, begin.elapsed()]))
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Bytes that Burn holds of the GPU.
fn held(device: &Device) -> u64 {
    device.memory_pool_usage().map_or(0, |usage| usage.bytes_in_use)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let device = device.autodiff();
    println!("{}, {}", setup.adapter.get_info().name, setup.adapter.get_info().driver_info);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shapes = if arguments.is_empty() {
        ["1x8388608", "300x10000", "1000x1000"].map(str::to_owned).to_vec()
    } else {
        arguments
    };
    println!(
        "{:>12} {:>10} {:>10} {:>8} {:>12} {:>12}",
        "tensors", "Burn, ms", "here, ms", "times", "Burn host", "here host"
    );
    for shape in shapes {
        let (tensors, elements) = shape.split_once('x').ok_or("a shape is TENSORSxELEMENTS")?;
        let (tensors, elements) = (tensors.parse()?, elements.parse()?);
        let samples = if tensors * elements > 5_000_000 { 21 } else { 41 };
        let model = Model::new(tensors, elements, &device);
        let ours = WgpuOptimizer::new(AdamW::default()).with_setup(&setup).init(&model)?;
        let burns = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
        let before = held(&device);
        let mut runs =
            [Some(Run::Burn(burns, model)), Some(Run::Ours(Box::new(ours), Model::new(tensors, elements, &device)))];
        let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
        for step in 0..samples + 4 {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                let Some(at) = run.take() else { continue };
                let (next, took) = at.step(step, &device)?;
                *run = Some(next);
                if step >= 4 {
                    times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
                }
            }
        }
        let [[burn_host, burn], [our_host, ours]] = &mut times;
        let (burn, ours) = (median(burn), median(ours));
        println!(
            "{shape:>12} {burn:>10.2} {ours:>10.2} {:>8.1} {:>12.2} {:>12.2}",
            burn / ours,
            median(burn_host),
            median(our_host)
        );
        let _ = before;
    }
    Ok(())
}
