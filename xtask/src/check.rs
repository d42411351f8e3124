//! `cargo xtask check`: what must hold before anything is merged, besides the tests.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{process, workspace};

/// Checks everything, and names all that failed.
pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    let mut step = |name, command: &mut std::process::Command| -> Result<()> {
        if !process::status(command)?.success() {
            failed.push(name);
        }
        Ok(())
    };
    step(
        "formatting (`cargo fmt` mends it)",
        workspace::cargo().args(["fmt", "--all", "--check"]),
    )?;
    let clippy = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    step("lints", workspace::cargo().args(clippy))?;
    let doc = [
        "doc",
        "--release",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    step(
        "documentation",
        workspace::cargo()
            .args(doc)
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
