//! A host, a device at the other end of a wire, and all that can come between them, one after the other or at once.
//!
//! The device's values say what they are: one counts how often it was read, so that an old value shown as new is noticed; one is
//! the unit's number, one follows from its address, and one is what was written last. [`Values::check`] reads a whole recording with that.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::certificates::{Authority, Certificate};
use crate::firewall::Firewall as _;
use crate::netns::{Network, Remote};
use crate::proxy::{Manner, Proxy};
use crate::{Bulkhead, Folder, NameServer, Peer, Recorder, Recording, Running, Traffic};

/// The port of every device.
pub const PORT: u16 = 502;
/// The period of the polls.
pub const PERIOD: Duration = Duration::from_millis(100);
/// The name of the device, where it is called by its name.
const NAME: &str = "plc.example";
/// Who signs its certificates, and for what; TLS has a port of its own.
const AUTHORITY: &str = "authority";
const TLS_NAME: &str = "IP:127.0.0.1";
const TLS_PORT: u16 = 802;
/// Where the name server listens.
const NAME_SERVER: &str = "127.0.0.9";
/// What unit 1 holds in its register 300, of its own accord.
const FAR: u64 = 1_300;
/// What it holds in its register 210 before anybody writes there.
const UNWRITTEN: u64 = 1_210;

/// What comes between host and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection ends, and nobody listens any more.
    Refused,
    /// Connections are reset, those that come again at once.
    Reset,
    /// Packets vanish, both ways, without a word.
    BlackHole,
    /// Three packets of ten vanish, each way.
    Loss,
    /// Half a second more, each way.
    Delay,
    /// Every byte comes alone.
    OneByte,
    /// The device is killed and comes back.
    PeerRestart,
    /// The device moves to another address, and its name follows later.
    NameMoved,
    /// The host loses its address on the wire.
    AddressRemoved,
    /// The device shows a certificate that has expired, and then a new one. By TLS.
    CertificateExpired,
    /// The serial line is pulled out of the machine. A pseudo-terminal, by RTU.
    TerminalPulled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Refused,
        Self::Reset,
        Self::BlackHole,
        Self::Loss,
        Self::Delay,
        Self::OneByte,
        Self::PeerRestart,
        Self::NameMoved,
        Self::AddressRemoved,
        Self::CertificateExpired,
        Self::TerminalPulled,
    ];

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::BlackHole => "black hole without FIN",
            Self::Loss => "30 % loss",
            Self::Delay => "500 ms delay",
            Self::OneByte => "one byte per segment",
            Self::PeerRestart => "peer restarts",
            Self::NameMoved => "DNS change",
            Self::AddressRemoved => "address removed",
            Self::CertificateExpired => "certificate expired",
            Self::TerminalPulled => "pseudo-terminal pulled",
        }
    }

    /// Whether nothing can be read while it lasts. Otherwise it is only slow.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        !matches!(self, Self::Loss | Self::Delay | Self::OneByte)
    }

    /// Whether the link is plain TCP, so that anybody can dial what it leads to.
    #[must_use]
    pub const fn is_over_tcp(self) -> bool {
        !matches!(self, Self::CertificateExpired | Self::TerminalPulled)
    }
}

/// How a plant is made.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What will come between host and device.
    pub fault: Fault,
    /// Which wire it uses, 0 to 127; no other plant of this network has it.
    pub number: u8,
    /// Further keys of the link, such as `, base_delay = "100ms"`.
    pub link: &'a str,
    /// How long the driver waits for an answer.
    pub timeout: Duration,
}

/// A host and its device.
#[derive(Debug)]
pub struct Plant<'n> {
    network: &'n Network,
    fault: Fault,
    /// The host.
    pub host: Bulkhead,
    /// The device; `None` while it is killed.
    pub device: Option<Peer>,
    /// How often the device began to count anew.
    pub restarts: usize,
    /// Where the link leads, as the host dials it.
    pub target: String,
    remote: Remote,
    way: Way,
}

/// What lies between host and device.
#[derive(Debug)]
enum Way {
    /// The wire.
    Wire,
    /// A proxy at the host's end of it.
    Proxy(Proxy),
    /// A name, and the machine that the device will move to.
    Name(NameServer, Remote),
    /// The proxy, and at the device's end what shows a certificate.
    Tls(Proxy, Authority, Option<Running>),
    /// A pseudo-terminal at this path; `None` while it is pulled.
    Terminal(PathBuf, Option<Running>),
}

impl<'n> Plant<'n> {
    /// Starts it, and waits until all is well.
    ///
    /// # Errors
    ///
    /// Where something does not start.
    pub fn start(network: &'n Network, options: Options<'_>) -> Result<Self> {
        let Options {
            fault,
            number,
            link,
            timeout,
        } = options;
        let folder = Folder::new()?;
        let remote = network.machine(number)?;
        let device = device(&remote, fault)?;
        let way = Way::new(network, &remote, &folder, fault)?;
        let target = match &way {
            Way::Wire => device.address(),
            Way::Proxy(proxy) | Way::Tls(proxy, ..) => proxy.address.to_string(),
            Way::Name(..) => format!("{NAME}:{PORT}"),
            Way::Terminal(path, _) => path.display().to_string(),
        };
        let connect = match &way {
            Way::Tls(..) => format!(r#""tls://{target}", ca = "{AUTHORITY}.crt""#),
            Way::Terminal(..) => format!(r#""serial://{target}""#),
            _ => format!(r#""tcp://{target}""#),
        };
        let period = PERIOD.as_millis();
        let timeout = timeout.as_millis();
        let toml = format!(
            r#"
            [[channel]]
            id = "plant"
            driver = "$DRIVERS/modbus.wasm"
            links.plc = {{ connect = {connect}{link} }}
            settings = {{ timeout_ms = {timeout}, max_gap_registers = 125 }}
            [[channel.group]]
            name = "all"
            period = "{period}ms"
            stale_after = "never"
            tags = [
                {{ name = "reads", address = "holding:0", type = "uint16" }},
                {{ name = "unit", address = "holding:100", type = "uint16" }},
                {{ name = "far", address = "holding:300", type = "uint16" }},
                {{ name = "written", address = "holding:210", type = "uint16", access = "rw" }},
            ]
            "#
        );
        let host = Bulkhead::start_in(folder, &toml, &[])?;
        host.get_until("/api/v1/status", |status| {
            (status["tags"]["good"] == 4).then_some(())
        })?;
        Ok(Self {
            network,
            fault,
            host,
            device: Some(device),
            restarts: 0,
            target,
            remote,
            way,
        })
    }

    /// Records what the plant's channel says from now on.
    ///
    /// # Errors
    ///
    /// Where the host does not let us.
    pub fn record(&self) -> Result<Recorder> {
        let long = Duration::from_secs(3600);
        let stream = self.host.stream_for("/api/v1/stream?channel=plant", long)?;
        Ok(Recorder::start(stream))
    }

    /// Reads and writes from now on.
    #[must_use]
    pub fn traffic(&self, timeout: Duration) -> Traffic {
        Traffic::start(&self.host.url, "plant/far", "plant/written", timeout)
    }

    /// Lets the fault strike. Gives the moment.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn inject(&mut self) -> Result<u64> {
        match (self.fault, &mut self.way) {
            (Fault::Refused, Way::Proxy(proxy)) => proxy.refuse()?,
            (Fault::Reset, Way::Proxy(proxy)) => proxy.reset_all()?,
            (Fault::Delay, Way::Proxy(proxy)) => proxy.set(Manner {
                delay: Duration::from_millis(500),
                ..Manner::default()
            })?,
            (Fault::OneByte, Way::Proxy(proxy)) => proxy.set(Manner {
                one_byte: true,
                ..Manner::default()
            })?,
            (Fault::BlackHole, _) => self.remote.black_hole()?,
            (Fault::Loss, _) => self.remote.lose(30)?,
            (Fault::PeerRestart, _) => drop(self.device.take()),
            (Fault::AddressRemoved, _) => self.remote.remove_address(self.network)?,
            (_, Way::Name(_, elsewhere)) => {
                drop(self.device.take());
                self.device = Some(device(elsewhere, self.fault)?);
                self.restarts += 1;
            }
            (_, Way::Tls(proxy, authority, shown)) => {
                let expired = authority.sign("expired", TLS_NAME, -1)?;
                show_instead(shown, &self.remote, &expired)?;
                // A certificate is looked at when a connection begins.
                proxy.cut()?;
            }
            (_, Way::Terminal(_, terminal)) => drop(terminal.take()),
            (fault, way) => bail!("{} cannot happen on {way:?}", fault.name()),
        }
        now_ns()
    }

    /// Takes it away. Gives the moment at which nothing is in the way any more.
    ///
    /// # Errors
    ///
    /// Where it is not there.
    pub fn lift(&mut self) -> Result<u64> {
        match (self.fault, &mut self.way) {
            (Fault::Refused | Fault::Reset, Way::Proxy(proxy)) => proxy.admit()?,
            (_, Way::Proxy(proxy)) => proxy.set(Manner::default())?,
            (Fault::BlackHole | Fault::Loss, _) => {
                let dropped = self.remote.heal()?;
                ensure!(dropped > 0, "no packet came into the fault's way");
            }
            (Fault::PeerRestart, _) => {
                self.device = Some(device(&self.remote, self.fault)?);
                self.restarts += 1;
            }
            (Fault::AddressRemoved, _) => self.remote.restore_address(self.network)?,
            (_, Way::Name(names, elsewhere)) => {
                names.set(NAME, &[elsewhere.far.parse::<Ipv4Addr>()?]);
                // So that it can move again.
                std::mem::swap(elsewhere, &mut self.remote);
            }
            (_, Way::Tls(_, authority, shown)) => {
                let renewed = authority.sign("renewed", TLS_NAME, 30)?;
                show_instead(shown, &self.remote, &renewed)?;
            }
            (_, Way::Terminal(path, terminal)) => *terminal = Some(plug(path, &self.remote)?),
            (fault, way) => bail!("{} cannot happen on {way:?}", fault.name()),
        }
        now_ns()
    }
}

impl Way {
    fn new(network: &Network, remote: &Remote, folder: &Folder, fault: Fault) -> Result<Self> {
        let proxy = |port| -> Result<Proxy> {
            let there = SocketAddr::new(remote.far.parse()?, port);
            Proxy::start("127.0.0.1:0", there)
        };
        Ok(match fault {
            Fault::Refused | Fault::Reset | Fault::Delay | Fault::OneByte => {
                Self::Proxy(proxy(PORT)?)
            }
            Fault::BlackHole | Fault::Loss | Fault::PeerRestart | Fault::AddressRemoved => {
                Self::Wire
            }
            Fault::NameMoved => {
                let server = NameServer::start(&format!("{NAME_SERVER}:53"))?;
                network.name_server(NAME_SERVER)?;
                server.set(NAME, &[remote.far.parse()?]);
                Self::Name(server, network.machine(remote.number + 128)?)
            }
            Fault::CertificateExpired => {
                let authority = Authority::new(folder.path(), AUTHORITY)?;
                let first = authority.sign("first", TLS_NAME, 30)?;
                let shown = show(remote, &first)?;
                Self::Tls(proxy(TLS_PORT)?, authority, Some(shown))
            }
            Fault::TerminalPulled => {
                let path = folder.path().join("tty");
                let terminal = plug(&path, remote)?;
                Self::Terminal(path, Some(terminal))
            }
        })
    }
}

fn device(remote: &Remote, fault: Fault) -> Result<Peer> {
    let framing = match fault {
        Fault::TerminalPulled => "rtu",
        _ => "tcp",
    };
    let options = ["--units", "1-2", "--framing", framing];
    Peer::simulated_in(remote, PORT, &options)
}

/// Speaks TLS at the machine, with this certificate, and hands on what it hears to the device there.
fn show(remote: &Remote, certificate: &Certificate) -> Result<Running> {
    let listen = format!(
        "OPENSSL-LISTEN:{TLS_PORT},bind={},reuseaddr,fork,verify=0,cert={},key={}",
        remote.far,
        certificate.cert.display(),
        certificate.key.display()
    );
    let device = format!("TCP:{}:{PORT}", remote.far);
    ready(
        remote.start("socat", &["-dd", &listen, &device])?,
        "listening on",
    )
}

/// The same in place of another; connections to that one go on.
fn show_instead(
    shown: &mut Option<Running>,
    remote: &Remote,
    certificate: &Certificate,
) -> Result<()> {
    // The port is free only once it is gone.
    drop(shown.take());
    *shown = Some(show(remote, certificate)?);
    Ok(())
}

/// Makes a pseudo-terminal of the device's line: the device file is there, and goes with the process.
fn plug(path: &Path, remote: &Remote) -> Result<Running> {
    let terminal = format!("PTY,link={},rawer", path.display());
    let device = format!("TCP:{}:{PORT}", remote.far);
    let mut socat = Command::new("socat");
    let socat = Running::start(socat.args(["-dd", &terminal, &device]))?;
    ready(socat, "starting data transfer loop")
}

fn ready(running: Running, said: &str) -> Result<Running> {
    let ready = |line: &str| line.contains(said).then_some(());
    running.err().wait_for(0, ready)?;
    Ok(running)
}

/// The wall clock, as samples carry it.
///
/// # Errors
///
/// Where the clock stands before 1970.
pub fn now_ns() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_nanos())?)
}

/// A sample of the plant's channel, of this tag.
#[must_use]
pub fn is_sample(event: &(String, Value), tag: &str) -> bool {
    event.0 == "sample" && event.1["channel"] == "plant" && event.1["tag"] == tag
}

/// What a recording says of the device's values.
#[derive(Debug, Default)]
pub struct Values {
    /// Good samples.
    pub good: u64,
    /// Those that the device cannot have held when they were read.
    pub wrong: Vec<String>,
    /// How often it began to count anew.
    pub restarts: usize,
}

impl Values {
    /// Reads all good samples. At most `written` was written.
    #[must_use]
    pub fn check(seen: &Recording, written: u64) -> Self {
        let mut values = Self::default();
        let (mut reads, mut last_written, mut fresh) = (0, 0, true);
        for (name, sample) in seen {
            if name != "sample" || sample["quality"] != "good" {
                continue;
            }
            values.good += 1;
            let value = sample["value"].as_u64();
            let right = match (sample["tag"].as_str(), value) {
                (Some("reads"), Some(value)) => {
                    let begins = value <= reads;
                    if begins {
                        values.restarts += 1;
                        fresh = true;
                    }
                    reads = value;
                    !begins || value < 100
                }
                (Some("unit"), Some(value)) => value == 1,
                (Some("far"), Some(value)) => value == FAR,
                (Some("written"), Some(UNWRITTEN)) => fresh,
                // Never back: a write that was given up must not come after a later one.
                (Some("written"), Some(value)) => {
                    let grows = value >= last_written || fresh;
                    (last_written, fresh) = (value, false);
                    grows && value <= written
                }
                _ => false,
            };
            if !right {
                values
                    .wrong
                    .push(format!("{sample}, after {reads} and {last_written}"));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// How many values are wrong, and how often the device began anew.
    fn check(samples: &[(&str, u64)], written: u64) -> (usize, usize) {
        let seen: Vec<(String, Value)> = samples
            .iter()
            .map(|(tag, value)| {
                let sample = json!({ "tag": tag, "value": value, "quality": "good" });
                ("sample".to_owned(), sample)
            })
            .collect();
        let values = Values::check(&seen, written);
        assert_eq!(values.good, samples.len() as u64);
        (values.wrong.len(), values.restarts)
    }

    #[test]
    fn wrong_values_are_noticed() {
        let device = [
            ("reads", 500),
            ("unit", 1),
            ("far", 1_300),
            ("written", 1_210),
        ];
        assert_eq!(check(&device, 0), (0, 0));
        let written = [
            ("written", 1_210),
            ("written", 1),
            ("written", 1),
            ("written", 3),
        ];
        assert_eq!(check(&written, 3), (0, 0));
        assert_eq!(check(&written, 2), (1, 0), "nobody wrote 3");
        assert_eq!(
            check(&[("written", 2), ("written", 1)], 2),
            (1, 0),
            "too late"
        );
        assert_eq!(check(&[("written", 2), ("written", 1_210)], 2), (1, 0));
        assert_eq!(
            check(&[("reads", 500), ("reads", 500)], 0),
            (1, 1),
            "shown again"
        );
        assert_eq!(
            check(&[("unit", 2), ("far", 1_301), ("else", 1)], 0),
            (3, 0)
        );
        let anew = [
            ("reads", 500),
            ("written", 7),
            ("reads", 2),
            ("written", 1_210),
        ];
        assert_eq!(check(&anew, 7), (0, 1));
    }
}
