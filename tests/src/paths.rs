//! Where `cargo xtask` puts what the tests use.

use std::env::var_os;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the repository")
}

/// The host: `BULKHEAD_BIN` where that is set, else `target/release/bulkhead`.
///
/// # Errors
///
/// Where it is not built.
pub fn bulkhead() -> Result<PathBuf> {
    let path =
        var_os("BULKHEAD_BIN").map_or_else(|| target().join("release/bulkhead"), PathBuf::from);
    existing(path, "cargo build --release -p bulkhead")
}

/// A driver in `target/drivers`.
///
/// # Errors
///
/// Where it is not built.
pub fn driver(name: &str) -> Result<PathBuf> {
    existing(
        target().join("drivers").join(name).with_extension("wasm"),
        "cargo xtask drivers",
    )
}

/// A guest in `target/drivers/guests`.
///
/// # Errors
///
/// Where it is not built.
pub fn guest(name: &str) -> Result<PathBuf> {
    existing(
        target()
            .join("drivers/guests")
            .join(name)
            .with_extension("wasm"),
        "cargo xtask drivers",
    )
}

/// The Python that has pymodbus: `BULKHEAD_PYTHON` where that is set, else the one in `target/venv`.
pub fn python() -> Result<PathBuf> {
    let path =
        var_os("BULKHEAD_PYTHON").map_or_else(|| target().join("venv/bin/python"), PathBuf::from);
    existing(path, "cargo xtask test")
}

/// A peer written in C, in `target/peers`.
pub(crate) fn compiled_peer(name: &str) -> Result<PathBuf> {
    existing(target().join("peers").join(name), "cargo xtask test")
}

pub(crate) fn target() -> PathBuf {
    root().join("target")
}

fn existing(path: PathBuf, remedy: &str) -> Result<PathBuf> {
    ensure!(
        path.is_file(),
        "{} does not exist; `{remedy}` makes it",
        path.display()
    );
    Ok(path)
}
