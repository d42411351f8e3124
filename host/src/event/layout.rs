//! What the numbers in a batch mean: the names of a channel's tags, devices and groups.

use std::collections::HashMap;

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
    pub tags: TagList,
}

/// The names of a channel's tags, one behind the other: there are many, and whoever writes samples looks up one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagList {
    names: Box<str>,
    /// Each once.
    units: Box<[Box<str>]>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where the name ends; it begins where the one before ends.
    end: u32,
    /// Which of the units.
    unit: u32,
    device: u32,
    /// [`NO_GROUP`] for none.
    group: u32,
}

const NO_GROUP: u32 = u32::MAX;

/// What is to be known of a tag to name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagNames<'a> {
    /// Its name, unique within the channel.
    pub name: &'a str,
    /// Such as `°C`; may be empty.
    pub unit: &'a str,
    /// The position of its device.
    pub device: u32,
    /// The position of its group, below `u32::MAX`; `None` for a tag that is not polled.
    pub group: Option<u32>,
}

impl TagList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names of one.
    pub fn get(&self, index: usize) -> Option<TagNames<'_>> {
        let entry = self.entries.get(index)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.entries.get(before));
        let start = before.map_or(0, |before| before.end);
        Some(TagNames {
            name: self.names.get(start as usize..entry.end as usize)?,
            unit: self.units.get(entry.unit as usize)?,
            device: entry.device,
            group: (entry.group != NO_GROUP).then_some(entry.group),
        })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = TagNames<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> FromIterator<TagNames<'a>> for TagList {
    /// Of names that are at most 4 GiB together.
    fn from_iter<I: IntoIterator<Item = TagNames<'a>>>(all: I) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (mut names, mut units) = (String::new(), Vec::<Box<str>>::new());
        let mut known = HashMap::new();
        let entries = all.into_iter().map(|tag| {
            names.push_str(tag.name);
            let unit = *known.entry(tag.unit).or_insert_with(|| {
                units.push(tag.unit.into());
                small(units.len() - 1)
            });
            Entry {
                end: small(names.len()),
                unit,
                device: tag.device,
                group: tag.group.unwrap_or(NO_GROUP),
            }
        });
        Self {
            entries: entries.collect(),
            names: names.into(),
            units: units.into(),
        }
    }
}

impl Layout {
    /// The names of a tag.
    pub fn tag(&self, tag: TagId) -> Option<TagNames<'_>> {
        self.tags.get(tag.index())
    }

    /// The name of a tag's device; empty if there is no such device.
    pub fn device_of(&self, tag: TagNames<'_>) -> &str {
        let device = self.devices.get(tag.device as usize);
        device.map(|name| &**name).unwrap_or_default()
    }

    /// The name of a tag's group; empty if it is in none.
    pub fn group_of(&self, tag: TagNames<'_>) -> &str {
        let group = tag.group.and_then(|group| self.groups.get(group as usize));
        group.map(|name| &**name).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_names() {
        let tag = |name, unit, device, group| TagNames {
            name,
            unit,
            device,
            group,
        };
        let all = [
            tag("druck", "bar", 0, Some(0)),
            tag("", "", 1, None),
            tag("öl°", "°C", 2, Some(7)),
            tag("t", "bar", u32::MAX, Some(u32::MAX - 1)),
        ];
        let list: TagList = all.into_iter().collect();
        assert_eq!((list.len(), list.units.len()), (4, 3));
        assert!(list.iter().eq(all));
        assert_eq!(list.get(2), Some(all[2]));
        assert_eq!(list.get(4), None);
        assert!(TagList::default().is_empty() && TagList::default().get(0).is_none());
    }
}
