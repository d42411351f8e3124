//! The host itself.

use std::path::PathBuf;

use anyhow::Result;

use crate::{process, workspace};

/// Builds the `bulkhead` binary and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    // Of the workspace, though this binary alone: so its libraries get the features that the tests give them too, and
    // wasmtime is compiled once for both.
    let build = ["build", "--release", "--workspace", "--bin", "bulkhead"];
    process::run(workspace::cargo().args(build))?;
    Ok(workspace::cargo_target().join("release/bulkhead"))
}
