//! What a bundle holds besides the tape, as JSON: who ended how, and everything else that a replay needs.

use serde::{Deserialize, Serialize};

use super::secrets::Secrets;
use crate::bindings::config as abi;
use crate::event::{MonotonicNs, WallNs};
use crate::exit::{During, Exit, ExitKind, Frame};

/// One call into a driver that is no turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When, on the monotonic clock.
    pub monotonic_ns: u64,
    /// When, on the wall clock.
    pub wall_ns: u64,
    /// The fuel that it used; absent if it did not return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl Call {
    /// A call at this moment.
    pub fn at(now: (MonotonicNs, WallNs)) -> Self {
        Self {
            monotonic_ns: now.0.0,
            wall_ns: now.1.0,
            fuel: None,
        }
    }

    /// When.
    pub fn now(&self) -> (MonotonicNs, WallNs) {
        (MonotonicNs(self.monotonic_ns), WallNs(self.wall_ns))
    }
}

/// Who wrote a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The host's version.
    pub by: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// Such as `linux`.
    pub system: String,
    /// When the incarnation ended.
    pub at_ns: u64,
}

/// The driver that crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverRecord {
    /// Where its file was.
    pub path: String,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

/// What the driver could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsRecord {
    /// Over all memories and tables, in bytes.
    pub memory: u64,
    /// In one turn.
    pub fuel_per_turn: u64,
    /// Wall time of one turn.
    pub turn_deadline_ns: u64,
    /// To start and to configure.
    pub start_fuel: u64,
    /// Wall time to start and to configure.
    pub start_deadline_ns: u64,
    /// Averaged over ten seconds.
    pub samples_per_second: u32,
    /// The guest's stack, in bytes.
    pub stack: u64,
}

/// The configuration as the driver saw it, with filler in the place of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    name: String,
    settings: String,
    links: Vec<LinkRecord>,
    devices: Vec<DeviceRecord>,
    groups: Vec<GroupRecord>,
    tags: Vec<TagRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LinkRecord {
    id: u32,
    name: String,
    kind: String,
    listens: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceRecord {
    id: u32,
    name: String,
    address: String,
    settings: String,
    link: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GroupRecord {
    id: u32,
    name: String,
    period_ns: u64,
    tags: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TagRecord {
    id: u32,
    device: u32,
    name: String,
    address: String,
    data_type: String,
    readable: bool,
    writable: bool,
    settings: String,
}

impl ConfigRecord {
    /// Takes a configuration, without its secrets.
    pub fn new(config: &abi::ChannelConfig, secrets: &mut Secrets) -> Self {
        Self {
            name: config.name.clone(),
            settings: secrets.mask_settings(&config.settings),
            links: config
                .links
                .iter()
                .map(|link| LinkRecord {
                    id: link.id,
                    name: link.name.clone(),
                    kind: link.kind.clone(),
                    listens: link.listens,
                })
                .collect(),
            devices: config
                .devices
                .iter()
                .map(|device| DeviceRecord {
                    id: device.id,
                    name: device.name.clone(),
                    address: device.address.clone(),
                    settings: secrets.mask_settings(&device.settings),
                    link: device.link,
                })
                .collect(),
            groups: config
                .groups
                .iter()
                .map(|group| GroupRecord {
                    id: group.id,
                    name: group.name.clone(),
                    period_ns: group.period_ns,
                    tags: group.tags.clone(),
                })
                .collect(),
            tags: config
                .tags
                .iter()
                .map(|tag| TagRecord {
                    id: tag.id,
                    device: tag.device,
                    name: tag.name.clone(),
                    address: tag.address.clone(),
                    data_type: tag.data_type.clone(),
                    readable: tag.readable,
                    writable: tag.writable,
                    settings: secrets.mask_settings(&tag.settings),
                })
                .collect(),
        }
    }

    /// As the driver takes it.
    pub fn to_abi(&self) -> abi::ChannelConfig {
        abi::ChannelConfig {
            name: self.name.clone(),
            settings: self.settings.clone(),
            links: self
                .links
                .iter()
                .map(|link| abi::Link {
                    id: link.id,
                    name: link.name.clone(),
                    kind: link.kind.clone(),
                    listens: link.listens,
                })
                .collect(),
            devices: self
                .devices
                .iter()
                .map(|device| abi::Device {
                    id: device.id,
                    name: device.name.clone(),
                    address: device.address.clone(),
                    settings: device.settings.clone(),
                    link: device.link,
                })
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|group| abi::Group {
                    id: group.id,
                    name: group.name.clone(),
                    period_ns: group.period_ns,
                    tags: group.tags.clone(),
                })
                .collect(),
            tags: self
                .tags
                .iter()
                .map(|tag| abi::Tag {
                    id: tag.id,
                    device: tag.device,
                    name: tag.name.clone(),
                    address: tag.address.clone(),
                    data_type: tag.data_type.clone(),
                    readable: tag.readable,
                    writable: tag.writable,
                    settings: tag.settings.clone(),
                })
                .collect(),
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// As [`ExitKind::as_str`] gives it.
    pub kind: String,
    /// As [`During::as_str`] gives it.
    pub during: String,
    /// What happened, in one sentence.
    pub message: String,
    /// The fuel that the last call had used, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// The guest's stack, innermost first.
    pub backtrace: Vec<FrameRecord>,
}

/// One function on the guest's stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRecord {
    /// Its name.
    pub function: String,
    /// `file:line:column`, where the driver carries them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl ExitRecord {
    /// Takes an end.
    pub fn new(exit: &Exit) -> Self {
        Self {
            kind: exit.kind.as_str().to_owned(),
            during: exit.during.as_str().to_owned(),
            message: exit.sentence.clone(),
            fuel: exit.fuel,
            backtrace: exit
                .backtrace
                .iter()
                .map(|frame| FrameRecord {
                    function: frame.function.clone(),
                    source: frame.source.clone(),
                })
                .collect(),
        }
    }

    /// As an end; `None` where a word is not known.
    pub fn to_exit(&self) -> Option<Exit> {
        let kind = ExitKind::ALL
            .iter()
            .find(|kind| kind.as_str() == self.kind)?;
        let all = [During::Start, During::Configure, During::Turn, During::Idle];
        let during = all
            .into_iter()
            .find(|during| during.as_str() == self.during)?;
        Some(Exit {
            fuel: self.fuel,
            backtrace: self
                .backtrace
                .iter()
                .take(Exit::MAX_FRAMES)
                .map(|frame| Frame {
                    function: frame.function.clone(),
                    source: frame.source.clone(),
                })
                .collect(),
            ..Exit::new(*kind, during, self.message.clone())
        })
    }
}

/// Everything of a bundle but the tape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Who wrote it.
    pub written: Written,
    /// The channel.
    pub channel: String,
    /// Which life of it.
    pub incarnation: u64,
    /// Its driver.
    pub driver: DriverRecord,
    /// What that could use.
    pub limits: LimitsRecord,
    /// Where its random numbers began.
    pub seed: u64,
    /// Its instantiation.
    pub start: Call,
    /// Its `configure`, if it came to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configure: Option<Call>,
    /// How it ended.
    pub exit: ExitRecord,
    /// Turns that it began.
    pub turns: u64,
    /// Events that it was given.
    pub events: u64,
    /// Secrets that were replaced by filler.
    pub secrets: usize,
    /// The configuration.
    pub config: ConfigRecord,
}
