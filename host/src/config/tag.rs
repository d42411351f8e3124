//! Groups and tags.

use std::time::Duration;

use super::channel::MAX_ADDRESS_CHARS;
use super::checked::{Access, Group, Report, Tag};
use super::fault::quoted;
use super::names::{Names, called, required_name};
use super::resolve::MAX_TAGS;
use super::section::{Keys, Section};
use crate::event::{DataType, Scalar};
use crate::ids::{DeviceId, TagId};

/// The most groups of one channel.
const MAX_GROUPS: usize = 1_024;
const MAX_UNIT_CHARS: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 1_024;

pub(super) const GROUP: Keys = Keys {
    known: &["name", "period", "device", "tags"],
    later: &[("tags_file", "write the tags under `tags`")],
};
pub(super) const TAG: Keys = Keys {
    known: &[
        "name",
        "address",
        "type",
        "device",
        "access",
        "settings",
        "scale",
        "offset",
        "report",
        "deadband",
        "unit",
        "description",
    ],
    later: &[],
};

/// Reads groups with their tags, then the tags outside any group.
pub(super) fn groups_and_tags<'r>(
    channel: &Section<'r>,
    devices: &Names<'r>,
    tags_left: &mut usize,
) -> (Vec<Group>, Vec<Tag>) {
    let mut reader = Reader {
        channel,
        devices,
        names: Names::new("tag"),
        tags: Vec::new(),
        tags_left,
    };
    let mut group_names = Names::new("group");
    let mut groups = Vec::new();
    for (index, section) in channel.tables("group").into_iter().enumerate() {
        if index == MAX_GROUPS {
            section.fault(format!(
                "more than {MAX_GROUPS} groups; split the channel in two"
            ));
            break;
        }
        let at = format!(
            "{}, {}",
            channel.at(),
            called("group", &section, "name", index)
        );
        let section = section.named(at);
        groups.push(reader.group(&section, &mut group_names));
    }
    for (index, section) in channel.tables("tag").into_iter().enumerate() {
        reader.tag(section, index, None, Polled::OnDemand);
    }
    (groups, reader.tags)
}

struct Reader<'a, 'r> {
    channel: &'a Section<'r>,
    devices: &'a Names<'r>,
    names: Names<'r>,
    tags: Vec<Tag>,
    tags_left: &'a mut usize,
}

/// Whether a tag stands in a group.
#[derive(Clone, Copy, PartialEq)]
enum Polled {
    InGroup,
    OnDemand,
}

impl<'r> Reader<'_, 'r> {
    fn group(&mut self, section: &Section<'r>, names: &mut Names<'r>) -> Group {
        section.refuse_unknown_keys(&GROUP);
        let name = required_name(section, "fast");
        if let Some(name) = name {
            names.claim(section, "name", name);
        }
        let day = Duration::from_secs(86_400);
        let example = Duration::from_millis(100);
        if !section.has("period") {
            section.fault("`period` is missing; add one such as `period = \"100ms\"`");
        }
        let period = section.duration("period", example, Duration::from_millis(10)..=day);
        let tags = section.tables("tags");
        if !section.has("tags") || section.is_empty_list("tags") {
            section.fault_at(
                "tags",
                "the group has no tags; add some under `tags`, or remove the group",
            );
        }
        let device = match section.has("device") {
            true => Some(self.device(section)),
            // Every one of the tags would be at fault for the same reason: say it once.
            false
                if self.devices_differ()
                    && !tags.is_empty()
                    && !tags.iter().any(|tag| tag.has("device")) =>
            {
                section.fault(self.which_device("the group"));
                Some(DeviceId(0))
            }
            false => None,
        };
        let first = self.tags.len();
        for (index, tag) in tags.into_iter().enumerate() {
            self.tag(tag, index, device, Polled::InGroup);
        }
        let tags = (first..self.tags.len())
            .map(|index| TagId(index as u32))
            .collect();
        Group {
            name: name.unwrap_or_default().to_owned(),
            period,
            tags,
        }
    }

    fn tag(
        &mut self,
        section: Section<'r>,
        index: usize,
        device: Option<DeviceId>,
        polled: Polled,
    ) {
        let Some(left) = self.tags_left.checked_sub(1) else {
            section.fault(format!(
                "more than {MAX_TAGS} tags in one file; move the rest to another host"
            ));
            return;
        };
        *self.tags_left = left;
        let named = called("tag", &section, "name", index);
        let parent = if section.has("name") {
            self.channel.at()
        } else {
            section.at()
        };
        let at = format!("{parent}, {named}");
        let section = section.named(at);
        section.refuse_unknown_keys(&TAG);
        let name = required_name(&section, "temp");
        if let Some(name) = name {
            self.names.claim(&section, "name", name);
        }
        let device = match device {
            _ if section.has("device") => self.device(&section),
            Some(device) => device,
            None => {
                if self.devices_differ() {
                    section.fault(self.which_device("the tag"));
                }
                DeviceId(0)
            }
        };
        let address = section
            .required("address", "40001")
            .map(|_| section.text("address", MAX_ADDRESS_CHARS, "40001"));
        if address.as_deref() == Some("") {
            section.fault_at(
                "address",
                "`address` is empty; write it as the driver's documentation says",
            );
        }
        let data_type = data_type(&section);
        let (scale, offset) = scaling(&section, data_type);
        let (report, deadband) = report(&section, data_type);
        self.tags.push(Tag {
            name: name.unwrap_or_default().to_owned(),
            device,
            address: address.unwrap_or_default(),
            data_type,
            access: access(&section, polled),
            settings: section.settings("settings"),
            scale,
            offset,
            report,
            deadband,
            unit: section.text("unit", MAX_UNIT_CHARS, "bar"),
            description: section.text(
                "description",
                MAX_DESCRIPTION_CHARS,
                "oil, before the filter",
            ),
        });
    }

    fn devices_differ(&self) -> bool {
        self.devices.len() > 1
    }

    fn which_device(&self, who: &str) -> String {
        format!(
            "the channel has several devices, and {who} does not say which it means; add `device = \"..\"` with one of {}",
            self.devices.some()
        )
    }

    fn device(&self, section: &Section<'r>) -> DeviceId {
        let Some(written) = section.string("device", "press") else {
            return DeviceId(0);
        };
        match self.devices.position(written) {
            Some(position) => DeviceId(position as u32),
            None => {
                let message = format!(
                    "there is no device {}; the channel has {}",
                    quoted(written),
                    self.devices.some()
                );
                section.fault_at("device", message);
                DeviceId(0)
            }
        }
    }
}

fn data_type(section: &Section<'_>) -> DataType {
    let void = DataType {
        scalar: Scalar::Float64,
        elements: None,
    };
    let Some(written) = section.required("type", "float32") else {
        return void;
    };
    DataType::parse(written).unwrap_or_else(|| {
        let names: Vec<&str> = Scalar::ALL.iter().map(|(_, name)| *name).collect();
        section.fault_at(
            "type",
            format!(
                "{} is no type; use one of {}, or one with a number of elements such as `int16[8]`",
                quoted(written),
                names.join(", ")
            ),
        );
        void
    })
}

fn access(section: &Section<'_>, polled: Polled) -> Access {
    let words = [
        ("r", Access::Read),
        ("w", Access::Write),
        ("rw", Access::ReadWrite),
    ];
    let access = section.choice("access", Access::Read, &words);
    if access == Access::Write && polled == Polled::InGroup {
        section.fault_at(
            "access",
            "a tag that can only be written cannot be polled; make it \"rw\", or move it to `[[channel.tag]]`",
        );
    }
    access
}

fn scaling(section: &Section<'_>, data_type: DataType) -> (f64, f64) {
    refuse_unless_numeric(section, data_type, &["scale", "offset"]);
    let scale = section.number("scale", 1.0);
    if scale == 0.0 {
        section.fault_at(
            "scale",
            "`scale` is 0, which makes every value the same; use another number",
        );
    }
    (scale, section.number("offset", 0.0))
}

fn report(section: &Section<'_>, data_type: DataType) -> (Report, f64) {
    let words = [("always", Report::Always), ("change", Report::Change)];
    let report = section.choice("report", Report::Always, &words);
    let deadband = section.number("deadband", 0.0);
    if refuse_unless_numeric(section, data_type, &["deadband"]) {
        return (report, deadband);
    }
    if deadband < 0.0 {
        section.fault_at(
            "deadband",
            format!("`deadband` is {deadband}; use 0 or more"),
        );
    }
    let reports_change = report == Report::Change
        || section.has("report") && section.peek("report") != Some("always");
    if section.has("deadband") && !reports_change {
        section.fault_at(
            "deadband",
            "`deadband` has no effect as it stands; add `report = \"change\"`, or remove it",
        );
    }
    (report, deadband)
}

/// Reports those of the keys that make sense for numbers only. Says whether there was one.
fn refuse_unless_numeric(section: &Section<'_>, data_type: DataType, keys: &[&str]) -> bool {
    let mut refused = false;
    for key in keys
        .iter()
        .filter(|key| section.has(key) && !data_type.scalar.is_numeric())
    {
        section.fault_at(
            key,
            format!("`{key}` is for numbers, and the type is `{data_type}`; remove it"),
        );
        refused = true;
    }
    refused
}
