//! The tags of a configuration as a file of tags.
//!
//! What is exported is what is written, cell by cell: a deadband of `2%` stays one. The device of a group alone is added to its tags,
//! since they are no tags of the group any more where they go.

use serde_json::Value as Json;

use super::document::{self, Findings};
use super::locations::Locations;
use super::rows;
use super::section::Section;
use super::tag::TAG;
use super::tags_files::TagsFiles;
use crate::ids::ChannelId;

/// Tags as rows of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagTable {
    /// `name`, `address`, `type` and those that are in use, in the order of the reference.
    pub columns: Vec<&'static str>,
    /// A cell for each column; an empty one is a key that is absent.
    pub rows: Vec<Vec<String>>,
}

impl TagTable {
    /// As CSV (RFC 4180), in lines that end as Unix ends them.
    pub fn to_csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                if cell.contains(['"', ',', '\r', '\n']) {
                    text.push('"');
                    text.push_str(&cell.replace('"', "\"\""));
                    text.push('"');
                } else {
                    text.push_str(cell);
                }
            }
            text.push('\n');
        }
        text
    }
}

impl Locations {
    /// The tags of a channel, or of one of its groups: in the order of the groups, then those outside of them. `None` if there is no such
    /// channel or group.
    pub fn tags(&self, channel: &ChannelId, group: Option<&str>) -> Option<TagTable> {
        let findings = Findings::new(self.file(), &self.text);
        let tree = document::read(&self.text, &findings)?;
        let files = TagsFiles::new(&self.texts, &findings);
        let root = Section::new(&tree, 0..0, "", &findings);
        let mut channels = root.tables("channel").into_iter();
        let channel = channels.find(|found| found.peek("id") == Some(channel.as_str()))?;
        let mut groups = channel.tables("group");
        if let Some(group) = group {
            groups.retain(|found| found.peek("name") == Some(group));
            groups.first()?;
        }
        let mut all = Vec::new();
        for group in &groups {
            tags_of(group, "tags", &files, &mut all);
        }
        if group.is_none() {
            tags_of(&channel, "tag", &files, &mut all);
        }
        let is_used = |(index, key): &(usize, &&str)| {
            let is_required = rows::REQUIRED.contains(key);
            is_required || all.iter().any(|cells| !cells[*index].is_empty())
        };
        let used: Vec<usize> = TAG
            .known
            .iter()
            .enumerate()
            .filter(is_used)
            .map(|(index, _)| index)
            .collect();
        let of_used =
            |cells: &Vec<String>| used.iter().map(|index| cells[*index].clone()).collect();
        Some(TagTable {
            columns: used.iter().map(|index| TAG.known[*index]).collect(),
            rows: all.iter().map(of_used).collect(),
        })
    }
}

/// The cells of each tag that stands under a key or in the file of tags of a section, one for each key of a tag.
fn tags_of<'r>(
    section: &Section<'r>,
    key: &str,
    files: &'r TagsFiles<'r>,
    all: &mut Vec<Vec<String>>,
) {
    let from_file = files.of(section).into_iter().flat_map(|file| {
        let rows = file.rows.iter();
        rows.map(|row| Section::row(row, "", &file.findings))
    });
    for tag in section.tables(key).into_iter().chain(from_file) {
        let cell = |key: &&str| match *key {
            "settings" => settings(&tag.settings("settings")),
            "device" if !tag.has("device") => section.peek("device").unwrap_or_default().to_owned(),
            key => tag
                .get(key)
                .map_or_else(String::new, |node| rows::cell(node.get_ref())),
        };
        all.push(TAG.known.iter().map(cell).collect());
    }
}

/// Settings as a cell holds them: nothing where there are none.
fn settings(settings: &Json) -> String {
    if settings.as_object().is_none_or(serde_json::Map::is_empty) {
        return String::new();
    }
    let mut text = String::new();
    inline(settings, &mut text);
    text
}

/// A value as TOML writes it within a line.
fn inline(value: &Json, text: &mut String) {
    match value {
        Json::Object(table) => {
            text.push('{');
            for (index, (key, value)) in table.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { " " });
                let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                if !key.is_empty() && key.bytes().all(is_bare) {
                    text.push_str(key);
                } else {
                    string(key, text);
                }
                text.push_str(" = ");
                inline(value, text);
            }
            text.push_str(if table.is_empty() { "}" } else { " }" });
        }
        Json::Array(list) => {
            text.push('[');
            for (index, value) in list.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                inline(value, text);
            }
            text.push(']');
        }
        Json::String(written) => string(written, text),
        // Numbers and truth values are written alike in both. Null comes from nothing that a file can say.
        Json::Number(_) | Json::Bool(_) | Json::Null => text.push_str(&value.to_string()),
    }
}

/// A string as TOML writes it: between single quotes where they suffice, since a cell must double the others.
pub(super) fn string(written: &str, text: &mut String) {
    if !written.contains(|c: char| c == '\'' || c.is_control()) {
        text.push('\'');
        text.push_str(written);
        text.push('\'');
        return;
    }
    text.push('"');
    for c in written.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                text.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_written_as_toml_reads_them() {
        for value in [
            json!({ "order": "cdab", "n": 1, "big": u64::MAX, "f": 1e300, "t": true }),
            json!({ "a b": { "": [1, 2.5, "x'y", "\"\\\n\u{7f}\u{85}"] }, "none": {}, "empty": [] }),
        ] {
            let text = settings(&value);
            assert!(!text.contains('\n'), "{text}");
            let read = toml::de::DeValue::parse(&text).unwrap();
            let read = super::super::section::json(&read, &mut |_, fault| panic!("{fault}"));
            assert_eq!(read, value, "{text}");
        }
        assert_eq!(settings(&json!({ "order": "cdab" })), "{ order = 'cdab' }");
        assert_eq!(settings(&json!({})), "");
    }
}
