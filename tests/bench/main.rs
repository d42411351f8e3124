//! The bench: every figure beside its floor, measured in the same run. `cargo xtask bench [NAME] [--json]` builds and runs it.
//!
//! These machines are noisy, so what counts are ratios between figures of one run, and none of them is a test: nothing
//! fails here because it was slow.

mod bare;
mod host;
mod idle;
mod report;
mod turn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// As the host has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Bulkhead.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
    /// One JSON object per bench instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// What a turn, a sample, a restart and an idle channel cost
    Turn,
    /// For `turn`: a host of so many idle channels in a process of its own, which prints its memory
    #[command(hide = true)]
    Idle {
        /// How many.
        channels: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.bench.unwrap_or(Bench::Turn) {
        Bench::Turn => turn::run(arguments.json),
        Bench::Idle { channels } => idle::run(channels),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(3)
        }
    }
}
