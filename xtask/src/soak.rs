//! `cargo xtask soak`: the loops of the tests at full length. Takes hours; nothing in it is skipped or measured.

use std::process::ExitCode;

use anyhow::Result;

use crate::{drivers, host, peers, process, workspace};

/// The tests of `bulkhead-tests` that go round as often as `rounds(test, soak)` says. Whoever adds one names it here.
const LOOPS: &[&str] = &["kills", "sinks"];

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these, such as `kills`; all of them where none is named
    #[arg(value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(LOOPS))]
    names: Vec<String>,
}

/// Builds what the tests need, and runs those with loops.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let started = process::now();
    let python = peers::prepare()?;
    drivers::build()?;
    let bulkhead = host::build()?;
    let mut cargo = workspace::cargo();
    cargo
        .env("BULKHEAD_SOAK", "1")
        .env("BULKHEAD_BIN", bulkhead)
        .env("BULKHEAD_PYTHON", python);
    // Of the workspace, as in `test`: with other features wasmtime would be compiled once more.
    cargo.args(["test", "--release", "--no-fail-fast", "--workspace"]);
    for guest in drivers::guests()? {
        cargo.args(["--exclude", &guest.name]);
    }
    for name in LOOPS {
        if args.names.is_empty() || args.names.iter().any(|wanted| wanted == name) {
            cargo.args(["--test", name]);
        }
    }
    cargo.args(["--", "--nocapture", "--test-threads", "1"]);
    let status = process::status(&mut cargo)?;
    process::note(&format!(
        "all of it in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(process::exit_code(status))
}
