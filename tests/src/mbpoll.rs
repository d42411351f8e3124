//! `mbpoll`, a Modbus client written by others: what it reads is what a device holds.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// The table and the type as which mbpoll takes it (`mbpoll -h`, option `-t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Coils, 0 or 1.
    Coils,
    /// Discrete inputs, 0 or 1.
    Discrete,
    /// Input registers, 16 bits.
    Input,
    /// Holding registers, 16 bits.
    Holding,
    /// Pairs of holding registers, signed, ABCD.
    HoldingInt32,
    /// Pairs of holding registers, ABCD.
    HoldingFloat32,
    /// Pairs of holding registers, CDAB.
    HoldingFloat32Swapped,
}

impl Table {
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Coils => &["-t", "0"],
            Self::Discrete => &["-t", "1"],
            Self::Input => &["-t", "3"],
            Self::Holding => &["-t", "4"],
            Self::HoldingInt32 => &["-t", "4:int", "-B"],
            Self::HoldingFloat32 => &["-t", "4:float", "-B"],
            Self::HoldingFloat32Swapped => &["-t", "4:float"],
        }
    }
}

/// Reads `count` values from `first` on (addresses count from 0), each as mbpoll prints it; 16 bits without sign.
///
/// # Errors
///
/// Where the device refuses, with mbpoll's words for it, or where mbpoll is missing.
pub fn read(port: u16, unit: u8, table: Table, first: u16, count: u16) -> Result<Vec<String>> {
    let count_text = count.to_string();
    let out = run(port, unit, table, first, &["-c", &count_text], &[])?;
    // `[100]: \t53191 (-12345)`
    let values = out.lines().filter_map(|line| {
        line.strip_prefix('[')?
            .split_once("]:")?
            .1
            .split_whitespace()
            .next()
    });
    let values: Vec<String> = values.map(str::to_owned).collect();
    if values.len() != usize::from(count) {
        bail!(
            "mbpoll printed {} values instead of {count}:\n{out}",
            values.len()
        );
    }
    Ok(values)
}

/// Writes values from `first` on (addresses count from 0): one with function 5 or 6, several with 15 or 16.
///
/// # Errors
///
/// Where the device refuses, with mbpoll's words for it, or where mbpoll is missing.
pub fn write(port: u16, unit: u8, table: Table, first: u16, values: &[&str]) -> Result<()> {
    let out = run(port, unit, table, first, &[], values)?;
    if !out.contains("Written") {
        bail!("mbpoll did not say that it wrote:\n{out}");
    }
    Ok(())
}

fn run(
    port: u16,
    unit: u8,
    table: Table,
    first: u16,
    options: &[&str],
    values: &[&str],
) -> Result<String> {
    let mut mbpoll = Command::new("mbpoll");
    mbpoll.args([
        "-m",
        "tcp",
        "-0",
        "-1",
        "-q",
        "-o",
        "5",
        "-p",
        &port.to_string(),
    ]);
    mbpoll
        .args(["-a", &unit.to_string(), "-r", &first.to_string()])
        .args(table.options());
    // Values may be negative, which mbpoll takes for options without the two dashes.
    mbpoll.args(options).args(["--", "127.0.0.1"]).args(values);
    let output = mbpoll
        .output()
        .context("cannot run mbpoll; install it with `apt-get install mbpoll`")?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    // mbpoll goes on after some failures and exits with 0: its words count.
    if !output.status.success() || err.contains("failed") {
        bail!("mbpoll: {}", err.trim());
    }
    Ok(out.into_owned())
}
