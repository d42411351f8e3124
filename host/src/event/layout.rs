//! What the numbers in a batch mean: the names of a channel's tags, devices and groups.

use crate::ids::{ChannelId, TagId};

/// The names behind the ids of one configuration of a channel. Batches share it; the outbox keeps it with them, so that a
/// sample keeps its name whatever the configuration becomes before it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The channel.
    pub channel: ChannelId,
    /// The names of its devices.
    pub devices: Box<[Box<str>]>,
    /// The names of its groups.
    pub groups: Box<[Box<str>]>,
    /// Where [`TagId`]s point.
    pub tags: Box<[TagNames]>,
}

/// What is to be known of a tag to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagNames {
    /// Its name, unique within the channel.
    pub name: Box<str>,
    /// Such as `°C`; may be empty.
    pub unit: Box<str>,
    /// The position of its device.
    pub device: u32,
    /// The position of its group; `None` for a tag that is not polled.
    pub group: Option<u32>,
}

impl Layout {
    /// The names of a tag.
    pub fn tag(&self, tag: TagId) -> Option<&TagNames> {
        self.tags.get(tag.index())
    }

    /// The name of a tag's device; empty if there is no such device.
    pub fn device_of(&self, tag: &TagNames) -> &str {
        let device = self.devices.get(tag.device as usize);
        device.map(|name| &**name).unwrap_or_default()
    }

    /// The name of a tag's group; empty if it is in none.
    pub fn group_of(&self, tag: &TagNames) -> &str {
        let group = tag.group.and_then(|group| self.groups.get(group as usize));
        group.map(|name| &**name).unwrap_or_default()
    }
}
