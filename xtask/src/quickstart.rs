//! `cargo xtask run`: the first command on a fresh machine. Samples of a device, over real sockets, on the terminal.
//!
//! The example names the addresses of its device and of its HTTP API. Where one of them is taken on this machine, a
//! copy of the example with free ports is written to `target/quickstart.toml` and used instead, and we say so: the
//! example itself stays as it is printed in the README. The copy lies one folder below the root, as the example does,
//! so that paths in it lead to the same places.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process::{self, Group};
use crate::{drivers, host, workspace};

/// The configuration that runs, relative to the root.
const EXAMPLE: &str = "examples/quickstart.toml";

/// Where the simulated device listens in the example.
const DEVICE: &str = "127.0.0.1:5020";

/// Where the HTTP API listens in the example.
const API: &str = "127.0.0.1:7070";

/// Options of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Stop after so long, such as 10s
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<String>,
    /// Further options of `bulkhead run`, after --
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds everything, starts the device, runs the example and ends both.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    drivers::build()?;
    let bulkhead = host::build()?;

    let listen = if is_free(DEVICE) {
        DEVICE
    } else {
        "127.0.0.1:0"
    };
    let device = Device::start(&bulkhead, listen)?;
    let api = if is_free(API) {
        API.to_owned()
    } else {
        free_address()?
    };
    let config = config(&[(DEVICE, &device.address), (API, &api)])?;

    let mut run = Command::new(&bulkhead);
    run.current_dir(workspace::root()).arg("run").arg(config);
    if let Some(duration) = &args.duration {
        run.args(["--for", duration]);
    }
    run.args(&args.arguments).stdin(Stdio::null());
    process::note(&process::shown(&run));
    let ended = Group::spawn(&mut run)?.wait();
    drop(device);
    Ok(process::exit_code(ended?))
}

/// A simulated device on loopback, until it is dropped.
struct Device {
    address: String,
    group: Option<Group>,
    reports: Option<thread::JoinHandle<()>>,
}

impl Device {
    fn start(bulkhead: &Path, listen: &str) -> Result<Self> {
        let mut command = Command::new(bulkhead);
        command
            .current_dir(workspace::root())
            .args(["simulate", "modbus", "--listen", listen]);
        process::note(&process::shown(&command));
        let mut group = Group::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut output =
            BufReader::new(group.child.stdout.take().expect("standard output is piped"));
        let address = ready(&mut output)?;
        let reports = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                process::note(&format!("simulated device: {line}"));
            }
        });
        Ok(Self {
            address,
            group: Some(group),
            reports: Some(reports),
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // The output ends with the process, and with the output the thread.
        drop(self.group.take());
        if let Some(reports) = self.reports.take() {
            reports.join().ok();
        }
    }
}

/// Waits for the line that names the device's address.
fn ready(output: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    output
        .read_line(&mut line)
        .context("cannot read what the simulated device prints")?;
    match line.trim_end().strip_prefix("listening on ") {
        Some(address) => Ok(address.to_owned()),
        None if line.is_empty() => {
            bail!("the simulated device ended before it listened; see its message above")
        }
        None => bail!(
            "the simulated device printed `{}` instead of its address",
            line.trim_end()
        ),
    }
}

/// The example, or a copy of it where an address had to change.
fn config(addresses: &[(&str, &str)]) -> Result<PathBuf> {
    let path = workspace::root().join(EXAMPLE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {EXAMPLE}"))?;
    let Some(changed) = readdress(&text, addresses)? else {
        return Ok(PathBuf::from(EXAMPLE));
    };
    for (from, to) in addresses.iter().filter(|(from, to)| from != to) {
        process::note(&format!(
            "{from} is taken on this machine; using {to} instead"
        ));
    }
    fs::create_dir_all(workspace::target())?;
    let copy = workspace::target().join("quickstart.toml");
    fs::write(&copy, changed).with_context(|| format!("cannot write {}", copy.display()))?;
    process::note("running target/quickstart.toml, a copy of the example with these addresses");
    Ok(PathBuf::from("target/quickstart.toml"))
}

/// The text with its addresses replaced, or `None` where all stay as they are.
fn readdress(text: &str, addresses: &[(&str, &str)]) -> Result<Option<String>> {
    let mut changed = None;
    for (from, to) in addresses.iter().filter(|(from, to)| from != to) {
        let before = changed.as_deref().unwrap_or(text);
        if !before.contains(from) {
            bail!(
                "{from} is taken on this machine, and {EXAMPLE} does not name it, so it cannot be changed"
            );
        }
        changed = Some(before.replace(from, to));
    }
    Ok(changed)
}

fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

/// An address that was free a moment ago.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_change_only_where_they_must() {
        let text = "[http]\nlisten = \"127.0.0.1:7070\"\nlink = \"tcp://127.0.0.1:5020\"\n";
        assert_eq!(
            readdress(text, &[(DEVICE, DEVICE), (API, API)]).unwrap(),
            None
        );
        assert_eq!(
            readdress(text, &[(DEVICE, "127.0.0.1:1"), (API, "127.0.0.1:2")])
                .unwrap()
                .unwrap(),
            "[http]\nlisten = \"127.0.0.1:2\"\nlink = \"tcp://127.0.0.1:1\"\n"
        );
        assert!(
            readdress("", &[(DEVICE, "127.0.0.1:1")])
                .unwrap_err()
                .to_string()
                .contains(DEVICE)
        );
    }

    #[test]
    fn an_address_in_use_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(!is_free(&address));
        drop(listener);
        assert!(is_free(&free_address().unwrap()));
    }
}
