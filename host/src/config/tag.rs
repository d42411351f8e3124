//! Groups and tags, whether they stand in the configuration or in files of tags.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::channel::MAX_ADDRESS_CHARS;
use super::checked::{Access, Bounds, Group, Part, Report, Tag, Treatment};
use super::fault::quoted;
use super::names::{Names, called, required_name};
use super::resolve::MAX_TAGS;
use super::section::{Keys, Section};
use super::tags_files::TagsFiles;
use crate::event::{DataType, Scalar};
use crate::ids::{DeviceId, TagId};

/// The most groups of one channel.
const MAX_GROUPS: usize = 1_024;
/// The most of what tags share that is kept for those that follow.
const LATELY: usize = 16;
const MAX_UNIT_CHARS: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 1_024;

pub(super) const GROUP: Keys = Keys {
    known: &[
        "name",
        "period",
        "device",
        "stale_after",
        "tags",
        "tags_file",
    ],
    later: &[],
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
        "mask",
        "bit",
        "clamp",
        "limits",
        "report",
        "deadband",
        "interval",
        "max_silence",
        "write_interval",
        "unit",
        "description",
    ],
    later: &[],
};

/// Where tags may stand, and how many there may be.
pub(super) struct Tags<'r> {
    pub(super) files: &'r TagsFiles<'r>,
    /// How many more there may be.
    pub(super) left: usize,
}

/// Reads groups with their tags, then the tags outside any group.
pub(super) fn groups_and_tags<'r>(
    channel: &Section<'r>,
    devices: &Names<'r>,
    tags: &mut Tags<'r>,
) -> (Vec<Group>, Vec<Tag>) {
    let mut reader = Reader {
        channel,
        devices,
        names: Names::new("tag"),
        tags: Vec::new(),
        treatments: Lately::default(),
        settings: Lately::default(),
        files: HashMap::new(),
        bound: tags,
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
    let from_file = reader.rows(channel, false);
    for tags in [channel.tables("tag"), from_file] {
        for (index, section) in tags.into_iter().enumerate() {
            reader.tag(section, index, None, Polled::OnDemand);
        }
    }
    (groups, reader.tags)
}

/// What is the same for many tags, to be shared by them; what came latest first.
struct Lately<T>(VecDeque<Arc<T>>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Lately<T> {
    /// The same for all that have the same, as far as it came lately.
    fn shared(&mut self, new: T, is_same: impl Fn(&T, &T) -> bool) -> Arc<T> {
        let known = self.0.iter().position(|known| is_same(known, &new));
        let shared = match known.and_then(|place| self.0.remove(place)) {
            Some(known) => known,
            None => Arc::new(new),
        };
        self.0.truncate(LATELY - 1);
        self.0.push_front(shared.clone());
        shared
    }
}

/// Whether settings are the same to whoever reads them: 0 and -0 are equal, and not the same.
fn is_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    let written = |settings: &serde_json::Value| settings.to_string();
    one == other && written(one) == written(other)
}

struct Reader<'a, 'r> {
    channel: &'a Section<'r>,
    devices: &'a Names<'r>,
    names: Names<'r>,
    tags: Vec<Tag>,
    treatments: Lately<Treatment>,
    settings: Lately<serde_json::Value>,
    /// The files of tags so far, and what names them.
    files: HashMap<&'r str, String>,
    bound: &'a mut Tags<'r>,
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
        let mut tags = section.tables("tags");
        let has_file = section.has("tags_file");
        if !has_file && (!section.has("tags") || section.is_empty_list("tags")) {
            section.fault_at(
                "tags",
                "the group has no tags; add some under `tags` or in a `tags_file`, or remove the group",
            );
        }
        let before_rows = tags.len();
        tags.extend(self.rows(section, tags.is_empty()));
        let device = match section.has("device") {
            true => Some(self.device(section)),
            // Every one of the tags would be at fault for the same reason: say it once.
            false
                if self.devices_differ()
                    && !tags.is_empty()
                    && !tags.iter().any(|tag| tag.has("device")) =>
            {
                section.fault(self.which_device(section, "the group"));
                Some(DeviceId(0))
            }
            false => None,
        };
        let first = self.tags.len();
        for (index, tag) in tags.into_iter().enumerate() {
            let index = index.checked_sub(before_rows).unwrap_or(index);
            self.tag(tag, index, device, Polled::InGroup);
        }
        let tags = (first..self.tags.len())
            .map(|index| TagId(index as u32))
            .collect();
        Group {
            name: name.unwrap_or_default().to_owned(),
            period,
            tags,
            stale_after: stale_after(section, period),
        }
    }

    /// The tags in the file that a group or the channel names, if it names one. `needs_some`: a file without any is reported.
    fn rows(&mut self, section: &Section<'r>, needs_some: bool) -> Vec<Section<'r>> {
        let Some(file) = self.bound.files.of(section) else {
            return Vec::new();
        };
        if let Some(first) = section
            .peek("tags_file")
            .and_then(|written| self.files.insert(written, section.at().to_owned()))
        {
            let message = format!(
                "these are the tags of {first} already, and a name stands once in a channel; name another file"
            );
            section.fault_at("tags_file", message);
            return Vec::new();
        }
        if file.is_empty && needs_some {
            section.fault_at(
                "tags_file",
                "the group has no tags; add a row for each to the file, or remove the group",
            );
        }
        let rows = file.rows.iter();
        rows.map(|row| Section::row(row, section.at(), &file.findings))
            .collect()
    }

    fn tag(
        &mut self,
        section: Section<'r>,
        index: usize,
        device: Option<DeviceId>,
        polled: Polled,
    ) {
        let Some(left) = self.bound.left.checked_sub(1) else {
            section.fault(format!(
                "more than {MAX_TAGS} tags; move the rest to another host"
            ));
            return;
        };
        self.bound.left = left;
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
                    section.fault(self.which_device(&section, "the tag"));
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
        let access = access(&section, polled);
        let part = part(&section, data_type, access);
        let data_type_shown = match part {
            Some(Part::Bit(_)) => DataType {
                scalar: Scalar::Bool,
                ..data_type
            },
            _ => data_type,
        };
        let (scale, offset) = scaling(&section, data_type_shown);
        let (clamp, limits) = (
            bounds(&section, "clamp", data_type_shown),
            bounds(&section, "limits", data_type_shown),
        );
        let (report, deadband) = report(&section, data_type_shown, limits);
        let (interval, max_silence) = rhythm(&section, report);
        let description = section.text(
            "description",
            MAX_DESCRIPTION_CHARS,
            "oil, before the filter",
        );
        let treatment = Treatment {
            scale,
            offset,
            part,
            clamp,
            limits,
            report,
            deadband,
            interval,
            max_silence,
            write_interval_ms: write_interval(&section, access),
            unit: section.text("unit", MAX_UNIT_CHARS, "bar"),
        };
        let treatment = self.treatments.shared(treatment, PartialEq::eq);
        self.tags.push(Tag {
            name: name.unwrap_or_default().into(),
            device,
            address: address.unwrap_or_default().into(),
            data_type,
            access,
            settings: self.settings.shared(section.settings("settings"), is_same),
            treatment,
            description: description.into(),
        });
    }

    fn devices_differ(&self) -> bool {
        self.devices.len() > 1
    }

    fn which_device(&self, section: &Section<'_>, who: &str) -> String {
        format!(
            "the channel has several devices, and {who} does not say which it means; add {} with one of {}",
            section.example("device", "\"..\""),
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

/// After how long without a sample a tag of a group is stale: as many periods as are written, or three, but then no less than five
/// seconds.
fn stale_after(section: &Section<'_>, period: Duration) -> Option<Duration> {
    if section.peek("stale_after") == Some("never") {
        return None;
    }
    let periods = section.integer("stale_after", 3, 1..=1_000);
    let periods = u32::try_from(periods).unwrap_or(u32::MAX);
    let after = period.saturating_mul(periods);
    Some(match section.has("stale_after") {
        true => after,
        false => after.max(Duration::from_secs(5)),
    })
}

fn data_type(section: &Section<'_>) -> DataType {
    let void = DataType {
        scalar: Scalar::Float64,
        elements: None,
    };
    let Some(written) = section.required("type", "float32") else {
        return void;
    };
    let parsed = DataType::parse(written);
    if let Some(DataType {
        scalar: Scalar::Bytes,
        elements: Some(_),
    }) = parsed
    {
        section.fault_at(
            "type",
            format!(
                "{} is an array of bytes, which no value holds; make each element a tag of type bytes",
                quoted(written)
            ),
        );
        return void;
    }
    parsed.unwrap_or_else(|| {
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

/// The bits that are the tag's, where it has not all of them.
fn part(section: &Section<'_>, data_type: DataType, access: Access) -> Option<Part> {
    let keys: Vec<&str> = ["mask", "bit"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    let key = *keys.first()?;
    if keys.len() > 1 {
        section.fault_at("bit", "`bit` and `mask` exclude one another; remove one");
        return None;
    }
    let Some(bits) = data_type.scalar.bits() else {
        section.fault_at(
            key,
            format!("`{key}` is for whole numbers, and the type is `{data_type}`; remove it"),
        );
        return None;
    };
    if access != Access::Read {
        section.fault_at(
            key,
            format!("a tag with `{key}` can only be read: the rest of the number would have to be written with it; make it {}, or address the bits themselves if the driver can", section.example("access", "\"r\"")),
        );
    }
    if key == "bit" {
        let bit = section.integer("bit", 0, 0..=u64::from(bits) - 1);
        return u8::try_from(bit).ok().map(Part::Bit);
    }
    let most = u64::MAX >> (64 - bits);
    let written = section.string("mask", "0x00ff")?;
    let digits = written.strip_prefix("0x").unwrap_or_default();
    let mask = u64::from_str_radix(digits, 16)
        .ok()
        .filter(|mask| !digits.starts_with('+') && (1..=most).contains(mask));
    if mask.is_none() {
        section.fault_at(
            "mask",
            format!(
                "`mask` is {}; use the bits of `{data_type}` as a hexadecimal number, \"0x1\" to \"{most:#x}\"",
                quoted(written)
            ),
        );
    }
    mask.map(Part::Mask)
}

fn bounds(section: &Section<'_>, key: &str, data_type: DataType) -> Option<Bounds> {
    if refuse_unless_numeric(section, data_type, &[key]) {
        return None;
    }
    let (low, high) = section.span_of_numbers(key, "[0, 100]")?;
    Some(Bounds { low, high })
}

const REPORTS: [(&str, Report); 4] = [
    ("always", Report::Always),
    ("change", Report::Change),
    ("interval", Report::Interval),
    ("both", Report::Both),
];

/// Whether a wrong word stands there, so that it is unknown what else was meant.
fn is_unclear(section: &Section<'_>) -> bool {
    section.has("report")
        && !REPORTS
            .iter()
            .any(|(word, _)| section.peek("report") == Some(word))
}

fn report(section: &Section<'_>, data_type: DataType, limits: Option<Bounds>) -> (Report, f64) {
    let report = section.choice("report", Report::Always, &REPORTS);
    if refuse_unless_numeric(section, data_type, &["deadband"]) {
        return (report, 0.0);
    }
    let deadband = match section.peek("deadband") {
        Some(percent) => percent_of(section, percent, limits),
        None => section.number("deadband", 0.0),
    };
    if deadband < 0.0 {
        section.fault_at(
            "deadband",
            format!("`deadband` is {deadband}; use 0 or more"),
        );
    }
    if section.has("deadband") && !report.is_by_change() && !is_unclear(section) {
        section.fault_at(
            "deadband",
            format!(
                "`deadband` has no effect as it stands; add {}, or remove it",
                section.example("report", "\"change\"")
            ),
        );
    }
    (report, deadband)
}

/// `"2%"`: of the range that the limits span, as OPC UA's PercentDeadband (OPC 10000-8, 7.2).
fn percent_of(section: &Section<'_>, written: &str, limits: Option<Bounds>) -> f64 {
    let percent = written.strip_suffix('%').map(str::trim_end);
    let percent = percent.and_then(|percent| percent.parse::<f64>().ok());
    let Some(percent) = percent.filter(|percent| (0.0..=100.0).contains(percent)) else {
        section.fault_at(
            "deadband",
            format!(
                "`deadband` is {}; use a number in the units of the tag, or \"0%\" to \"100%\" of its `limits`",
                quoted(written)
            ),
        );
        return 0.0;
    };
    match limits {
        Some(limits) => percent / 100.0 * (limits.high - limits.low),
        None => {
            section.fault_at(
                "deadband",
                format!(
                    "a `deadband` in percent is one of the tag's `limits`; add them, such as {}, or write a number in its units",
                    section.example("limits", "[0, 100]")
                ),
            );
            0.0
        }
    }
}

/// How often is reported what has not changed.
fn rhythm(section: &Section<'_>, report: Report) -> (Duration, Option<Duration>) {
    let (example, least) = (Duration::from_secs(10), Duration::from_millis(10));
    let bounds = || least..=Duration::from_secs(86_400);
    let interval = section.duration("interval", example, bounds());
    let unclear = is_unclear(section);
    if report.is_by_interval() && !section.has("interval") {
        section.fault_at(
            "report",
            format!(
                "{} needs an `interval`; add one such as {}",
                section.example("report", &format!("\"{}\"", report.as_str())),
                section.example("interval", "\"10s\"")
            ),
        );
    }
    if section.has("interval") && !report.is_by_interval() && !unclear {
        section.fault_at(
            "interval",
            format!(
                "`interval` has no effect as it stands; add {}, or remove it",
                match section.is_row() {
                    true => "`interval` or `both` under `report`",
                    false => "`report = \"interval\"` or `\"both\"`",
                }
            ),
        );
    }
    if section.has("max_silence") && report == Report::Always && !unclear {
        section.fault_at(
            "max_silence",
            format!(
                "`max_silence` has no effect as it stands: every sample is reported; add {}, or remove it",
                section.example("report", "\"change\"")
            ),
        );
    }
    let silence = section
        .has("max_silence")
        .then(|| section.duration("max_silence", example, bounds()));
    let interval = if report.is_by_interval() {
        interval
    } else {
        Duration::ZERO
    };
    (interval, silence)
}

/// The shortest time between two writes, in milliseconds; what is left of one counts as a whole one.
fn write_interval(section: &Section<'_>, access: Access) -> Option<NonZeroU32> {
    if !section.has("write_interval") {
        return None;
    }
    if !access.is_writable() {
        section.fault_at(
            "write_interval",
            "`write_interval` has no effect as it stands: the tag is not written; add `access = \"rw\"`, or remove it",
        );
    }
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
    let interval = section.duration("write_interval", Duration::from_secs(1), least..=most);
    let millis = interval.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).ok().and_then(NonZeroU32::new)
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
