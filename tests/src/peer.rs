//! Devices: two written by others (see `tests/peers/README.md`), and our own simulated one.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::netns::{Place, Remote};
use crate::paths;
use crate::process::{Ended, Running};

/// Requests by unit and function code.
pub type Requests = BTreeMap<(u8, u8), u64>;

/// A Modbus TCP device, on loopback or at the other end of a wire. Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    running: Running,
    /// The address at which it listens.
    host: String,
    /// The port at which it listens.
    pub port: u16,
}

const LOOPBACK: &str = "127.0.0.1";

impl Peer {
    /// A device made of pymodbus.
    ///
    /// # Errors
    ///
    /// Where it is not installed or does not start.
    pub fn pymodbus() -> Result<Self> {
        Self::pymodbus_at(0)
    }

    /// The same on a given port: a device that comes back where it was.
    ///
    /// # Errors
    ///
    /// Where it is not installed or does not start.
    pub fn pymodbus_at(port: u16) -> Result<Self> {
        Self::pymodbus_as(&port.to_string())
    }

    /// The same over another transport: `rtu:PORT`, `tls:PORT:CERTIFICATE:KEY` or `serial:PATH`; the port of a serial line is 0.
    ///
    /// # Errors
    ///
    /// Where it is not installed or does not start.
    pub fn pymodbus_as(argument: &str) -> Result<Self> {
        let mut command = Command::new(paths::python()?);
        Self::start(LOOPBACK, command.args(pymodbus(argument)))
    }

    /// The same at the other end of a wire.
    ///
    /// # Errors
    ///
    /// Where it is not installed or does not start.
    pub fn pymodbus_in(remote: &Remote, port: u16) -> Result<Self> {
        let mut command = remote.command(&paths::python()?.display().to_string());
        let arguments = pymodbus(&port.to_string());
        Self::start(&remote.far, command.args(arguments).arg(&remote.far))
    }

    /// A device made of libmodbus.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not start.
    pub fn libmodbus() -> Result<Self> {
        Self::libmodbus_at(0)
    }

    /// The same on a given port.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not start.
    pub fn libmodbus_at(port: u16) -> Result<Self> {
        let mut command = Command::new(paths::compiled_peer("libmodbus_server")?);
        Self::start(LOOPBACK, command.arg(port.to_string()))
    }

    /// `bulkhead simulate modbus` on a free port, with further options.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not start.
    pub fn simulated(options: &[&str]) -> Result<Self> {
        Self::simulated_at(0, options)
    }

    /// The same on a given port.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not start.
    pub fn simulated_at(port: u16, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(paths::bulkhead()?);
        Self::start(
            LOOPBACK,
            command.args(simulated(LOOPBACK, port)).args(options),
        )
    }

    /// The same at the other end of a wire.
    ///
    /// # Errors
    ///
    /// Where it is not built or does not start.
    pub fn simulated_in(remote: &Remote, port: u16, options: &[&str]) -> Result<Self> {
        let mut command = remote.command(&paths::bulkhead()?.display().to_string());
        command.args(simulated(&remote.far, port)).args(options);
        Self::start(&remote.far, &mut command)
    }

    fn start(host: &str, command: &mut Command) -> Result<Self> {
        let running = Running::start(command)?;
        let port = running.out().wait_for(0, port);
        let port = port.with_context(|| {
            format!(
                "no device; standard error says:\n{}",
                running.err().so_far().join("\n")
            )
        })?;
        Ok(Self {
            running,
            host: host.to_owned(),
            port,
        })
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Running {
        &self.running
    }

    /// `127.0.0.1:PORT`, or where else it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Holding registers as the device holds them, read without the network.
    ///
    /// # Errors
    ///
    /// Where it has no such registers.
    pub fn holding(&mut self, unit: u8, address: u16, count: u16) -> Result<Vec<u16>> {
        numbers(&self.ask(&format!("holding {unit} {address} {count}"))?)
    }

    /// Coils as the device holds them, read without the network.
    ///
    /// # Errors
    ///
    /// Where it has no such coils.
    pub fn coils(&mut self, unit: u8, address: u16, count: u16) -> Result<Vec<bool>> {
        let coils: Vec<u8> = numbers(&self.ask(&format!("coils {unit} {address} {count}"))?)?;
        Ok(coils.into_iter().map(|coil| coil == 1).collect())
    }

    /// The requests so far, counted at the device.
    ///
    /// # Errors
    ///
    /// Where it does not answer.
    pub fn requests(&mut self) -> Result<Requests> {
        let answer = self.ask("counts")?;
        let parse = |entry: &str| {
            let (unit, rest) = entry.split_once(':')?;
            let (function, count) = rest.split_once('=')?;
            Some((
                (unit.parse().ok()?, function.parse().ok()?),
                count.parse().ok()?,
            ))
        };
        let entries = answer
            .split_whitespace()
            .map(|entry| parse(entry).with_context(|| format!("`{entry}` is no count")));
        entries.collect()
    }

    /// All that a simulated device counts: requests, faults, connections.
    ///
    /// # Errors
    ///
    /// Where it does not answer, or is none of ours.
    pub fn stats(&mut self) -> Result<serde_json::Value> {
        let answer = self.ask("stats")?;
        serde_json::from_str(&answer).with_context(|| format!("`{answer}` is no JSON"))
    }

    /// From now on these faults (as `--fault` takes them), or none. Simulated devices only.
    ///
    /// # Errors
    ///
    /// Where a fault is unknown.
    pub fn set_faults(&mut self, faults: &[&str]) -> Result<()> {
        self.ask(&format!("faults {}", faults.join(" "))).map(drop)
    }

    /// From now on a unit answers everything with this exception, or as it should. pymodbus only.
    ///
    /// # Errors
    ///
    /// Where it does not answer, or is another device.
    pub fn set_exceptions(&mut self, unit: u8, code: Option<u8>) -> Result<()> {
        let code = code.map_or("off".to_owned(), |code| code.to_string());
        self.ask(&format!("exceptions {unit} {code}")).map(drop)
    }

    /// From now on each answer takes so much longer. pymodbus only.
    ///
    /// # Errors
    ///
    /// Where it does not answer, or is another device.
    pub fn set_delay(&mut self, delay: std::time::Duration) -> Result<()> {
        self.ask(&format!("delay {}", delay.as_millis())).map(drop)
    }

    /// Asks it to end, with SIGTERM, and returns all that it printed.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn end(self) -> Result<Ended> {
        self.running.terminate()
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        let from = self.running.out().count();
        self.running.tell(question)?;
        let answer = self
            .running
            .out()
            .wait_for(from, |line| Some(line.to_owned()))?;
        if answer.starts_with("error") {
            bail!("`{question}` is answered by `{answer}`");
        }
        Ok(answer)
    }
}

fn pymodbus(argument: &str) -> [String; 2] {
    let script = paths::root().join("tests/peers/pymodbus_server.py");
    [script.display().to_string(), argument.to_owned()]
}

fn simulated(host: &str, port: u16) -> [String; 5] {
    let listen = format!("{host}:{port}");
    ["simulate", "modbus", "--control", "--listen", &listen].map(str::to_owned)
}

/// The port in a line such as `listening 5020`, `listening on 127.0.0.1:5020` or `{"listening":"127.0.0.1:5020"}`.
fn port(line: &str) -> Option<u16> {
    let line = line.trim_end_matches(['"', '}']);
    line.contains("listening")
        .then(|| line.rsplit([' ', ':']).next()?.parse().ok())?
}

fn numbers<T: std::str::FromStr>(answer: &str) -> Result<Vec<T>> {
    let parse = |word: &str| {
        word.parse()
            .ok()
            .with_context(|| format!("`{word}` is no value"))
    };
    answer.split_whitespace().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ready_line_names_its_port() {
        for line in [
            "listening 5020",
            "listening on 127.0.0.1:5020",
            r#"{"listening":"127.0.0.1:5020"}"#,
        ] {
            assert_eq!(port(line), Some(5020), "{line}");
        }
        for line in ["", "listening", "1 requests 5020", "listening on nothing"] {
            assert_eq!(port(line), None, "{line}");
        }
    }
}
