//! The command `wgpu-optim-mpi`: it proves and measures steps of several ranks. `mpirun` starts it, except for `scale` and `join`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use wgpu_optim::optim::find;
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim_mpi::tools::bench::Bench;
use wgpu_optim_mpi::tools::{scale, verify};
use wgpu_optim_mpi::{Error, Options, Result, States, Wire, World, checkpoint};

/// Steps of wgpu-optim on several ranks, one process per GPU.
#[derive(Parser)]
#[command(version, name = "wgpu-optim-mpi")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Proves that these ranks take the trajectory of one process: mpirun -n 4 wgpu-optim-mpi verify
    Verify {
        /// Only cases with this text in their names.
        #[arg(long, default_value = "")]
        case: String,
        /// The folder for checkpoints, which all ranks share.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        /// Trains a small model and saves it here, instead of the cases.
        #[arg(long, conflicts_with = "load")]
        save: Option<PathBuf>,
        /// Loads such a model of any number of ranks, and compares with one process.
        #[arg(long)]
        load: Option<PathBuf>,
        /// Seconds to wait for another rank.
        #[arg(long, default_value_t = 120.0)]
        timeout: f64,
    },
    /// Measures a step: mpirun -n 4 wgpu-optim-mpi bench
    Bench {
        /// The optimizer.
        #[arg(long, default_value = "adamw")]
        optimizer: String,
        /// The storage of parameters, gradients and states.
        #[arg(long, default_value = "f32")]
        storage: String,
        /// Elements of the model.
        #[arg(long, default_value_t = 16_000_000)]
        elements: u64,
        /// Measured steps.
        #[arg(long, default_value_t = 5)]
        steps: usize,
        /// Which rank keeps which states.
        #[arg(long, value_enum, default_value_t = Kept::Sharded)]
        states: Kept,
        /// The form of gradients between ranks.
        #[arg(long, value_enum, default_value_t = Sent::Stored)]
        wire: Sent,
        /// Bytes of a bucket.
        #[arg(long, default_value_t = Options::default().bucket)]
        bucket: u64,
        /// One JSON object per rank on standard output.
        #[arg(long)]
        json: bool,
        /// Seconds to wait for another rank.
        #[arg(long, default_value_t = 120.0)]
        timeout: f64,
    },
    /// Prints the tables of docs/guide/scale.md.
    Scale,
    /// Joins a checkpoint of several ranks to one file that a single process loads.
    Join {
        /// The checkpoint of the ranks.
        from: PathBuf,
        /// The file to write.
        to: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Kept {
    Sharded,
    Whole,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sent {
    Stored,
    Bf16,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Scale => print!("{}", scale::page()?),
        Command::Join { from, to } => checkpoint::join(from)?.save(to)?,
        Command::Verify { case, folder, save, load, timeout } => {
            let (world, gpu) = open(timeout)?;
            return prove(&world, &gpu, &case, &folder, save, load);
        }
        Command::Bench { optimizer, storage, elements, steps, states, wire, bucket, json, timeout } => {
            let (world, gpu) = open(timeout)?;
            let options = Options {
                states: if matches!(states, Kept::Whole) { States::Whole } else { States::Sharded },
                wire: if matches!(wire, Sent::Bf16) { Wire::Bf16 } else { Wire::Stored },
                bucket,
            };
            let rule = find(&optimizer)?.sample();
            let bench = Bench { rule, storage: storage.parse()?, elements, options, steps, warmup: 1 };
            let ranks = bench.run(&world, &gpu)?;
            if world.rank() == 0 {
                ranks.iter().for_each(|rank| println!("{}", if json { rank.to_string() } else { line(rank) }));
            }
        }
    }
    Ok(true)
}

fn open(timeout: f64) -> Result<(World, Gpu)> {
    let timeout = Duration::try_from_secs_f64(timeout).ok().filter(|timeout| !timeout.is_zero());
    let timeout = timeout.ok_or_else(|| Error::Usage("--timeout needs a number of seconds above 0".to_owned()))?;
    let world = World::start()?;
    world.set_timeout(timeout);
    let gpu = world.agree(pollster::block_on(Selector::default().open()))?;
    Ok((world, gpu))
}

fn prove(
    world: &World,
    gpu: &Gpu,
    case: &str,
    folder: &std::path::Path,
    save: Option<PathBuf>,
    load: Option<PathBuf>,
) -> Result<bool> {
    let speaks = world.rank() == 0;
    let print = |outcome: &verify::Outcome| {
        if speaks {
            let verdict = if outcome.passed() { "passed" } else { "FAILED" };
            let problem = outcome.problem.as_deref().map(|problem| format!(": {problem}")).unwrap_or_default();
            println!(
                "{verdict} {}: worst {:.1e}, at most {:.1e}{problem}",
                outcome.name, outcome.worst, outcome.tolerance
            );
        }
    };
    if speaks {
        println!("{} ranks, rank 0 on {}", world.size(), gpu.name());
    }
    let outcomes = match (save, load) {
        (Some(path), _) => {
            verify::save(world, gpu, &path)?;
            Vec::new()
        }
        (None, Some(path)) => {
            let outcome = verify::load(world, gpu, &path)?;
            print(&outcome);
            vec![outcome]
        }
        (None, None) => verify::run(world, gpu, case, folder, print)?,
    };
    Ok(outcomes.iter().all(verify::Outcome::passed))
}

/// The measurements of a rank in words.
fn line(rank: &serde_json::Value) -> String {
    let number = |key: &str| rank[key].as_f64().unwrap_or(f64::NAN);
    let (mega, milli) = (|key| number(key) / 1e6, |key| number(key) * 1e3);
    format!(
        "rank {} of {}: states {:.1} MB; sent {:.1} MB a step; {:.1} ms = reduce {:.1} + step {:.1} + gather {:.1}; exchange {:.0} %, of which {:.0} % overlap",
        rank["rank"],
        rank["ranks"],
        mega("state_bytes"),
        mega("sent_bytes"),
        milli("total_s"),
        milli("reduce_s"),
        milli("step_s"),
        milli("gather_s"),
        100.0 * number("exchange_share"),
        100.0 * number("overlap"),
    )
}
