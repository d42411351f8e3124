//! The resident memory of a host with many idle channels. In a process of its own, so that nothing else counts.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::host::{BenchHost, driver};

/// Starts so many channels of `signal`, each with one tag that nobody polls, and prints its memory in KiB: what it really holds, and what is resident in all mappings.
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
        println!("{} {}", rollup_kib("Pss:")?, rollup_kib("Rss:")?);
        host.stop().await;
        Ok(())
    })
}

/// A figure of this process in KiB (proc(5), `smaps_rollup`). `Pss` is what it really holds: a page that stands in a
/// thousand instances, such as one of the driver's constants, counts once. `Rss` counts it a thousand times.
pub(crate) fn rollup_kib(key: &str) -> Result<u64> {
    rollup_kib_of(std::process::id(), key)
}

/// The same of another process.
pub(crate) fn rollup_kib_of(process: u32, key: &str) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .context("smaps_rollup has the figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
