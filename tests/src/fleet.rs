//! Many links of one host to one device.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::netns::{Network, Remote};
use crate::plant::PORT;
use crate::{Bulkhead, Peer, Recorder};

/// One host with so many channels, a link each, that all lead to one device.
#[derive(Debug)]
pub struct Fleet {
    /// The host.
    pub host: Bulkhead,
    /// The device; `None` while it is killed.
    pub device: Option<Peer>,
    /// The machine that the device runs on.
    pub remote: Remote,
    links: usize,
}

impl Fleet {
    /// Starts it, and waits until all is well. `host_keys` stand under `[host]`; each channel polls once in a `period`.
    ///
    /// # Errors
    ///
    /// Where something does not start.
    pub fn start(
        network: &Network,
        links: usize,
        host_keys: &str,
        link_keys: &str,
        period: Duration,
    ) -> Result<Self> {
        let remote = network.machine(0)?;
        let device = device(&remote)?;
        let (target, period) = (device.address(), period.as_millis());
        let mut toml = format!("[host]\ndata_dir = \"$DIR/data\"\n{host_keys}\n");
        for number in 0..links {
            writeln!(
                toml,
                "[[channel]]\nid = \"c{number}\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
                 links.plc = {{ connect = \"tcp://{target}\"{link_keys} }}\n\
                 [[channel.group]]\nname = \"all\"\nperiod = \"{period}ms\"\n\
                 tags = [{{ name = \"reads\", address = \"holding:0\", type = \"uint16\" }}]"
            )?;
        }
        let fleet = Self {
            host: Bulkhead::start(&toml)?,
            device: Some(device),
            remote,
            links,
        };
        fleet.wait_for_good()?;
        Ok(fleet)
    }

    /// Kills the device.
    pub fn kill(&mut self) {
        self.device = None;
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn revive(&mut self) -> Result<()> {
        self.device = Some(device(&self.remote)?);
        Ok(())
    }

    /// Waits until every tag is good.
    ///
    /// # Errors
    ///
    /// Where one of them never is.
    pub fn wait_for_good(&self) -> Result<()> {
        self.wait_for_count(self.links)
    }

    /// Waits until no tag is good.
    ///
    /// # Errors
    ///
    /// Where one of them always is.
    pub fn wait_for_bad(&self) -> Result<()> {
        self.wait_for_count(0)
    }

    fn wait_for_count(&self, good: usize) -> Result<()> {
        self.host.get_until("/api/v1/status", |status| {
            (status["tags"]["good"] == good).then_some(())
        })
    }

    /// Records all samples from now on.
    ///
    /// # Errors
    ///
    /// Where the host does not let us.
    pub fn record(&self) -> Result<Recorder> {
        let long = Duration::from_secs(600);
        let stream = self.host.stream_for("/api/v1/stream?kind=sample", long)?;
        Ok(Recorder::start(stream))
    }

    /// The number of the channel of a sample.
    ///
    /// # Errors
    ///
    /// Where it is no sample of the fleet.
    pub fn channel(sample: &Value) -> Result<usize> {
        let name = sample["channel"].as_str();
        let number = name.and_then(|name| name.strip_prefix('c')?.parse().ok());
        number.with_context(|| format!("of no channel: {sample}"))
    }
}

fn device(remote: &Remote) -> Result<Peer> {
    Peer::simulated_in(remote, PORT, &["--units", "1", "--max-connections", "2048"])
}
