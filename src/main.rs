//! The command line. It only parses options and prints results; the library does the work.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
