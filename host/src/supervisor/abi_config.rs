//! A channel's configuration, as its driver sees it. Made when an incarnation begins and not kept: it holds every tag once more.

use crate::bindings::config as abi;
use crate::config::Channel;

/// The ABI's form of a channel's configuration. Ids are positions.
pub(super) fn abi_config(channel: &Channel) -> abi::ChannelConfig {
    abi::ChannelConfig {
        name: channel.id.to_string(),
        settings: json(&channel.settings),
        links: (0u32..)
            .zip(&channel.links)
            .map(|(id, link)| abi::Link {
                id,
                name: link.name.clone(),
                kind: link.connect.kind().to_owned(),
                listens: link.connect.listens(),
            })
            .collect(),
        devices: (0u32..)
            .zip(&channel.devices)
            .map(|(id, device)| abi::Device {
                id,
                name: device.name.clone(),
                address: device.address.clone(),
                settings: json(&device.settings),
                link: device.link.map(|link| link.0),
            })
            .collect(),
        groups: (0u32..)
            .zip(&channel.groups)
            .map(|(id, group)| abi::Group {
                id,
                name: group.name.clone(),
                period_ns: u64::try_from(group.period.as_nanos()).unwrap_or(u64::MAX),
                tags: group.tags.iter().map(|tag| tag.0).collect(),
            })
            .collect(),
        tags: (0u32..)
            .zip(channel.tags.iter())
            .map(|(id, tag)| abi::Tag {
                id,
                device: tag.device.0,
                name: tag.name.to_string(),
                address: tag.address.to_string(),
                data_type: tag.data_type.to_string(),
                readable: tag.access.is_readable(),
                writable: tag.access.is_writable(),
                settings: json(&tag.settings),
            })
            .collect(),
    }
}

fn json(value: &serde_json::Value) -> String {
    if value.is_null() {
        "{}".to_owned()
    } else {
        value.to_string()
    }
}
