//! `cargo xtask bench`: everything is measured by the binary `bench` of the crate `bulkhead-tests`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{drivers, host, process, workspace};

/// What is passed on to the bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which bench, and options of its own; all benches where none is named
    #[arg(
        value_name = "NAME",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Builds what the benches use and runs them.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    drivers::build()?;
    let bulkhead = host::build()?;
    let mut bench = workspace::cargo();
    bench
        .args([
            "run",
            "--release",
            "--package",
            "bulkhead-tests",
            "--bin",
            "bench",
            "--",
        ])
        .args(&args.arguments);
    let status = process::status(bench.env("BULKHEAD_BIN", bulkhead))?;
    Ok(process::exit_code(status))
}
