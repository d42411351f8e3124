//! What is another in a new configuration: which channels come, go, or change, and what of them.
//!
//! Pure, and by names: an operator knows no positions. A part that only stands elsewhere in the file has not changed.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::checked::{Channel, Device, Group, Host, Link, Tag};
use crate::ids::{DeviceId, LinkId, TagId};

/// What is another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Channels that there were not, in the order of the file.
    pub added: Vec<String>,
    /// Channels that there are no more.
    pub removed: Vec<String>,
    /// Channels of which anything is another, in the order of the file.
    pub changed: Vec<ChannelDifference>,
    /// How many channels are as they were.
    pub unchanged: usize,
    /// Keys of the host itself that are others: those a running host cannot take up.
    pub of_host: Vec<String>,
}

/// What is another in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelDifference {
    /// The channel.
    pub channel: String,
    /// Keys of the channel itself, such as `settings`.
    pub keys: Vec<String>,
    /// Its links.
    pub links: Items,
    /// Its devices.
    pub devices: Items,
    /// Its groups: a group has changed if its period has, or which tags it holds.
    pub groups: Items,
    /// Its tags.
    pub tags: Items,
}

/// What is another among things that have names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// Those that there were not.
    pub added: Vec<String>,
    /// Those that there are no more.
    pub removed: Vec<String>,
    /// Those of the same name that are others.
    pub changed: Vec<String>,
}

impl Difference {
    /// Compares. `of_host` has no channels, `before` are those that run.
    pub fn between<'a>(
        of_host: &Host,
        before: impl IntoIterator<Item = &'a Channel>,
        new: &Host,
    ) -> Self {
        let mut difference = Self {
            of_host: keys_of_host(of_host, new),
            ..Self::default()
        };
        let before: Vec<&Channel> = before.into_iter().collect();
        let by_name: HashMap<&str, &Channel> =
            before.iter().map(|old| (old.id.as_str(), *old)).collect();
        for channel in &new.channels {
            match by_name.get(channel.id.as_str()) {
                None => difference.added.push(channel.id.to_string()),
                Some(old) => match ChannelDifference::between(old, channel) {
                    Some(changed) => difference.changed.push(changed),
                    None => difference.unchanged += 1,
                },
            }
        }
        let stay: HashSet<&str> = new.channels.iter().map(|it| it.id.as_str()).collect();
        let gone = before.iter().map(|old| old.id.as_str());
        difference.removed = gone
            .filter(|id| !stay.contains(id))
            .map(str::to_owned)
            .collect();
        difference
    }

    /// Whether nothing is another.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.of_host.is_empty()
    }
}

impl ChannelDifference {
    /// Compares two configurations of one channel; `None` if they say the same.
    pub fn between(old: &Channel, new: &Channel) -> Option<Self> {
        if old == new {
            return None;
        }
        let difference = Self {
            channel: new.id.to_string(),
            keys: keys_of_channel(old, new),
            links: Items::between(&old.links, &new.links, |link| &link.name, PartialEq::eq),
            devices: Items::between(
                &old.devices,
                &new.devices,
                |device| &device.name,
                |before, now| is_same_device((old, before), (new, now)),
            ),
            groups: Items::between(
                &old.groups,
                &new.groups,
                |group| &group.name,
                |before, now| is_same_group((old, before), (new, now)),
            ),
            tags: Items::between(
                &old.tags,
                &new.tags,
                |tag| &tag.name,
                |before, now| is_same_tag((old, before), (new, now)),
            ),
        };
        Some(difference)
    }
}

impl Items {
    fn between<T>(
        old: &[T],
        new: &[T],
        name: impl Fn(&T) -> &str,
        same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let by_name: HashMap<&str, &T> = old.iter().map(|item| (name(item), item)).collect();
        let mut items = Self::default();
        for item in new {
            match by_name.get(name(item)) {
                None => items.added.push(name(item).to_owned()),
                Some(before) if !same(before, item) => items.changed.push(name(item).to_owned()),
                Some(_) => {}
            }
        }
        let stay: HashSet<&str> = new.iter().map(&name).collect();
        let gone = old.iter().map(&name).filter(|name| !stay.contains(name));
        items.removed = gone.map(str::to_owned).collect();
        items
    }

    /// Whether nothing is another.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

fn keys_of_host(old: &Host, new: &Host) -> Vec<String> {
    let mut keys: Vec<String> = [
        ("host.data_dir", old.data_dir != new.data_dir),
        ("host.restarts_per_second", old.restarts != new.restarts),
        ("host.dials_per_second", old.dials != new.dials),
        ("host.compile", old.compile != new.compile),
        ("host.recorder", old.recorder != new.recorder),
        ("http", old.http != new.http),
    ]
    .into_iter()
    .filter(|(_, is_another)| *is_another)
    .map(|(key, _)| key.to_owned())
    .collect();
    let sinks = Items::between(&old.sinks, &new.sinks, |sink| &sink.name, PartialEq::eq);
    let all = [sinks.added, sinks.removed, sinks.changed];
    keys.extend(all.into_iter().flatten().map(|sink| format!("sink {sink}")));
    keys
}

fn keys_of_channel(old: &Channel, new: &Channel) -> Vec<String> {
    [
        ("driver", old.driver != new.driver),
        ("sha256", old.sha256 != new.sha256),
        ("enabled", old.enabled != new.enabled),
        ("settings", old.settings != new.settings),
        ("limits", old.limits != new.limits),
        ("restart", old.restart != new.restart),
        ("health", old.health != new.health),
        ("recorder", old.recorder != new.recorder),
        ("requests", old.requests != new.requests),
        ("demotion", old.demotion != new.demotion),
    ]
    .into_iter()
    .filter(|(_, is_another)| *is_another)
    .map(|(key, _)| key.to_owned())
    .collect()
}

fn link_name(channel: &Channel, link: Option<LinkId>) -> Option<&str> {
    let link: &Link = channel.links.get(link?.index())?;
    Some(&link.name)
}

fn device_of(channel: &Channel, device: DeviceId) -> Option<&Device> {
    channel.devices.get(device.index())
}

/// Whether two devices are the same one, wherever they and their links stand.
fn is_same_device((old, before): (&Channel, &Device), (new, now): (&Channel, &Device)) -> bool {
    let plain = |device: &Device| Device {
        link: None,
        ..device.clone()
    };
    plain(before) == plain(now) && link_name(old, before.link) == link_name(new, now.link)
}

fn is_same_group((old, before): (&Channel, &Group), (new, now): (&Channel, &Group)) -> bool {
    let name = |channel: &'_ Channel, id: &TagId| {
        let tag = channel.tags.get(id.index());
        tag.map(|tag| tag.name.clone())
    };
    before.name == now.name
        && before.period == now.period
        && before.stale_after == now.stale_after
        && before.tags.len() == now.tags.len()
        && before
            .tags
            .iter()
            .zip(&now.tags)
            .all(|(one, other)| name(old, one) == name(new, other))
}

/// Whether two tags mean the same value of the same device, wherever they stand.
pub fn is_same_tag((old, before): (&Channel, &Tag), (new, now): (&Channel, &Tag)) -> bool {
    let devices = (device_of(old, before.device), device_of(new, now.device));
    let (Some(device_before), Some(device_now)) = devices else {
        return false;
    };
    is_equal_but_device(before, now) && is_same_device((old, device_before), (new, device_now))
}

/// Whether the links that lead to the devices of two tags are the same: each device's own, or all of them, where it names none.
pub fn is_same_way((old, before): (&Channel, &Tag), (new, now): (&Channel, &Tag)) -> bool {
    let link = |channel: &Channel, tag: &Tag| {
        let link = device_of(channel, tag.device)?.link?;
        channel.links.get(link.index()).cloned()
    };
    match (link(old, before), link(new, now)) {
        (None, None) => {
            let items = Items::between(&old.links, &new.links, |link| &link.name, PartialEq::eq);
            items.is_empty()
        }
        (one, other) => one == other,
    }
}

fn is_equal_but_device(before: &Tag, now: &Tag) -> bool {
    match before.device == now.device {
        true => before == now,
        false => {
            let placed = Tag {
                device: before.device,
                ..now.clone()
            };
            *before == placed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Origin, parse};

    const PLANT: &str = r#"
[[channel]]
id = "press"
driver = "modbus.wasm"
settings.timeout_ms = 5
links.plc = { connect = "tcp://10.0.0.1:502" }
links.spare = { connect = "tcp://10.0.0.2:502" }
[[channel.device]]
name = "left"
address = "1"
link = "plc"
[[channel.device]]
name = "right"
address = "2"
link = "spare"
[[channel.group]]
name = "fast"
period = "1s"
tags = [
  { name = "temp", address = "40001", type = "int16", device = "left" },
  { name = "level", address = "40002", type = "int16", device = "right" },
]

[[channel]]
id = "other"
driver = "signal.wasm"
[[channel.tag]]
name = "sine"
address = "sine"
type = "float64"
"#;

    fn host(text: &str) -> Host {
        let origin = Origin {
            name: "plant.toml".into(),
            folder: PathBuf::new(),
        };
        parse(text, &origin)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .value
    }

    fn difference(old: &str, new: &str) -> Difference {
        let (mut old, new) = (host(old), host(new));
        let channels = std::mem::take(&mut old.channels);
        Difference::between(&old, &channels, &new)
    }

    fn names(items: &Items) -> [Vec<&str>; 3] {
        [&items.added, &items.removed, &items.changed]
            .map(|all| all.iter().map(String::as_str).collect())
    }

    #[test]
    fn the_same_file_says_nothing_new() {
        let same = difference(PLANT, PLANT);
        assert!(same.is_empty());
        assert_eq!(same.unchanged, 2);
    }

    #[test]
    fn what_only_stands_elsewhere_has_not_changed() {
        let (left, right) = (device("left", 1, "plc"), device("right", 2, "spare"));
        let turned = PLANT.replace(&format!("{left}{right}"), &format!("{right}{left}"));
        assert_ne!(turned, PLANT);
        let difference = difference(PLANT, &turned);
        assert_eq!(difference.changed.len(), 1, "the driver knows positions");
        let press = &difference.changed[0];
        assert!(press.keys.is_empty(), "{press:?}");
        for items in [&press.links, &press.devices, &press.groups, &press.tags] {
            assert!(items.is_empty(), "{press:?}");
        }
    }

    fn device(name: &str, address: u32, link: &str) -> String {
        format!(
            "[[channel.device]]\nname = \"{name}\"\naddress = \"{address}\"\nlink = \"{link}\"\n"
        )
    }

    #[test]
    fn each_part_is_named_that_is_another() {
        let new = PLANT
            .replace("timeout_ms = 5", "timeout_ms = 6")
            .replace("10.0.0.2", "10.0.0.3")
            .replace("name = \"level\"", "name = \"height\"")
            .replace("40001", "40009")
            .replace("id = \"other\"", "id = \"another\"");
        let difference = difference(PLANT, &new);
        assert_eq!(
            (&*difference.added, &*difference.removed),
            (&["another".to_owned()][..], &["other".to_owned()][..])
        );
        assert_eq!(difference.unchanged, 0);
        let press = &difference.changed[0];
        assert_eq!(press.keys, ["settings"]);
        assert_eq!(names(&press.links), [vec![], vec![], vec!["spare"]]);
        assert!(
            press.devices.is_empty(),
            "a device is the same over whatever way"
        );
        assert_eq!(names(&press.groups), [vec![], vec![], vec!["fast"]]);
        assert_eq!(
            names(&press.tags),
            [vec!["height"], vec!["level"], vec!["temp"]]
        );
    }

    #[test]
    fn a_tag_at_another_device_is_another() {
        let new = PLANT.replace("address = \"2\"\nlink", "address = \"3\"\nlink");
        let difference = difference(PLANT, &new);
        let press = &difference.changed[0];
        assert_eq!(names(&press.devices), [vec![], vec![], vec!["right"]]);
        assert_eq!(names(&press.tags), [vec![], vec![], vec!["level"]]);
        assert!(press.groups.is_empty() && press.keys.is_empty());
    }

    #[test]
    fn keys_of_the_host_and_sinks_are_named() {
        let new = format!(
            "[host]\ndata_dir = \"elsewhere\"\nrecorder = {{ size = \"2MiB\" }}\n[[sink]]\nkind = \"stdout\"\n{PLANT}"
        );
        let difference = difference(PLANT, &new);
        assert_eq!(
            difference.of_host,
            ["host.data_dir", "host.recorder", "sink stdout"]
        );
        assert!(difference.changed.is_empty());
    }
}
