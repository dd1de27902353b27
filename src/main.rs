//! The command line: parsing and printing only. Everything it runs is in the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
