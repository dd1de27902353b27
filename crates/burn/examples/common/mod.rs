//! What the examples share: arguments, training with several optimizers, with files to resume from, and the time of a training step.

mod run;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, Tensor};
use run::{Run, adamw, burns_adamw, median};
use wgpu_optim::checkpoint::{Checkpoint, Fit};
use wgpu_optim::optim::Rule;
use wgpu_optim::storage::Storage;
use wgpu_optim::{AdamW, Clip, VRAdam};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The arguments of an example: `--epochs N --storage FORM --folder FOLDER --resume`, or `--measure`.
pub(crate) struct Arguments {
    epochs: usize,
    /// The storage of the states, as `wgpu-optim info --help` explains it.
    storage: Storage,
    /// Checkpoints go there after every epoch.
    folder: Option<PathBuf>,
    resume: bool,
    /// The time of a step in place of training.
    measure: bool,
}

impl Arguments {
    pub(crate) fn read(epochs: usize) -> Result<Self> {
        let mut read = Self { epochs, storage: Storage::default(), folder: None, resume: false, measure: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--epochs" => read.epochs = value()?.parse()?,
                "--storage" => read.storage = value()?.parse()?,
                "--folder" => read.folder = Some(value()?.into()),
                "--resume" => read.resume = true,
                "--measure" => read.measure = true,
                _ => {
                    let known = "--epochs, --storage, --folder, --resume or --measure";
                    return Err(format!("unknown argument {name}: {known}").into());
                }
            }
        }
        Ok(read)
    }
}

/// A model with its data.
pub(crate) trait Task {
    type Model: Module;
    /// The model, with the same weights at each call.
    fn model(&self, device: &Device) -> Self::Model;
    /// Batches of an epoch.
    fn batches(&self) -> usize;
    /// The loss of a batch of an epoch.
    fn loss(&self, model: &Self::Model, epoch: usize, batch: usize) -> Tensor<1>;
    /// What a run is judged by, and its name.
    fn validate(&self, model: &Self::Model) -> Result<(&'static str, f32)>;
}

/// Trains with AdamW and with VRAdam and prints the curves. Returns the last number of each; none after a measurement.
pub(crate) fn train(task: &impl Task, arguments: &Arguments) -> Result<Vec<f32>> {
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let device = device.autodiff();
    if arguments.measure {
        measure(task, &device, &setup)?;
        return Ok(Vec::new());
    }
    let rules: [(&str, f64, Box<dyn Rule>); 2] = [
        ("adamw", 4e-3, Box::new(AdamW { weight_decay: 0.01, ..AdamW::default() })),
        ("vradam", 4e-3, Box::new(VRAdam { weight_decay: 0.01, ..VRAdam::default() })),
    ];
    let mut last = Vec::new();
    for (name, rate, rule) in rules {
        let mut model = task.model(&device);
        let mut optim = WgpuOptimizer::new(rule)
            .with_clip(Clip::GlobalNorm(1.0))
            .with_storage(arguments.storage.clone())
            .with_setup(&setup)
            .init(&model)?;
        let file = arguments.folder.as_ref().map(|folder| folder.join(format!("{name}.safetensors")));
        let mut begin = 0;
        if let Some(file) = file.as_ref().filter(|file| arguments.resume && file.exists()) {
            let checkpoint = Checkpoint::load(file)?;
            begin = checkpoint.notes()["epochs"].parse()?;
            model = optim.restore(model, &checkpoint, Fit::Whole)?;
        }
        let mut rates = CosineAnnealingLrSchedulerConfig::new(rate, arguments.epochs.max(1) * task.batches()).init()?;
        (0..begin * task.batches()).for_each(|_| _ = rates.step());
        let mut number = task.validate(&model)?.1;
        for epoch in begin..arguments.epochs {
            for batch in 0..task.batches() {
                let grads = grads(task, &model, epoch, batch);
                model = optim.step(rates.step(), model, grads)?;
            }
            let (what, value) = task.validate(&model)?;
            println!("{name:>8}  epoch {:>2}  {what} {value:.3}", epoch + 1);
            number = value;
            if let Some(file) = &file {
                let (same, mut checkpoint) = optim.checkpoint(model)?;
                checkpoint.notes_mut().insert("epochs".to_owned(), (epoch + 1).to_string());
                checkpoint.save(file)?;
                model = same;
            }
        }
        last.push(number);
    }
    Ok(last)
}

/// Times training steps with Burn's AdamW and with this crate's, in turn.
fn measure(task: &impl Task, device: &Device, setup: &WgpuSetup) -> Result<()> {
    let model = task.model(device);
    let optim = adamw(&model, setup)?;
    let mut runs = [("Burn", Run::burn(task.model(device), burns_adamw())), ("here", Run::here(model, optim))];
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    for step in 0..34 {
        for ((_, run), [whole, optimizer]) in runs.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            let [_, took] = run.step(device, |model| grads(task, model, 0, step % task.batches()))?;
            if step >= 4 {
                whole.push(begin.elapsed());
                optimizer.push(took);
            }
        }
    }
    for ((name, _), [whole, optimizer]) in runs.iter().zip(&mut times) {
        println!("{name}: a training step {:.2} ms, of them the optimizer {:.2} ms", median(whole), median(optimizer));
    }
    Ok(())
}

fn grads<T: Task>(task: &T, model: &T::Model, epoch: usize, batch: usize) -> GradientsParams {
    GradientsParams::from_grads(task.loss(model, epoch, batch).backward(), model)
}

/// The numbers below `count` in an order that depends on the epoch.
pub(crate) fn shuffled(count: usize, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(epoch as u64 + 1);
    for last in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}
