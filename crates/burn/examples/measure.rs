//! The time of a step of Burn's AdamW and of this crate's, alternating in one run, and the memory of both.
//!
//!     cargo run --release -p wgpu-optim-burn --example measure
//!
//! The arguments are shapes, `TENSORSxELEMENTS`; without any, the shapes of the README.

#[path = "common/run.rs"]
mod run;

use std::time::Duration;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use run::{Run, adamw, median};
use wgpu_optim_burn::burn;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Steps before those that count.
const WARM_UP: usize = 4;

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
            let grad =
                Tensor::<1>::full(param.shape(), 1e-3 * (i % 7 + step % 5) as f32, &param.device().without_autodiff());
            grads.register(param.id, grad);
        }
        grads
    }
}

/// Bytes that Burn holds of the GPU, once its work is done.
fn held(device: &Device) -> Result<u64> {
    device.sync()?;
    Ok(device.memory_pool_usage().ok_or("Burn does not tell its memory")?.bytes_in_use)
}

/// The first steps. Returns the bytes that Burn holds afterwards.
fn warm_up(run: &mut Run<Model>, device: &Device) -> Result<u64> {
    for step in 0..WARM_UP {
        run.step(device, |model| model.grads(step))?;
    }
    held(device)
}

fn main() -> Result<()> {
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let device = device.autodiff();
    println!("{}, {}", setup.adapter.get_info().name, setup.adapter.get_info().driver_info);
    let mut shapes: Vec<String> = std::env::args().skip(1).collect();
    if shapes.is_empty() {
        shapes = ["1x8388608", "300x10000", "1000x1000"].map(str::to_owned).to_vec();
    }
    println!(
        "{:>12} {:>9} {:>9} {:>6} {:>9} {:>9} {:>13} {:>13}",
        "", "Burn, ms", "here, ms", "ratio", "host: ms", "host: ms", "Burn, B/param", "here, B/param"
    );
    for shape in shapes {
        let (tensors, elements) = shape.split_once('x').ok_or("a shape is TENSORSxELEMENTS")?;
        let (tensors, elements) = (tensors.parse()?, elements.parse()?);
        let nothing = held(&device)?;
        let mut burns = Run::burn(Model::new(tensors, elements, &device));
        let with_burns = warm_up(&mut burns, &device)?;
        let model = Model::new(tensors, elements, &device);
        let optim = adamw(&model, &setup)?;
        let owned = optim.engine().memory_usage().owned();
        let mut ours = Run::here(model, optim);
        let with_both = warm_up(&mut ours, &device)?;
        let mut runs = [burns, ours];
        let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
        for step in 0..if tensors * elements > 5_000_000 { 21 } else { 41 } {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                let took = run.step(&device, |model| model.grads(step))?;
                times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
            }
        }
        let [[burns_host, burns], [our_host, ours]] = times.map(|times| times.map(|mut times| median(&mut times)));
        let per_param = |bytes: u64| bytes as f64 / (tensors * elements) as f64;
        println!(
            "{shape:>12} {burns:>9.2} {ours:>9.2} {:>6.1} {burns_host:>9.2} {our_host:>9.2} {:>13.2} {:>13.2}",
            burns / ours,
            per_param(with_burns - nothing),
            per_param(with_both - with_burns + owned)
        );
    }
    Ok(())
}
