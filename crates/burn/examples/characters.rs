//! A small transformer learns the characters of a text, with AdamW and with VRAdam.
//!
//!     cargo run --release -p wgpu-optim-burn --example characters -- --storage f32,8bit --folder /tmp --resume

mod common;

use burn::module::Module;
use burn::nn::attention::generate_autoregressive_mask;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{Arguments, Result, Task, shuffled, train};
use wgpu_optim_burn::burn;

const TEXT: &str = include_str!("../data/text.txt");
/// Characters of a sample.
const LENGTH: usize = 32;
const BATCH: usize = 16;
const WIDTH: usize = 48;

#[derive(Module, Debug)]
struct Model {
    characters: Embedding,
    places: Embedding,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Model {
    fn forward(&self, x: Tensor<2, Int>) -> Tensor<3> {
        let [rows, length] = x.dims();
        let device = x.device();
        let places = Tensor::arange(0..length as i64, &device).reshape([1, length]).repeat_dim(0, rows);
        let x = self.characters.forward(x) + self.places.forward(places);
        let mask = generate_autoregressive_mask(rows, length, &device);
        self.head.forward(self.encoder.forward(TransformerEncoderInput::new(x).mask_attn(mask)))
    }
}

struct Characters {
    device: Device,
    /// The characters that occur, in order.
    known: Vec<char>,
    /// The text in numbers of these.
    text: Vec<i32>,
}

impl Characters {
    fn new(device: Device) -> Result<Self> {
        let mut known: Vec<char> = TEXT.chars().collect();
        known.sort_unstable();
        known.dedup();
        let number = |c| known.binary_search(&c).map(|i| i as i32).map_err(|_| "a character is lost");
        let text = TEXT.chars().map(number).collect::<Result<_, _>>()?;
        Ok(Self { device, known, text })
    }

    /// The first nine tenths train, the rest validates.
    fn cut(&self) -> usize {
        self.text.len() * 9 / 10
    }

    /// The mean loss of the samples that begin at these places.
    fn loss_at(&self, model: &Model, begins: &[usize], device: &Device) -> Tensor<1> {
        let numbers = |shift: usize| -> Tensor<2, Int> {
            let numbers: Vec<i32> =
                begins.iter().flat_map(|begin| &self.text[begin + shift..][..LENGTH]).copied().collect();
            Tensor::from_data(TensorData::new(numbers, [begins.len(), LENGTH]), device)
        };
        let logits = model.forward(numbers(0)).reshape([begins.len() * LENGTH, self.known.len()]);
        CrossEntropyLossConfig::new().init(device).forward(logits, numbers(1).flatten(0, 1))
    }
}

impl Task for Characters {
    type Model = Model;

    fn model(&self, device: &Device) -> Model {
        device.seed(1);
        let encoder = TransformerEncoderConfig::new(WIDTH, 4 * WIDTH, 4, 2).with_norm_first(true).with_dropout(0.0);
        Model {
            characters: EmbeddingConfig::new(self.known.len(), WIDTH).init(device),
            places: EmbeddingConfig::new(LENGTH, WIDTH).init(device),
            encoder: encoder.init(device),
            head: LinearConfig::new(WIDTH, self.known.len()).init(device),
        }
    }

    fn batches(&self) -> usize {
        20
    }

    fn loss(&self, model: &Model, epoch: usize, batch: usize) -> Tensor<1> {
        let order = shuffled(self.cut() - LENGTH - 1, epoch);
        self.loss_at(model, &order[batch * BATCH..][..BATCH], &model.head.weight.device())
    }

    fn validate(&self, model: &Model) -> Result<(&'static str, f32)> {
        let begins: Vec<usize> = (self.cut()..self.text.len() - LENGTH - 1).step_by(LENGTH).collect();
        let loss = self.loss_at(&model.valid(), &begins, &self.device);
        Ok(("nats per held-out character:", loss.into_scalar::<f32>()))
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read(8)?;
    let losses = train(&Characters::new(Device::default())?, &arguments)?;
    // A guess by frequency alone has about 2.9 nats.
    if !losses.iter().all(|loss| *loss < 2.75) {
        return Err(format!("the transformers learned nothing: {losses:?} nats").into());
    }
    Ok(())
}
