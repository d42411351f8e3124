//! A host, a device at the other end of a wire, and all that can come between them, one after the other or at once.
//!
//! The device's values say what they are: one counts how often it was read, so that an old value shown as new is noticed; one is
//! the unit's number, one follows from its address, and one is what was written last. [`Values::check`] reads a whole recording with that.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::firewall::Firewall as _;
use crate::netns::{Network, Remote};
use crate::proxy::{Manner, Proxy};
use crate::{Bulkhead, NameServer, Peer, Recorder, Recording, Traffic};

/// The port of every device.
pub const PORT: u16 = 502;
/// The period of the polls.
pub const PERIOD: Duration = Duration::from_millis(100);
/// The name of the device, where it is called by its name.
const NAME: &str = "plc.example";
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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Reset,
        Self::BlackHole,
        Self::Loss,
        Self::Delay,
        Self::OneByte,
        Self::PeerRestart,
        Self::NameMoved,
        Self::AddressRemoved,
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
        }
    }

    /// Whether nothing can be read while it lasts. Otherwise it is only slow.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        !matches!(self, Self::Loss | Self::Delay | Self::OneByte)
    }

    const fn is_in_the_proxy(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::Reset | Self::Delay | Self::OneByte
        )
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
    /// Where the link leads.
    pub target: String,
    remote: Remote,
    /// Where it moves to.
    elsewhere: Option<Remote>,
    proxy: Option<Proxy>,
    names: Option<NameServer>,
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
        let remote = network.machine(number)?;
        let device = Peer::simulated_in(&remote, PORT, &["--units", "1-2"])?;
        let (mut elsewhere, mut proxy, mut names) = (None, None, None);
        let target = if fault.is_in_the_proxy() {
            let there = SocketAddr::new(remote.far.parse()?, PORT);
            proxy
                .insert(Proxy::start("127.0.0.1:0", there)?)
                .address
                .to_string()
        } else if fault == Fault::NameMoved {
            elsewhere = Some(network.machine(number + 128)?);
            let server = names.insert(NameServer::start(&format!("{NAME_SERVER}:53"))?);
            network.name_server(NAME_SERVER)?;
            server.set(NAME, &[remote.far.parse()?]);
            format!("{NAME}:{PORT}")
        } else {
            device.address()
        };
        let period = PERIOD.as_millis();
        let timeout = timeout.as_millis();
        let host = Bulkhead::start(&format!(
            r#"
            [[channel]]
            id = "plant"
            driver = "$DRIVERS/modbus.wasm"
            links.plc = {{ connect = "tcp://{target}"{link} }}
            settings = {{ timeout_ms = {timeout}, max_gap_registers = 125 }}
            [[channel.group]]
            name = "all"
            period = "{period}ms"
            tags = [
                {{ name = "reads", address = "holding:0", type = "uint16" }},
                {{ name = "unit", address = "holding:100", type = "uint16" }},
                {{ name = "far", address = "holding:300", type = "uint16" }},
                {{ name = "written", address = "holding:210", type = "uint16", access = "rw" }},
            ]
            "#
        ))?;
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
            elsewhere,
            proxy,
            names,
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
        match self.fault {
            Fault::Refused => self.proxy()?.refuse()?,
            Fault::Reset => self.proxy()?.reset_all()?,
            Fault::BlackHole => self.remote.black_hole()?,
            Fault::Loss => self.remote.lose(30)?,
            Fault::Delay => self.proxy()?.set(Manner {
                delay: Duration::from_millis(500),
                ..Manner::default()
            })?,
            Fault::OneByte => self.proxy()?.set(Manner {
                one_byte: true,
                ..Manner::default()
            })?,
            Fault::PeerRestart => drop(self.device.take()),
            Fault::NameMoved => {
                let elsewhere = self.elsewhere.as_ref().context("it has where to go")?;
                drop(self.device.take());
                let options = ["--units", "1-2"];
                self.device = Some(Peer::simulated_in(elsewhere, PORT, &options)?);
                self.restarts += 1;
            }
            Fault::AddressRemoved => self.remote.remove_address(self.network)?,
        }
        now_ns()
    }

    /// Takes it away. Gives the moment at which nothing is in the way any more.
    ///
    /// # Errors
    ///
    /// Where it is not there.
    pub fn lift(&mut self) -> Result<u64> {
        match self.fault {
            Fault::Refused | Fault::Reset => self.proxy()?.admit()?,
            Fault::Delay | Fault::OneByte => self.proxy()?.set(Manner::default())?,
            Fault::BlackHole | Fault::Loss => {
                let dropped = self.remote.heal()?;
                ensure!(dropped > 0, "no packet came into the fault's way");
            }
            Fault::PeerRestart => {
                let options = ["--units", "1-2"];
                self.device = Some(Peer::simulated_in(&self.remote, PORT, &options)?);
                self.restarts += 1;
            }
            Fault::NameMoved => {
                let (Some(names), Some(elsewhere)) = (&self.names, &mut self.elsewhere) else {
                    anyhow::bail!("it has no name")
                };
                names.set(NAME, &[elsewhere.far.parse::<Ipv4Addr>()?]);
                // So that it can move again.
                std::mem::swap(elsewhere, &mut self.remote);
            }
            Fault::AddressRemoved => self.remote.restore_address(self.network)?,
        }
        now_ns()
    }

    /// Where the device is now, past any proxy.
    ///
    /// # Errors
    ///
    /// Where it is killed.
    pub fn device_address(&self) -> Result<SocketAddr> {
        let device = self.device.as_ref().context("the device is killed")?;
        Ok(device.address().parse()?)
    }

    fn proxy(&mut self) -> Result<&mut Proxy> {
        self.proxy.as_mut().context("this fault has a proxy")
    }
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
