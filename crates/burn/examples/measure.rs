//! The time of a step of Burn's optimizer and of this crate's, alternating in one run, and the memory of both.
//!
//!     cargo run --release -p wgpu-optim-burn --example measure
//!
//! The arguments are shapes: `TENSORSxELEMENTS` for AdamW, `TENSORSxROWSxCOLUMNS` for Muon; without any, those of AdamW in the README.

#[path = "common/run.rs"]
mod run;

use std::time::Duration;

use burn::module::{Module, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, MuonConfig};
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, Tensor};
use run::{Run, adamw, burns_adamw, median};
use wgpu_optim::Muon;
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What is measured.
struct Shape {
    tensors: usize,
    /// Rows of each matrix; `None`: the tensors are vectors.
    rows: Option<usize>,
    /// Elements of a vector, or of a row.
    width: usize,
}

impl std::str::FromStr for Shape {
    type Err = Box<dyn std::error::Error>;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        match numbers[..] {
            [tensors, width] => Ok(Self { tensors, rows: None, width }),
            [tensors, rows, width] => Ok(Self { tensors, rows: Some(rows), width }),
            _ => Err(format!("{text}: a shape is TENSORSxELEMENTS or TENSORSxROWSxCOLUMNS").into()),
        }
    }
}

impl Shape {
    fn elements(&self) -> usize {
        self.tensors * self.rows.unwrap_or(1) * self.width
    }

    /// Steps before those that count, and steps that count.
    fn steps(&self) -> [usize; 2] {
        match self.elements() {
            _ if self.rows.is_some() => [1, 3],
            5_000_000.. => [4, 21],
            _ => [4, 41],
        }
    }
}

#[derive(Module, Debug)]
struct Model {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
}

impl Model {
    fn new(shape: &Shape, device: &Device) -> Self {
        let value = |i: usize| 0.1 + i as f32 * 1e-4;
        let vector = |i| Param::from_tensor(Tensor::full([shape.width], value(i), device).require_grad());
        let mut model = Self { vectors: Vec::new(), matrices: Vec::new() };
        match shape.rows {
            None => model.vectors = (0..shape.tensors).map(vector).collect(),
            Some(rows) => {
                let matrix = |i| Param::from_tensor(Tensor::full([rows, shape.width], value(i), device).require_grad());
                model.matrices = (0..shape.tensors).map(matrix).collect();
            }
        }
        model
    }

    /// Fresh gradients, as a backward pass leaves them.
    fn grads(&self, step: usize) -> GradientsParams {
        fn register<const D: usize>(grads: &mut GradientsParams, params: &[Param<Tensor<D>>], step: usize) {
            for (i, param) in params.iter().enumerate() {
                let value = 1e-3 * (1 + i % 7 + step % 5) as f32;
                grads.register(param.id, Tensor::<D>::full(param.shape(), value, &param.device().without_autodiff()));
            }
        }
        let mut grads = GradientsParams::new();
        register(&mut grads, &self.vectors, step);
        register(&mut grads, &self.matrices, step);
        grads
    }
}

/// Bytes that Burn holds of the GPU, once its work is done.
fn held(device: &Device) -> Result<u64> {
    device.sync()?;
    Ok(device.memory_pool_usage().ok_or("Burn does not tell its memory")?.bytes_in_use)
}

/// The first steps. Returns the bytes that Burn holds afterwards.
fn warm_up(run: &mut Run<Model>, steps: usize, device: &Device) -> Result<u64> {
    for step in 0..steps {
        run.step(device, |model| model.grads(step))?;
    }
    held(device)
}

/// Burn's optimizer for a shape.
fn burns_optimizer(shape: &Shape) -> ModuleOptimizer {
    match shape.rows {
        None => burns_adamw(),
        Some(_) => MuonConfig::new().with_weight_decay(Some(WeightDecayConfig::new(0.1))).init(),
    }
}

/// This crate's optimizer for a model of a shape.
fn our_optimizer(shape: &Shape, model: &Model, setup: &WgpuSetup) -> Result<WgpuOptimizer> {
    match shape.rows {
        None => adamw(model, setup),
        Some(_) => Ok(WgpuOptimizer::new(Muon::default()).with_setup(setup).init(model)?),
    }
}

fn measure(text: &str, device: &Device, setup: &WgpuSetup) -> Result<()> {
    let shape: Shape = text.parse()?;
    let [before, counted] = shape.steps();
    let nothing = held(device)?;
    let mut burns = Run::burn(Model::new(&shape, device), burns_optimizer(&shape));
    let with_burns = warm_up(&mut burns, before, device)?;
    // From here on, because the optimizer holds the memory of the parameters.
    let model = Model::new(&shape, device);
    let optim = our_optimizer(&shape, &model, setup)?;
    let owned = optim.engine().memory_usage().owned();
    let mut ours = Run::here(model, optim);
    let with_both = warm_up(&mut ours, before, device)?;
    let mut runs = [burns, ours];
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    for step in 0..counted {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let took = run.step(device, |model| model.grads(step))?;
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    let [[burns_host, burns], [our_host, ours]] = times.map(|times| times.map(|mut times| median(&mut times)));
    let per_param = |bytes: u64| bytes as f64 / shape.elements() as f64;
    println!(
        "{text:>12} {burns:>9.2} {ours:>9.2} {:>6.1} {burns_host:>9.2} {our_host:>9.2} {:>13.2} {:>13.2}",
        burns / ours,
        per_param(with_burns - nothing),
        per_param(with_both - with_burns + owned)
    );
    Ok(())
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
    shapes.iter().try_for_each(|shape| measure(shape, &device, &setup))
}
