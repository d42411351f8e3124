//! What a script says, in types: a file, its plant, its cases, their steps.

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::bindings::actions::DeviceCondition;
use crate::bindings::config::{ChannelConfig, Device, Group, Link, Tag};
use crate::bindings::events::{CloseReason, Outlook, StopReason};
use crate::bindings::types::{Quality, Value};
use crate::conform::pattern::Pattern;
use crate::conform::peer::Reply;
use crate::event::DataType;

/// A script: what is said for all its cases, and the cases.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file.
    pub path: PathBuf,
    /// Its name without the ending.
    pub name: String,
    /// What stands before the first case.
    pub plant: Section,
    /// Its cases, in order.
    pub cases: Vec<ScriptCase>,
}

/// What a driver is given, and what it is tried with.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// `settings`.
    pub settings: Option<Json>,
    /// `link`.
    pub links: Vec<Link>,
    /// `device`.
    pub devices: Vec<Device>,
    /// `tag`.
    pub tags: Vec<Tag>,
    /// `group`.
    pub groups: Vec<Group>,
    /// `needs`: capabilities without which it is skipped.
    pub needs: Vec<String>,
    /// `reply`: what the peer answers in the universal cases.
    pub replies: Vec<Reply>,
    /// `value`: what is written to a tag in the universal cases.
    pub values: Vec<(String, Value)>,
    /// `payload`: what commands are given in the universal cases.
    pub payloads: Vec<(String, String)>,
    /// `allow-import`: beyond what drivers usually import.
    pub imports: Vec<String>,
}

/// One case of a script.
#[derive(Clone, Debug)]
pub struct ScriptCase {
    /// Its name, unique in the file.
    pub name: String,
    /// The line of its first word.
    pub line: usize,
    /// What it changes of the plant.
    pub own: Section,
    /// What happens, with lines.
    pub steps: Vec<(usize, Step)>,
}

/// A value with its quality, as a script expects it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// None for `-`.
    pub value: Option<Value>,
    /// `good` where nothing is said.
    pub quality: Quality,
}

/// How bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// In one event.
    Whole,
    /// One event, and one turn, for each byte.
    Bytes,
}

/// What an answer should be.
#[derive(Clone, Debug)]
pub enum ExpectedAnswer {
    /// In order, whatever it says.
    Ok,
    /// A read: these samples in this order. A write: this was read back.
    Values(Vec<Expected>),
    /// A command: these bytes.
    Bytes(Pattern),
    /// A command: JSON that says the same.
    Json(Json),
    /// It failed.
    Error(ExpectedError),
}

/// An error, as far as a script says.
#[derive(Clone, Debug, Default)]
pub struct ExpectedError {
    /// `-` for none; nothing where any will do.
    pub code: Option<Option<u32>>,
    /// Nothing where any will do.
    pub quality: Option<Quality>,
    /// What its sentence contains.
    pub text: String,
}

/// One step. Names were looked up when it was read.
#[derive(Clone, Debug)]
pub enum Step {
    /// `opens LINK`: the driver has opened a connection, which comes up, or cannot be made.
    Opens(u32, Option<(CloseReason, Outlook)>),
    /// `up LINK`: a connection that was down is up again.
    Up(u32),
    /// `drop LINK`: its stream breaks.
    Drop(u32, CloseReason, Outlook),
    /// `resets LINK`: the driver has dropped the stream; it is dialled anew.
    Resets(u32),
    /// `closes`: the driver has closed a connection.
    Closes,
    /// `expect LINK: BYTES`.
    Expect(u32, Pattern),
    /// `quiet`: it has sent and published nothing that was not told.
    Quiet,
    /// `send LINK: BYTES`.
    Send(u32, Pattern, Pieces),
    /// `poll GROUP`.
    Poll(u32, Vec<u32>),
    /// `done GROUP`: the poll was answered.
    Done(u32, Option<u32>, Option<u32>),
    /// `sample TAG VALUE`: it has published this.
    Sample(u32, Expected),
    /// `read TAG ...`.
    Read(Vec<u32>),
    /// `write TAG VALUE`, and whether it is to be read back.
    Write(u32, Value, bool),
    /// `command NAME PAYLOAD`.
    Command(String, Vec<u8>),
    /// `health`.
    Health,
    /// `cancel`: of the request that was asked last.
    Cancel,
    /// `answer ...`: to the oldest request that was not answered in the script.
    Answer(ExpectedAnswer),
    /// `advance TIME`, in nanoseconds.
    Advance(u64),
    /// `device NAME CONDITION`: what the driver says of it.
    Device(u32, DeviceCondition),
    /// `stop`, and why.
    Stop(StopReason),
    /// `stopped`.
    Stopped,
    /// `restart`: the next incarnation, with what was saved; connections that are named are kept.
    Restart(Vec<u32>),
    /// `refused AT TEXT`: the configuration has this fault. The first step, if there is one; nothing follows but others of the kind.
    Refused(String, String),
}

impl Section {
    /// What a case has: its own lines of each kind, or else those of the file. A case with tags of its own has only these, all in
    /// one group, if it has no group. Settings are merged, key by key.
    #[must_use]
    pub fn or(&self, file: &Section) -> Section {
        fn either<T: Clone>(own: &[T], file: &[T]) -> Vec<T> {
            if own.is_empty() {
                file.to_vec()
            } else {
                own.to_vec()
            }
        }
        let settings = match (&file.settings, &self.settings) {
            (Some(Json::Object(all)), Some(Json::Object(own))) => {
                let mut all = all.clone();
                all.extend(own.clone());
                Some(Json::Object(all))
            }
            (file, own) => own.clone().or_else(|| file.clone()),
        };
        Section {
            settings,
            links: either(&self.links, &file.links),
            devices: either(&self.devices, &file.devices),
            tags: either(&self.tags, &file.tags),
            groups: if self.tags.is_empty() {
                either(&self.groups, &file.groups)
            } else {
                self.groups.clone()
            },
            needs: self.needs.iter().chain(&file.needs).cloned().collect(),
            replies: either(&self.replies, &file.replies),
            values: either(&self.values, &file.values),
            payloads: either(&self.payloads, &file.payloads),
            imports: either(&self.imports, &file.imports),
        }
    }

    /// The same with ids, which are positions, and with what must be there: a device, a group.
    #[must_use]
    pub fn complete(mut self) -> Section {
        if self.devices.is_empty() {
            self.devices.push(Device {
                id: 0,
                name: "device".to_owned(),
                address: String::new(),
                settings: "{}".to_owned(),
                link: None,
            });
        }
        let readable = self.tags.iter().filter(|tag| tag.readable);
        let polled: Vec<u32> = readable.map(|tag| tag.id).collect();
        if self.groups.is_empty() && !polled.is_empty() {
            self.groups.push(Group {
                id: 0,
                name: "all".to_owned(),
                period_ns: 1_000_000_000,
                tags: polled,
            });
        }
        self
    }

    /// As the driver is given it.
    pub fn config(&self) -> ChannelConfig {
        ChannelConfig {
            name: "conform".to_owned(),
            settings: self
                .settings
                .as_ref()
                .map_or_else(|| "{}".to_owned(), Json::to_string),
            links: self.links.clone(),
            devices: self.devices.clone(),
            groups: self.groups.clone(),
            tags: self.tags.clone(),
        }
    }

    /// The id of a tag.
    pub fn tag(&self, name: &str) -> Result<u32, String> {
        let found = self.tags.iter().find(|tag| tag.name == name);
        found
            .map(|tag| tag.id)
            .ok_or_else(|| format!("there is no tag {name}"))
    }

    /// The type of a tag.
    pub fn data_type(&self, tag: u32) -> Option<DataType> {
        DataType::parse(&self.tags.iter().find(|known| known.id == tag)?.data_type)
    }

    /// The id of a group.
    pub fn group(&self, name: &str) -> Result<u32, String> {
        let found = self.groups.iter().find(|group| group.name == name);
        found
            .map(|group| group.id)
            .ok_or_else(|| format!("there is no group {name}"))
    }

    /// The id of a device.
    pub fn device(&self, name: &str) -> Result<u32, String> {
        let found = self.devices.iter().find(|device| device.name == name);
        found
            .map(|device| device.id)
            .ok_or_else(|| format!("there is no device {name}"))
    }

    /// The id of a link; without a name, of the only one.
    pub fn link(&self, name: Option<&str>) -> Result<u32, String> {
        match (name, self.links.as_slice()) {
            (None, [only]) => Ok(only.id),
            (None, []) => Err("there is no link".to_owned()),
            (None, _) => {
                Err("there are several links; name one, as in `expect plc: 0102`".to_owned())
            }
            (Some(name), links) => {
                let found = links.iter().find(|link| link.name == name);
                found
                    .map(|link| link.id)
                    .ok_or_else(|| format!("there is no link {name}"))
            }
        }
    }
}
