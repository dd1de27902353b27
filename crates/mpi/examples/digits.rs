//! Trains the digits on several ranks: `mpirun -n 4 cargo run --release -p wgpu-optim-mpi --example digits`.
//!
//! Every rank has a part of the training rows, computes gradients of its own batches, and steps its shard. All ranks have the same parameters
//! after every step, so that any of them can classify the held-out rows. An argument is the path of a checkpoint: the run saves it after every
//! epoch, and continues from it if it is there. The file loads on any number of ranks.

use std::path::PathBuf;

use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::tools::objectives::digits;
use wgpu_optim::tools::objectives::{GpuMlp, GpuObjective as _, Mlp, Outcome, Part, Reading, Samples, Split};
use wgpu_optim::{AdamW, Clip, Group, Optimizer, Tensor, wgpu};
use wgpu_optim_mpi::{Options, Result, Sharded, World};

const EPOCHS: u32 = 12;
/// Rows of a step, over all ranks.
const BATCH: usize = 64;
/// The seed of the split, of the first parameters and of the order of rows.
const SEED: u64 = 7;

/// The training rows of this rank: every n-th. All ranks have equally many, so that they make equally many steps.
fn own_rows(train: &Samples, rank: usize, ranks: usize) -> Result<Samples> {
    let rows = (0..train.rows() / ranks).map(|row| row * ranks + rank);
    let inputs = rows.clone().flat_map(|row| train.row(row).iter().copied()).collect();
    let labels = rows.map(|row| train.labels()[row]).collect();
    Ok(Samples::new(train.features(), train.classes(), inputs, labels)?)
}

fn main() -> Result<()> {
    let path: Option<PathBuf> = std::env::args_os().nth(1).map(PathBuf::from);
    let world = World::start()?;
    let gpu = world.agree(pollster::block_on(Selector::default().open()))?;
    let all = digits::load()?.split(0.2, SEED)?;
    let own = own_rows(all.part(Part::Train), world.rank(), world.size())?;
    let split = Split::new(own, all.part(Part::HeldOut).clone())?;
    let mlp = Mlp::default();
    let mut model = GpuMlp::new(&gpu.device, &mlp, &split, BATCH / world.size().min(BATCH), SEED)?;

    let mut builder = Optimizer::builder(AdamW { lr: 2e-3, weight_decay: 0.01, ..AdamW::default() });
    builder.tensors(Group::DEFAULT, mlp.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())));
    builder.clip(Clip::GlobalNorm(1.0));
    let mut optimizer = Sharded::build(&builder, &world, Options::default(), &gpu.device, &gpu.queue)?;

    // The passes of the model bind the whole tensors.
    let tensors: Vec<Tensor> = optimizer.optimizer().tensors().map(|(tensor, ..)| tensor).collect();
    let slices = |of: fn(&Optimizer, Tensor) -> wgpu_optim::Result<wgpu::BufferSlice<'_>>| {
        tensors.iter().map(|tensor| of(optimizer.optimizer(), *tensor)).collect::<wgpu_optim::Result<Vec<_>>>()
    };
    model.bind(&slices(Optimizer::param)?, &slices(Optimizer::grad)?)?;
    for (tensor, values) in tensors.iter().zip(mlp.initial(SEED)) {
        optimizer.optimizer().write_param(*tensor, &values)?;
    }
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        optimizer.load(path)?;
    }

    let mut accuracy = 0.0;
    let first = (optimizer.read_step_count()? / model.batches() as u64) as u32;
    for epoch in first..first + EPOCHS {
        for batch in 0..model.batches() {
            gpu.run(|encoder| {
                model.record_epoch(encoder, epoch);
                model.record_gradient(encoder, batch)
            })?;
            optimizer.step()?;
        }
        let mut held_out = None;
        gpu.run(|encoder| model.record_accuracy(encoder, Part::HeldOut).map(|reading| held_out = Some(reading)))?;
        if let Some(reading) = held_out.map(Reading::read) {
            gpu.wait()?;
            accuracy = Outcome::total(&pollster::block_on(reading)?).accuracy();
        }
        if world.rank() == 0 {
            println!("epoch {epoch}: {:.1} % of the held-out digits", 100.0 * accuracy);
        }
        if let Some(path) = &path {
            optimizer.save(path)?;
        }
    }
    assert!(accuracy > 0.9, "{accuracy}");
    Ok(())
}
