//! What the operator asks of a channel, with typed settings, and everything that is wrong with it at once.

use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::abi::{self, ConfigFault, DeviceId, GroupId, TagId};
use crate::data_type::DataType;
use crate::driver::Driver;
use crate::link::Link;

/// Everything that an operator says about a channel, as far as its driver is concerned.
#[derive(Debug)]
pub struct Config<D: Driver> {
    /// The channel's name in the operator's file.
    pub name: String,
    /// The channel's settings.
    pub settings: D::Settings,
    /// What the operator granted.
    pub links: Vec<Link>,
    /// At least one.
    pub devices: Vec<Device<D::DeviceSettings>>,
    /// What is polled together.
    pub groups: Vec<Group>,
    /// Every tag of the channel.
    pub tags: Vec<Tag<D::TagSettings>>,
}

impl<D: Driver> Config<D> {
    /// The link of that name, if the operator granted it. One that the driver's [`Info`](crate::Info) requires is always there.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name() == name)
    }
}

/// A thing addressed within the channel.
#[derive(Debug)]
pub struct Device<S> {
    /// Its id.
    pub id: DeviceId,
    /// Its name in the operator's file.
    pub name: String,
    /// In the protocol's own terms; empty where the operator gave none.
    pub address: String,
    /// Its settings.
    pub settings: S,
    /// The link that leads to it, where the channel has several.
    pub link: Option<Link>,
}

impl<S> Device<S> {
    /// A fault of one of its fields: `address`, or `settings` with a path.
    pub fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        Fault::new(format!("device {}.{field}", self.name), message)
    }
}

/// A named value of a device.
#[derive(Debug)]
pub struct Tag<S> {
    /// Its id.
    pub id: TagId,
    /// The device that has it.
    pub device: DeviceId,
    /// Its name in the operator's file.
    pub name: String,
    /// In the protocol's own syntax.
    pub address: String,
    /// The type that its values have.
    pub data_type: DataType,
    /// Whether it may be read. One that may not is written only, and is in no group.
    pub readable: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Its settings.
    pub settings: S,
}

impl<S> Tag<S> {
    /// A fault of one of its fields: `address`, `type`, `access`, or `settings` with a path.
    pub fn fault(&self, field: &str, message: impl Into<String>) -> Fault {
        Fault::new(format!("tag {}.{field}", self.name), message)
    }
}

/// Tags that are polled together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name in the operator's file.
    pub name: String,
    /// How often it is due.
    pub period: Duration,
    /// Its tags, in the operator's order.
    pub tags: Vec<TagId>,
}

/// For a driver without settings of some kind: anything but `{}` is a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `settings.timeout_ms`, `device press.address`, `tag temp.address`.
    pub at: String,
    /// What is wrong and what would be right, in one sentence.
    pub message: String,
}

impl Fault {
    /// A fault at a place of the operator's file.
    pub fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            message: message.into(),
        }
    }

    /// A fault of the channel's settings; `path` as in `timeout_ms`.
    pub fn settings(path: &str, message: impl Into<String>) -> Self {
        Self::new(join_path("settings", path), message)
    }
}

/// Everything that is wrong with a configuration, in the order in which it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Keeps what went well, and adds what did not.
    pub fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.push(fault)).ok()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` if there are no faults, else the faults.
    ///
    /// # Errors
    ///
    /// The faults.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }

    /// The faults.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn into_abi(self) -> Vec<ConfigFault> {
        self.0
            .into_iter()
            .map(|fault| ConfigFault {
                at: fault.at,
                message: fault.message,
            })
            .collect()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for fault in &self.0 {
            writeln!(formatter, "{}: {}", fault.at, fault.message)?;
        }
        Ok(())
    }
}

/// What parsed of a configuration, and what did not. No settings, no config: then the driver cannot be asked.
///
/// Takes it to pieces as it goes: a channel may have many tags, and whatever of a guest's memory was once in use stays so.
pub(crate) fn parse<D: Driver>(
    config: abi::ChannelConfig,
    link: impl Fn(abi::Link) -> Link,
) -> (Option<Config<D>>, Faults) {
    let mut faults = Faults::new();
    let links: Vec<Link> = config.links.into_iter().map(link).collect();
    check_links::<D>(&links, &mut faults);
    let settings = faults.keep(settings("settings", &config.settings));
    let devices: Vec<_> = config
        .devices
        .into_iter()
        .filter_map(|device| faults.keep(parse_device(device, &links)))
        .collect();
    let device_ids: BTreeSet<DeviceId> = devices.iter().map(|device| device.id).collect();
    let tags: Vec<_> = config
        .tags
        .into_iter()
        .filter_map(|tag| faults.keep(parse_tag(tag)))
        .filter(|tag: &Tag<D::TagSettings>| device_ids.contains(&tag.device))
        .collect();
    let tag_ids: BTreeSet<TagId> = tags.iter().map(|tag| tag.id).collect();
    let groups = config
        .groups
        .into_iter()
        .map(|mut group| {
            group.tags.retain(|id| tag_ids.contains(id));
            Group {
                id: group.id,
                name: group.name,
                period: Duration::from_nanos(group.period_ns),
                tags: group.tags,
            }
        })
        .collect();
    let wishes_met = faults.iter().all(|fault| !fault.at.starts_with("links."));
    let config = settings.filter(|_| wishes_met).map(|settings| Config {
        name: config.name,
        settings,
        links,
        devices,
        groups,
        tags,
    });
    (config, faults)
}

fn check_links<D: Driver>(links: &[Link], faults: &mut Faults) {
    let info = D::info();
    for wish in info.links {
        let kinds = wish.kinds.join(", ");
        match links.iter().find(|link| link.name() == wish.name) {
            None if wish.required => faults.push(Fault::new(
                format!("links.{}", wish.name),
                format!(
                    "{} needs a link named {} ({kinds}); grant it under links",
                    info.name, wish.name
                ),
            )),
            Some(link) if !wish.kinds.contains(&link.kind()) => faults.push(Fault::new(
                format!("links.{}", wish.name),
                format!(
                    "{} cannot use {} here; grant one of {kinds}",
                    info.name,
                    link.kind()
                ),
            )),
            _ => {}
        }
    }
}

fn parse_device<S: DeserializeOwned>(
    device: abi::Device,
    links: &[Link],
) -> Result<Device<S>, Fault> {
    let at = format!("device {}.settings", device.name);
    Ok(Device {
        id: device.id,
        settings: settings(&at, &device.settings)?,
        name: device.name,
        address: device.address,
        link: device
            .link
            .and_then(|id| links.iter().find(|link| link.id() == id).cloned()),
    })
}

fn parse_tag<S: DeserializeOwned>(tag: abi::Tag) -> Result<Tag<S>, Fault> {
    let data_type = tag
        .data_type
        .parse()
        .map_err(|error| Fault::new(format!("tag {}.type", tag.name), format!("{error}")))?;
    let at = format!("tag {}.settings", tag.name);
    Ok(Tag {
        id: tag.id,
        device: tag.device,
        data_type,
        readable: tag.readable,
        writable: tag.writable,
        settings: settings(&at, &tag.settings)?,
        name: tag.name,
        address: tag.address,
    })
}

/// Settings from JSON; the fault names the field.
fn settings<S: DeserializeOwned>(at: &str, json: &str) -> Result<S, Fault> {
    let table = match serde_json::from_str(if json.is_empty() { "{}" } else { json }) {
        Ok(table @ serde_json::Value::Object(_)) => table,
        Ok(_) => return Err(Fault::new(at, "settings are a table of names and values")),
        Err(error) => return Err(Fault::new(at, format!("this is not JSON: {error}"))),
    };
    // From the value, not from the text: its lines and columns are not those of the operator's file.
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        Fault::new(join_path(at, &path), error.into_inner().to_string())
    })
}

fn join_path(at: &str, path: &str) -> String {
    match path {
        "" => at.to_owned(),
        path if path.starts_with('[') => format!("{at}{path}"),
        path => format!("{at}.{path}"),
    }
}
