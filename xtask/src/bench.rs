//! `cargo xtask bench`: everything is measured by the binary `bench` of the crate `bulkhead-tests`.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{drivers, host, process, python, workspace};

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
    python::build()?;
    let bulkhead = host::build()?;
    // Of the workspace, as the host is: so wasmtime is compiled once.
    let build = ["build", "--release", "--workspace", "--bin", "bench"];
    process::run(workspace::cargo().args(build))?;
    let mut bench = Command::new(workspace::cargo_target().join("release/bench"));
    bench.args(&args.arguments);
    let status = process::status(bench.env("BULKHEAD_BIN", bulkhead))?;
    Ok(process::exit_code(status))
}
