//! Drivers and test guests: components in `target/drivers/<name>.wasm` and `target/drivers/guests/<name>.wasm`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::{self, Package};

/// The compilation target of every guest.
const TARGET: &str = "wasm32-wasip2";

/// The folder of the drivers, and where they land.
const DRIVERS: (&str, &str) = ("channels", "drivers");

/// The folder of the guests that the tests use, and where they land.
const GUESTS: (&str, &str) = ("tests/guests", "drivers/guests");

/// Builds all of them, and copies those that changed.
pub(crate) fn build() -> Result<()> {
    add_target()?;
    let mut wanted: Vec<(Package, &str)> = Vec::new();
    for (from, to) in [DRIVERS, GUESTS] {
        wanted.extend(
            workspace::packages(from)?
                .into_iter()
                .map(|package| (package, to)),
        );
    }

    let mut cargo = workspace::cargo();
    // Backtraces of a fault name source lines; the code stays as fast.
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    cargo.args(["build", "--release", "--target", TARGET]);
    for (package, _) in &wanted {
        cargo.args(["--package", &package.name]);
    }
    process::run(&mut cargo)?;

    let built = workspace::cargo_target().join(TARGET).join("release");
    let mut copied = 0;
    for (package, to) in &wanted {
        let from = built
            .join(package.name.replace('-', "_"))
            .with_extension("wasm");
        let to = workspace::target()
            .join(to)
            .join(&package.name)
            .with_extension("wasm");
        copied += usize::from(workspace::copy_if_changed(&from, &to).with_context(|| {
            format!("{} builds no component; its Cargo.toml needs `crate-type = [\"cdylib\"]` under [lib]", package.name)
        })?);
    }
    process::note(&format!(
        "{} components in target/drivers, {copied} of them new",
        wanted.len()
    ));
    Ok(())
}

/// The names of the guests, which nobody can test natively: they trap, loop and leak.
pub(crate) fn guests() -> Result<Vec<Package>> {
    workspace::packages(GUESTS.0)
}

/// Adds the target to the toolchain that this repository pins.
fn add_target() -> Result<()> {
    let rustup = || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(workspace::root());
        rustup
    };
    let Some(installed) = process::ask(rustup().args(["target", "list", "--installed"])) else {
        // A toolchain from elsewhere may have the target all the same.
        if has_target_without_rustup() {
            return Ok(());
        }
        bail!(
            "drivers are compiled for {TARGET}, and rustup, which would add it, cannot be run; \
             install rustup (https://rustup.rs), or add the target to your toolchain by other means"
        );
    };
    if installed.lines().any(|line| line == TARGET) {
        return Ok(());
    }
    process::run(rustup().args(["target", "add", TARGET]))
        .with_context(|| format!("cannot add {TARGET}; try `rustup target add {TARGET}` by hand"))
}

fn has_target_without_rustup() -> bool {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(workspace::root())
        .args(["--print", "target-libdir", "--target", TARGET]);
    process::ask(&mut rustc).is_some_and(|path| std::path::Path::new(&path).is_dir())
}
