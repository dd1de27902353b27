//! A convolutional network learns handwritten digits of 8×8 pixels, with AdamW and with VRAdam.
//!
//!     cargo run --release -p wgpu-optim-burn --example digits -- --storage f32,8bit --folder /tmp --resume

mod common;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{Arguments, Result, Task, shuffled, train};
use wgpu_optim_burn::burn;

const BATCH: usize = 64;
/// Rows that train; the others validate.
const TRAIN: usize = 1437;
static BYTES: &[u8] = include_bytes!("../data/digits.bin");

#[derive(Module, Debug)]
struct Network {
    first: Conv2d,
    second: Conv2d,
    head: Linear,
}

impl Network {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.second.forward(relu(self.first.forward(x))));
        self.head.forward(x.flatten(1, 3))
    }
}

struct Digits {
    device: Device,
}

impl Digits {
    fn rows(&self, rows: &[usize], device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
        let record = |row: &usize| &BYTES[row * 65..][..65];
        let pixels: Vec<f32> =
            rows.iter().flat_map(|row| record(row)[..64].iter().map(|p| f32::from(*p) / 16.0)).collect();
        let labels: Vec<i32> = rows.iter().map(|row| i32::from(record(row)[64])).collect();
        let x = Tensor::from_data(TensorData::new(pixels, [rows.len(), 1, 8, 8]), device);
        (x, Tensor::from_data(TensorData::new(labels, [rows.len()]), device))
    }
}

impl Task for Digits {
    type Model = Network;

    fn model(&self, device: &Device) -> Network {
        device.seed(1);
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Network {
            first: Conv2dConfig::new([1, 16], [3, 3]).with_padding(same.clone()).init(device),
            second: Conv2dConfig::new([16, 32], [3, 3]).with_padding(same).with_stride([2, 2]).init(device),
            head: LinearConfig::new(32 * 4 * 4, 10).init(device),
        }
    }

    fn batches(&self) -> usize {
        TRAIN / BATCH
    }

    fn loss(&self, model: &Network, epoch: usize, batch: usize) -> Tensor<1> {
        let order = shuffled(TRAIN, epoch);
        let device = model.head.weight.device();
        let (x, labels) = self.rows(&order[batch * BATCH..][..BATCH], &device);
        CrossEntropyLossConfig::new().init(&device).forward(model.forward(x), labels)
    }

    fn validate(&self, model: &Network) -> Result<(&'static str, f32)> {
        let rows: Vec<usize> = (TRAIN..BYTES.len() / 65).collect();
        let (x, labels) = self.rows(&rows, &self.device);
        let guesses = model.valid().forward(x).argmax(1).flatten::<1>(0, 1);
        let right: f32 = guesses.equal(labels).int().float().mean().into_scalar::<f32>();
        Ok(("of the held-out digits right, %:", 100.0 * right))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read(8)?;
    let right = train(&Digits { device: Device::default() }, &arguments)?;
    if !right.iter().all(|right| *right > 80.0) {
        return Err(format!("the networks learned nothing: {right:?} %").into());
    }
    Ok(())
}
