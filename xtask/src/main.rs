//! Everything that is done to this repository: `cargo xtask run | test | bench | soak | drivers | check`.
//!
//! It calls the tools that everybody has (cargo, rustup, apt-get, python3, gcc), shows each command before it runs,
//! and says how long it took. It is no build system: cargo decides what is out of date. It depends on little, so
//! that the first `cargo xtask` on a fresh machine starts within seconds.
//!
//! Standard output carries results only (counts of tests, JSON of the bench); progress goes to standard error.

mod bench;
mod check;
mod drivers;
mod host;
mod peers;
mod process;
mod python;
mod quickstart;
mod soak;
mod suite;

mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, run, test and measure Bulkhead.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build all drivers, and the guests of the tests, into target/drivers
    Drivers,
    /// Build everything and run examples/quickstart.toml against a simulated device
    Run(quickstart::Args),
    /// Install what the tests need, build everything and run every test
    Test(suite::Args),
    /// Measure; every figure beside its floor
    Bench(bench::Args),
    /// Run the loops of the tests at full length
    Soak(soak::Args),
    /// Check formatting, lints and documentation
    Check,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = process::forward_signals().and_then(|()| match cli.command {
        Command::Drivers => drivers::build()
            .and_then(|()| python::build())
            .map(|()| ExitCode::SUCCESS),
        Command::Run(args) => quickstart::run(&args),
        Command::Test(args) => suite::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Check => check::run(),
    });
    match (done, process::interrupted()) {
        (Ok(code), _) => code,
        (Err(_), Some(signal)) => {
            process::note("interrupted");
            // What a shell reports for a process that a signal ended.
            ExitCode::from(128 + u8::try_from(signal).unwrap_or(0))
        }
        (Err(error), None) => {
            process::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
