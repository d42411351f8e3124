//! Where the parts of a configuration stand in its files, for faults that are found after it was read.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Origin;
use super::document::{Findings, Lines};
use super::fault::{Fault, Position, plain};
use super::rows::{Row, Rows};
use super::tags_files::{TagsFiles, Texts};
use crate::ids::ChannelId;

/// Finds the place of a channel's parts.
///
/// It keeps the texts and reads them anew at each question: faults are rare, and a table of places for 100,000 tags
/// would outweigh their configuration.
#[derive(Clone, Debug)]
pub struct Locations {
    file: String,
    pub(super) text: Arc<str>,
    pub(super) texts: Arc<Texts>,
}

/// A place in a configuration or in one of its files of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file of tags; `None` for the configuration itself.
    pub file: Option<String>,
    /// Where in it.
    pub position: Position,
}

impl Locations {
    pub(super) fn new(origin: &Origin, text: &str, texts: Texts) -> Self {
        Self {
            file: origin.name.clone(),
            text: text.into(),
            texts: texts.into(),
        }
    }

    /// The files of tags that the configuration names.
    pub fn tags_files(&self) -> impl Iterator<Item = &Path> {
        self.texts.paths()
    }

    /// The file, as the operator named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The place of a part of a channel: `driver`, `settings.timeout_ms`, `device press.address`, `group fast.period`,
    /// `tag temp.settings.order[1]`, `link plc`. Where the part itself is not in the file, the nearest that holds
    /// it; the channel itself for the empty `at`. `None` if there is no such channel.
    pub fn locate(&self, channel: &ChannelId, at: &str) -> Option<Place> {
        self.locate_all(channel, &[at]).pop()
    }

    /// Makes a fault of what was found wrong with a part of a channel. See [`Locations::locate`].
    pub fn faults<'a>(
        &self,
        channel: &ChannelId,
        wrong: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Vec<Fault> {
        let (parts, messages): (Vec<&str>, Vec<String>) = wrong.into_iter().unzip();
        let mut places = self.locate_all(channel, &parts);
        let beginning = Place {
            file: None,
            position: Position { line: 1, column: 1 },
        };
        places.resize(parts.len(), beginning);
        let named = parts.iter().map(|part| match *part {
            "" => format!("channel {channel}"),
            part => format!("channel {channel}, {}", plain(part)),
        });
        let all = places.into_iter().zip(named).zip(messages);
        all.map(|((place, at), message)| Fault {
            file: place.file,
            position: place.position,
            at,
            message,
        })
        .collect()
    }

    fn locate_all(&self, channel: &ChannelId, parts: &[&str]) -> Vec<Place> {
        let Ok(tree) = DeTable::parse(&self.text) else {
            return Vec::new();
        };
        let Some(found) = item(tree.get_ref().get("channel"), "id", channel.as_str()) else {
            return Vec::new();
        };
        // What the rows say was in order when it was read.
        let findings = Findings::new(&self.file, "");
        let written = written_files(found);
        let files = TagsFiles::those(&self.texts, &findings, &|file| written.contains(&file));
        let lines = Lines::new(&self.text);
        let place = |part: &&str| match part_of(found, &files, part) {
            Part::Here(byte) => Place {
                file: None,
                position: lines.position(byte),
            },
            Part::InRows(rows, byte) => Place {
                file: Some(rows.findings.file().to_owned()),
                position: rows.findings.position(byte),
            },
        };
        parts.iter().map(place).collect()
    }
}

/// The files of tags that a channel and its groups name.
fn written_files<'v>(channel: &'v Spanned<DeValue<'_>>) -> Vec<&'v str> {
    let groups = channel.get_ref().get("group").into_iter().flat_map(items);
    std::iter::once(channel)
        .chain(groups)
        .filter_map(|table| table.get_ref().get("tags_file")?.get_ref().as_str())
        .collect()
}

/// Where a part begins, as a byte.
enum Part<'f, 't> {
    Here(usize),
    InRows(&'f Rows<'t>, usize),
}

/// Where the named part of a channel begins.
fn part_of<'f, 't>(
    channel: &Spanned<DeValue<'_>>,
    files: &'f TagsFiles<'t>,
    at: &str,
) -> Part<'f, 't> {
    let get = |key: &str| channel.get_ref().get(key);
    let Some((kind, rest)) = at.split_once(' ') else {
        return Part::Here(follow(channel, at));
    };
    let found = match kind {
        "device" => named(get("device"), rest),
        "group" => named(get("group"), rest),
        "link" => get("links").and_then(DeValueExt::table).and_then(|links| {
            let entries = links.iter().map(|(name, link)| (&**name.get_ref(), link));
            best(entries, rest)
        }),
        "tag" => {
            let groups = get("group")
                .into_iter()
                .flat_map(items)
                .map(|group| group.get_ref().get("tags"));
            let here = groups
                .chain([get("tag")])
                .find_map(|tags| named(tags, rest));
            if here.is_none()
                && let Some((rows, row, path)) = row_of(files, rest)
            {
                return Part::InRows(rows, row.start_of(path));
            }
            here
        }
        _ => None,
    };
    Part::Here(match found {
        Some((part, path)) => follow(part, path),
        None => channel.span().start,
    })
}

/// The row whose name begins `rest`, and what follows it.
fn row_of<'f, 't, 'p>(
    files: &'f TagsFiles<'t>,
    rest: &'p str,
) -> Option<(&'f Rows<'t>, &'f Row<'t>, &'p str)> {
    files.all().find_map(|rows| {
        let entries = rows
            .rows
            .iter()
            .filter_map(|row| Some((row.get("name")?.get_ref().as_str()?, row)));
        let (row, path) = best(entries, rest)?;
        Some((rows, row, path))
    })
}

/// Follows `settings.order[1]` as far as it goes.
fn follow(mut node: &Spanned<DeValue<'_>>, path: &str) -> usize {
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match node.get_ref() {
            DeValue::Array(list) => step.parse().ok().and_then(|index: usize| list.get(index)),
            DeValue::Table(table) => table.get(step),
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    node.span().start
}

trait DeValueExt<'v> {
    fn table(self) -> Option<&'v DeTable<'v>>;
}

impl<'v> DeValueExt<'v> for &'v Spanned<DeValue<'v>> {
    fn table(self) -> Option<&'v DeTable<'v>> {
        self.get_ref().as_table()
    }
}

fn items<'v, 'i>(list: &'v Spanned<DeValue<'i>>) -> impl Iterator<Item = &'v Spanned<DeValue<'i>>> {
    list.get_ref()
        .as_array()
        .into_iter()
        .flat_map(|list| list.iter())
}

/// The table in a list whose `key` is `name`.
fn item<'v, 'i>(
    list: Option<&'v Spanned<DeValue<'i>>>,
    key: &str,
    name: &str,
) -> Option<&'v Spanned<DeValue<'i>>> {
    items(list?)
        .find(|item| item.get_ref().get(key).and_then(|id| id.get_ref().as_str()) == Some(name))
}

/// The table in a list whose name begins `rest`, and what follows it.
fn named<'v, 'i, 'p>(
    list: Option<&'v Spanned<DeValue<'i>>>,
    rest: &'p str,
) -> Option<(&'v Spanned<DeValue<'i>>, &'p str)> {
    best(
        items(list?)
            .filter_map(|item| Some((item.get_ref().get("name")?.get_ref().as_str()?, item))),
        rest,
    )
}

/// The entry whose name begins `rest`, and what follows it. Names may contain dots, so several may fit: one that leaves
/// a key to follow is likelier meant than one that leaves none, and then a longer name than a shorter.
fn best<'n, 'p, T>(
    entries: impl Iterator<Item = (&'n str, T)>,
    rest: &'p str,
) -> Option<(T, &'p str)> {
    entries
        .filter_map(|(name, entry)| {
            let path = rest.strip_prefix(name)?;
            (path.is_empty() || path.starts_with(['.', '['])).then_some((entry, path))
        })
        .min_by_key(|(_, path)| (path.is_empty(), path.len()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Faults, Origin, parse};

    const TEXT: &str = r#"
[[channel]]
id = "other"
driver = "d"
[[channel]]
id = "a"
driver = "d"
links.plc = { connect = "tcp://plc:1" }
settings.timeout_ms = 5
settings.deep = { list = [1, 22] }
[[channel.device]]
name = "press"
address = "1"
[[channel.device]]
name = "press.address"
address = "2"
[[channel.group]]
name = "fast"
period = "1s"
tags = [
  { name = "temp", address = "1", type = "bool", device = "press" },
  { name = "temp.address", address = "2", type = "bool", device = "press" },
]
[[channel.tag]]
name = "free"
device = "press"
address = "3"
type = "bool"
settings.order = "x"
"#;

    #[test]
    fn later_faults_find_their_place() {
        let text = TEXT;
        let origin = Origin {
            name: "plant.toml".into(),
            folder: PathBuf::new(),
        };
        let locations = parse(text, &origin)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .locations;
        let id = ChannelId::new("a").unwrap();
        for (at, expected) in [
            ("", "[[channel]]"),
            ("driver", "\"d\""),
            ("settings.timeout_ms", "5"),
            ("settings.deep.list[1]", "22"),
            ("settings.deep.list[7]", "[1, 22]"),
            ("settings.unit_id", "settings.timeout_ms"),
            ("device press", "[[channel.device]]\nname = \"press\"\n"),
            ("device press.address", "\"1\""),
            ("device press.address.address", "\"2\""),
            (
                "device press.settings.slow",
                "[[channel.device]]\nname = \"press\"\n",
            ),
            ("group fast.period", "\"1s\""),
            ("group fast", "[[channel.group]]"),
            ("tag temp.address", "\"1\", type"),
            ("tag temp.address.address", "\"2\", type"),
            ("tag temp.address.", "{ name = \"temp.address\""),
            ("tag temp.type", "\"bool\", device = \"press\" },\n  {"),
            ("tag free.settings.order", "\"x\""),
            ("tag nobody.address", "[[channel]]\nid = \"a\""),
            ("link plc", "{ connect"),
            ("link plc.connect", "\"tcp"),
            ("link aux", "[[channel]]\nid = \"a\""),
            ("nonsense here", "[[channel]]\nid = \"a\""),
        ] {
            let found = locations.locate(&id, at).unwrap().position;
            let rest: String = text
                .lines()
                .skip(found.line as usize - 1)
                .flat_map(|line| [line, "\n"])
                .collect();
            let rest: String = rest.chars().skip(found.column as usize - 1).collect();
            assert!(
                rest.starts_with(expected),
                "{at}: {}",
                rest.lines().next().unwrap_or_default()
            );
        }
        assert_eq!(
            locations.locate(&ChannelId::new("nobody").unwrap(), ""),
            None
        );
        let faults = locations.faults(
            &id,
            [(
                "settings.timeout_ms",
                "is too short; use 10 or more".to_owned(),
            )],
        );
        let faults = Faults::new(locations.file(), faults, 0).unwrap();
        assert_eq!(
            faults.to_string(),
            "plant.toml:9:23: channel a, settings.timeout_ms: is too short; use 10 or more"
        );
    }
}
