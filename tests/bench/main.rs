//! The bench: every figure beside its floor, measured in the same run. `cargo xtask bench [NAME] [--json]` builds and runs it.
//!
//! These machines are noisy, so what counts are ratios between figures of one run, and none of them is a test: nothing
//! fails here because it was slow.

mod bare;
mod conform;
mod containment;
mod density;
mod host;
mod idle;
mod ladder;
mod languages;
mod links;
mod outbox;
mod punctuality;
mod recovery;
mod report;
mod tags;
mod turn;
mod writes;

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
    /// What a driver that misbehaves costs the others
    Containment {
        /// Only the neighbours of culprits whose names contain this.
        culprit: Option<String>,
    },
    /// What five thousand channels cost, beside fifty
    Density,
    /// For a profiler: the samples of `turn` alone
    #[command(hide = true)]
    Samples {
        /// How often.
        rounds: usize,
    },
    /// How soon each fault between host and device is noticed, and overcome
    Links,
    /// What a write takes while its device is polled as fast as it answers
    Writes,
    /// How punctual a hundred channels are polled while one core is busy elsewhere
    Punctuality,
    /// What a hundred thousand tags cost: start, memory, a page of the list, a reload
    Tags,
    /// From a device through drivers to a broker, at 1,000 to 1,000,000 tags per second
    Ladder {
        /// Only the rung of this many tags per second.
        tags_per_s: Option<u64>,
        /// How many requests each driver has under way at once.
        #[arg(long, default_value_t = 1)]
        requests_at_once: u8,
    },
    /// Durable samples per second, beside the bare store
    Outbox,
    /// How long an outbox of many gigabytes takes to open after its writer was killed; only where it is named
    Recovery {
        /// How large it is.
        #[arg(default_value_t = 10)]
        gib: u64,
    },
    /// For `recovery`: fills an outbox until it is killed
    #[command(hide = true)]
    Fill {
        /// The file.
        path: std::path::PathBuf,
        /// How large it gets at least.
        gib: u64,
    },
    /// One driver in each language: size, compile time, a reading, memory
    Languages,
    /// How long `bulkhead conform` takes for each driver
    Conform,
    /// For `punctuality`: keeps a core busy
    #[command(hide = true)]
    Spin,
    /// For `density`: so many channels in a process of their own, which prints its figures
    #[command(hide = true)]
    Populated {
        /// How many.
        channels: usize,
    },
    /// For `turn`: a host of so many idle channels in a process of its own, which prints its memory
    #[command(hide = true)]
    Idle {
        /// How many.
        channels: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.bench {
        None => [
            Bench::Turn,
            Bench::Density,
            Bench::Containment { culprit: None },
            Bench::Links,
            Bench::Writes,
            Bench::Punctuality,
            Bench::Tags,
            Bench::Outbox,
            Bench::Languages,
            Bench::Conform,
            Bench::Ladder {
                tags_per_s: None,
                requests_at_once: 1,
            },
        ]
        .into_iter()
        .try_for_each(|bench| run(bench, arguments.json)),
        Some(bench) => run(bench, arguments.json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn run(bench: Bench, json: bool) -> anyhow::Result<()> {
    match bench {
        Bench::Turn => turn::run(json),
        Bench::Containment { culprit } => containment::run(json, culprit.as_deref()),
        Bench::Density => density::run(json),
        Bench::Samples { rounds } => turn::run_samples(rounds),
        Bench::Links => links::run(json),
        Bench::Writes => writes::run(json),
        Bench::Punctuality => punctuality::run(json),
        Bench::Tags => tags::run(json),
        Bench::Ladder {
            tags_per_s,
            requests_at_once,
        } => ladder::run(json, tags_per_s, requests_at_once),
        Bench::Outbox => outbox::run(json),
        Bench::Recovery { gib } => recovery::run(json, gib),
        Bench::Fill { path, gib } => recovery::fill(&path, gib),
        Bench::Languages => languages::run(json),
        Bench::Conform => conform::run(json),
        Bench::Spin => {
            punctuality::spin();
            Ok(())
        }
        Bench::Populated { channels } => density::populated(channels),
        Bench::Idle { channels } => idle::run(channels),
    }
}
