//! The resident memory of a host with many idle channels. In a process of its own, so that nothing else counts.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::host::{BenchHost, driver};

/// Starts so many channels of `signal`, each with one tag that nobody polls, and prints the resident memory in bytes.
pub(crate) fn run(channels: usize) -> Result<()> {
    let driver = driver("signal")?;
    let mut text = String::new();
    for number in 0..channels {
        writeln!(
            text,
            "[[channel]]\nid = \"c{number}\"\ndriver = \"{}\"\ntag = [{{ name = \"t\", address = \"hold(0)\", type = \"float64\", access = \"rw\" }}]",
            driver.display()
        )?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let host = BenchHost::start(&text).await?;
        println!("{}", resident_bytes()?);
        host.stop().await
    })
}

/// The resident memory of this process, in bytes (proc(5), `statm`).
pub(crate) fn resident_bytes() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .context("statm has a second field")?
        .parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
