//! The names behind the ids: samples travel with positions, and readers want names.

use std::collections::HashMap;

use crate::config;
use crate::ids::{ChannelId, DeviceId, TagId};

/// The names of every channel's tags and devices.
#[derive(Debug, Default)]
pub struct Catalogue {
    channels: HashMap<ChannelId, ChannelNames>,
}

/// The names of one channel.
#[derive(Debug)]
pub struct ChannelNames {
    tags: Box<[TagNames]>,
    devices: Box<[Box<str>]>,
}

/// What a reader wants to know of a tag, besides its value.
#[derive(Debug)]
pub struct TagNames {
    /// The tag's name.
    pub name: Box<str>,
    /// Its unit; may be empty.
    pub unit: Box<str>,
    device: DeviceId,
}

impl Catalogue {
    /// The names that a configuration gives.
    pub fn new(host: &config::Host) -> Self {
        let names = |channel: &config::Channel| ChannelNames {
            tags: channel
                .tags
                .iter()
                .map(|tag| TagNames {
                    name: tag.name.as_str().into(),
                    unit: tag.unit.as_str().into(),
                    device: tag.device,
                })
                .collect(),
            devices: channel
                .devices
                .iter()
                .map(|device| device.name.as_str().into())
                .collect(),
        };
        let channels = host.channels.iter();
        Self {
            channels: channels
                .map(|channel| (channel.id.clone(), names(channel)))
                .collect(),
        }
    }

    /// The names of one channel.
    pub fn channel(&self, id: &ChannelId) -> Option<&ChannelNames> {
        self.channels.get(id)
    }

    /// The longest `channel/tag`, in characters: how wide a column of them must be.
    pub fn widest(&self) -> usize {
        let widths = self.channels.iter().flat_map(|(id, names)| {
            let channel = id.as_str().len() + 1;
            names
                .tags
                .iter()
                .map(move |tag| channel + tag.name.chars().count())
        });
        widths.max().unwrap_or(0)
    }
}

impl ChannelNames {
    /// A tag, unless the id is another channel's.
    pub fn tag(&self, tag: TagId) -> Option<&TagNames> {
        self.tags.get(tag.index())
    }

    /// The device that holds a tag.
    pub fn device_of(&self, tag: &TagNames) -> &str {
        self.devices
            .get(tag.device.index())
            .map_or("", |name| &**name)
    }

    /// All tags, in the order of their ids.
    pub fn tags(&self) -> &[TagNames] {
        &self.tags
    }
}
