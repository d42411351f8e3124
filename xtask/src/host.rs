//! The host itself.

use std::path::PathBuf;

use anyhow::Result;

use crate::{process, workspace};

/// Builds the `bulkhead` binary and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    process::run(workspace::cargo().args(["build", "--release", "--package", "bulkhead"]))?;
    Ok(workspace::cargo_target().join("release/bulkhead"))
}
