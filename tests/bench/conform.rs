//! `bench conform`: how long `bulkhead conform` takes for each driver of `channels/` in Rust, with its scripts, compiling included.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::host::{driver, root};
use crate::report::line;

/// The drivers, and what is aimed at.
const DRIVERS: [(&str, &str); 3] = [
    ("line", "none"),
    ("signal", "none"),
    ("modbus", "at most 60"),
];

/// Measures and prints.
pub(crate) fn run(json: bool) -> Result<()> {
    let program = std::env::var_os("BULKHEAD_BIN").map_or_else(
        || root().map(|root| root.join("target/release/bulkhead")),
        |program| Ok(program.into()),
    )?;
    for (name, aim) in DRIVERS {
        eprintln!("bench: conform on {name}");
        let began = Instant::now();
        let done = Command::new(&program)
            .arg("conform")
            .arg(driver(name)?)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be run", program.display()))?;
        let seconds = began.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&done.stdout);
        let summary = said.lines().last().unwrap_or_default();
        ensure!(
            done.status.success() && summary.starts_with("conformance "),
            "conform on {name} ended with {}: {summary}",
            done.status
        );
        if json {
            println!(r#"{{"bench":"conform","driver":"{name}","seconds":{seconds:.2}}}"#);
            continue;
        }
        line(&format!("conform on {name}"), seconds, "s", None, aim);
        println!("  {summary}");
    }
    Ok(())
}
