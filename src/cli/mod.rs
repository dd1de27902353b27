//! The commands of the program. Each file parses the options of one command, calls the library, and prints what the library found.

mod bench;
mod failure;
mod help;
mod info;
mod memory;
mod output;
mod place;
mod race;
mod replay;
mod rules;
mod shader;
mod tour;
mod train;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Every check passed.
const PASSED: u8 = 0;
/// A result lies past its tolerance, or a step is slower than its baseline.
const PAST: u8 = 1;

/// Optimizers for wgpu: the step as WGSL kernels, verified against an f64 reference on this machine
///
/// Without a command, the program runs the tour, which takes less than a minute. The tour finds the best backend, verifies every
/// optimizer on it, trains a model on handwritten digits with a few of them, and measures the time of a step.
#[derive(Debug, Parser)]
#[command(name = "wgpu-optim", version, args_conflicts_with_subcommands = true, after_long_help = help::main())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    tour: tour::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    Info(info::Options),
    Verify(verify::Options),
    Bench(bench::Options),
    Replay(replay::Options),
    Train(train::Options),
    Race(race::Options),
    Shader(shader::Options),
}

pub(crate) fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|failure| failure.report()),
        Err(error) => failure::usage(&error),
    };
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        None => tour::run(&cli.tour),
        Some(Command::Info(options)) => info::run(&options),
        Some(Command::Verify(options)) => verify::run(&options),
        Some(Command::Bench(options)) => bench::run(&options),
        Some(Command::Replay(options)) => replay::run(&options),
        Some(Command::Train(options)) => train::run(&options),
        Some(Command::Race(options)) => race::run(&options),
        Some(Command::Shader(options)) => shader::run(&options),
    }
}
