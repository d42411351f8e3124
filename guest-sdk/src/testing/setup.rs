//! A channel's configuration, in a few lines of a test.

use std::time::Duration;

use crate::abi::{ChannelConfig, Connection, Device, Group, Link, Tag};
use crate::time;

/// A channel's configuration under construction. Ids follow the order of the calls, from 0 for each kind.
///
/// Where no device is named there is one called `device`; where no group is, there is one called `all`, of every tag, each second.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) config: ChannelConfig,
    pub(super) seed: u64,
    pub(super) send_window: u32,
    pub(super) batch: usize,
    pub(super) hold_credit: bool,
    /// Whether TLS may begin on a plain stream.
    pub(super) start_tls: bool,
    pub(super) kept: Vec<Connection>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// No links, no devices, no groups, no tags, `{}` for settings.
    pub fn new() -> Self {
        Self {
            config: ChannelConfig {
                name: "channel".to_owned(),
                settings: "{}".to_owned(),
                links: Vec::new(),
                devices: Vec::new(),
                groups: Vec::new(),
                tags: Vec::new(),
            },
            seed: 0,
            send_window: 64 * 1024,
            batch: 256,
            hold_credit: false,
            start_tls: true,
            kept: Vec::new(),
        }
    }

    /// The channel's settings, as JSON.
    #[must_use]
    pub fn settings(mut self, json: &str) -> Self {
        self.config.settings = json.to_owned();
        self
    }

    /// Grants a link.
    #[must_use]
    pub fn link(self, name: &str, kind: &str) -> Self {
        self.grant(name, kind, false)
    }

    /// Grants a link on which devices call in.
    #[must_use]
    pub fn listening_link(self, name: &str, kind: &str) -> Self {
        self.grant(name, kind, true)
    }

    fn grant(mut self, name: &str, kind: &str, listens: bool) -> Self {
        let id = self.config.links.len() as u32;
        self.config.links.push(Link {
            id,
            name: name.to_owned(),
            kind: kind.to_owned(),
            listens,
        });
        self
    }

    /// Adds a device; the tags that follow are its own.
    #[must_use]
    pub fn device(mut self, name: &str, address: &str) -> Self {
        let id = self.config.devices.len() as u32;
        self.config.devices.push(Device {
            id,
            name: name.to_owned(),
            address: address.to_owned(),
            settings: "{}".to_owned(),
            link: None,
        });
        self
    }

    /// The settings of the last device, as JSON.
    ///
    /// # Panics
    ///
    /// Where there is no device.
    #[must_use]
    pub fn device_settings(mut self, json: &str) -> Self {
        self.last_device().settings = json.to_owned();
        self
    }

    /// The link that leads to the last device.
    ///
    /// # Panics
    ///
    /// Where there is no device, or no link of that name.
    #[must_use]
    pub fn device_link(mut self, name: &str) -> Self {
        let link = self.config.links.iter().find(|link| link.name == name);
        let id = link.unwrap_or_else(|| panic!("no link {name}")).id;
        self.last_device().link = Some(id);
        self
    }

    /// Adds a tag that may be read.
    #[must_use]
    pub fn tag(mut self, name: &str, address: &str, data_type: &str) -> Self {
        if self.config.devices.is_empty() {
            self = self.device("device", "");
        }
        let id = self.config.tags.len() as u32;
        self.config.tags.push(Tag {
            id,
            device: self.config.devices.len() as u32 - 1,
            name: name.to_owned(),
            address: address.to_owned(),
            data_type: data_type.to_owned(),
            readable: true,
            writable: false,
            settings: "{}".to_owned(),
        });
        self
    }

    /// Lets the last tag be written.
    ///
    /// # Panics
    ///
    /// Where there is no tag.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.last_tag().writable = true;
        self
    }

    /// Lets the last tag be written, and not be read: it is in no group that is not named.
    ///
    /// # Panics
    ///
    /// Where there is no tag.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.last_tag().readable = false;
        self.writable()
    }

    /// The settings of the last tag, as JSON.
    ///
    /// # Panics
    ///
    /// Where there is no tag.
    #[must_use]
    pub fn tag_settings(mut self, json: &str) -> Self {
        self.last_tag().settings = json.to_owned();
        self
    }

    /// Polls tags together.
    ///
    /// # Panics
    ///
    /// Where there is no tag of such a name.
    #[must_use]
    pub fn group(mut self, name: &str, period: Duration, tags: &[&str]) -> Self {
        let id_of = |name: &&str| {
            let tag = self.config.tags.iter().find(|tag| tag.name == *name);
            tag.unwrap_or_else(|| panic!("no tag {name}")).id
        };
        let tags = tags.iter().map(id_of).collect();
        self.add_group(name, period, tags);
        self
    }

    fn add_group(&mut self, name: &str, period: Duration, tags: Vec<u32>) {
        self.config.groups.push(Group {
            id: self.config.groups.len() as u32,
            name: name.to_owned(),
            period_ns: time::nanos(period),
            tags,
        });
    }

    /// The seed of the driver's random numbers; 0 unless said otherwise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many bytes may be on their way at once; 64 KiB unless said otherwise.
    #[must_use]
    pub fn send_window(mut self, bytes: u32) -> Self {
        self.send_window = bytes;
        self
    }

    /// Lets no byte leave: what fits into the window is sent, and never credited.
    #[must_use]
    pub fn hold_credit(mut self) -> Self {
        self.hold_credit = true;
        self
    }

    /// A connection outlived the incarnation before, to this place or else to the link's own; with TLS on, or not. Ids are counted
    /// from 1.
    ///
    /// # Panics
    ///
    /// Where there is no link of that name.
    #[must_use]
    pub fn kept(mut self, link: &str, target: Option<&str>, secured: bool) -> Self {
        let granted = self.config.links.iter().find(|known| known.name == link);
        self.kept.push(Connection {
            id: self.kept.len() as u32 + 1,
            link: granted.unwrap_or_else(|| panic!("no link {link}")).id,
            target: target.map(str::to_owned),
            secured,
            peer: "a fake peer".to_owned(),
            send_window: self.send_window,
        });
        self
    }

    /// Declines to begin TLS, as the host does where the operator does not allow it.
    #[must_use]
    pub fn without_start_tls(mut self) -> Self {
        self.start_tls = false;
        self
    }

    /// How many events one turn may bring; 256 unless said otherwise.
    #[must_use]
    pub fn batch(mut self, events: usize) -> Self {
        self.batch = events.clamp(1, 256);
        self
    }

    /// Adds the device and the group that the driver can count on.
    pub(super) fn complete(mut self) -> Self {
        if self.config.devices.is_empty() {
            self = self.device("device", "");
        }
        if self.config.groups.is_empty() {
            let readable = self.config.tags.iter().filter(|tag| tag.readable);
            let tags = readable.map(|tag| tag.id).collect();
            self.add_group("all", Duration::from_secs(1), tags);
        }
        self
    }

    fn last_device(&mut self) -> &mut Device {
        self.config.devices.last_mut().expect("a device first")
    }

    fn last_tag(&mut self) -> &mut Tag {
        self.config.tags.last_mut().expect("a tag first")
    }
}
