//! A file of tags put into a configuration: one line is added to the text, and the rest stays as it was written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{self, Findings, Node};
use super::export::string;
use super::fault::quoted;
use super::{Checked, Faults, Host, Origin, ReadTagsFile, parse_with_files, resolved};

/// Where tags go: to a group of a channel, or outside its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot<'a> {
    /// The channel's id.
    pub channel: &'a str,
    /// The group's name.
    pub group: Option<&'a str>,
}

/// Who names a file of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsFileUser {
    /// The channel's id.
    pub channel: String,
    /// The group's name; `None` where the channel itself names the file.
    pub group: Option<String>,
    /// The path as it is written.
    pub written: String,
}

/// Why tags cannot be put into a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It would be at fault, or is already. Places are those of the text without the new line.
    #[error("{0}")]
    Faults(Faults),
    /// There is no such spot.
    #[error("{0}")]
    NoSpot(String),
}

/// A configuration into which tags are to be put.
#[derive(Clone, Copy)]
pub struct Import<'a> {
    /// Its text.
    pub text: &'a str,
    /// Where it comes from.
    pub origin: &'a Origin,
    /// Where the tags go.
    pub spot: Spot<'a>,
}

impl Import<'_> {
    /// The `tags_file` that the spot has already.
    pub fn tags_file(&self) -> Result<Option<String>, ImportError> {
        let findings = Findings::new(&self.origin.name, self.text);
        let Some(mut tree) = document::read(self.text, &findings) else {
            return Err(faults(findings));
        };
        let found = find(&mut tree, self.spot)?;
        let written = table(found).and_then(|table| table.get("tags_file"));
        Ok(written.and_then(|written| Some(written.get_ref().as_str()?.to_owned())))
    }

    /// Everybody but the spot who names a file of tags.
    pub fn other_users(&self) -> Result<Vec<TagsFileUser>, ImportError> {
        let findings = Findings::new(&self.origin.name, self.text);
        let Some(tree) = document::read(self.text, &findings) else {
            return Err(faults(findings));
        };
        let mut users = Vec::new();
        for channel in tables_of(tree.get("channel")) {
            let Some(id) = text_of(channel, "id") else {
                continue;
            };
            let groups = tables_of(channel.get("group"));
            let groups = groups.filter_map(|group| Some((Some(text_of(group, "name")?), group)));
            for (group, table) in std::iter::once((None, channel)).chain(groups) {
                let spot = Spot { channel: id, group };
                if let Some(written) = text_of(table, "tags_file")
                    && spot != self.spot
                {
                    users.push(TagsFileUser {
                        channel: id.to_owned(),
                        group: group.map(str::to_owned),
                        written: written.to_owned(),
                    });
                }
            }
        }
        Ok(users)
    }

    /// Checks the configuration as it would be with this `tags_file` at the spot, and gives its text.
    pub fn with_tags_file(
        &self,
        written: &str,
        read: &ReadTagsFile<'_>,
    ) -> Result<(String, Checked<Host>), ImportError> {
        let findings = Findings::new(&self.origin.name, self.text);
        let Some(mut tree) = document::read(self.text, &findings) else {
            return Err(faults(findings));
        };
        let found = find(&mut tree, self.spot)?;
        let text = insert(self.text, found, self.spot, written)?;
        let span = found.span();
        if let DeValue::Table(table) = found.get_mut() {
            // In the tree as well, so that faults have the places of the text as it is now.
            let key = Spanned::new(span.clone(), "tags_file".into());
            let value = DeValue::String(written.to_owned().into());
            table.insert(key, Spanned::new(span, value));
        }
        let checked = resolved(self.text, self.origin, Some(tree), findings, read)
            .map_err(ImportError::Faults)?;
        match parse_with_files(&text, self.origin, read) {
            Ok(after) if after.value == checked.value => Ok((text, after)),
            Ok(_) | Err(_) => Err(by_hand(self.spot, written)),
        }
    }
}

fn faults(findings: Findings<'_>) -> ImportError {
    match findings.into_faults() {
        Some(faults) => ImportError::Faults(faults),
        None => unreachable!("a text without a tree has been reported"),
    }
}

fn by_hand(spot: Spot<'_>, written: &str) -> ImportError {
    let to = match spot.group {
        Some(group) => format!("the group {}", quoted(group)),
        None => format!("the channel {}", quoted(spot.channel)),
    };
    ImportError::NoSpot(format!(
        "the configuration is written in a way that cannot be added to here; add `tags_file = {}` to {to} by hand",
        toml_string(written)
    ))
}

fn toml_string(written: &str) -> String {
    let mut text = String::new();
    string(written, &mut text);
    text
}

/// The text with the key after the one that names the spot.
fn insert(
    text: &str,
    found: &Spanned<Node<'_>>,
    spot: Spot<'_>,
    written: &str,
) -> Result<String, ImportError> {
    let name = if spot.group.is_some() { "name" } else { "id" };
    let name = table(found).and_then(|table| table.get(name));
    let (Some(name), Some(whole)) = (name, text.get(found.span().start..)) else {
        return Err(by_hand(spot, written));
    };
    let after = name.span().end;
    let (Some(before), Some(rest)) = (text.get(..after), text.get(after..)) else {
        return Err(by_hand(spot, written));
    };
    let entry = format!("tags_file = {}", toml_string(written));
    if whole.starts_with('{') {
        return Ok(format!("{before}, {entry}{rest}"));
    }
    let end = rest.find('\n').unwrap_or(rest.len());
    let line = rest.get(..end).unwrap_or_default();
    let line_break = if line.ends_with('\r') { "\r\n" } else { "\n" };
    let line = line.strip_suffix('\r').unwrap_or(line);
    let rest = rest.get(line.len()..).unwrap_or_default();
    Ok(format!("{before}{line}{line_break}{entry}{rest}"))
}

fn table<'v, 'i>(node: &'v Spanned<Node<'i>>) -> Option<&'v DeTable<'i>> {
    node.get_ref().as_table()
}

fn tables_of<'v, 'i>(
    list: Option<&'v Spanned<Node<'i>>>,
) -> impl Iterator<Item = &'v DeTable<'i>> + use<'v, 'i> {
    let list = list.and_then(|list| list.get_ref().as_array());
    list.into_iter()
        .flat_map(|list| list.iter())
        .filter_map(table)
}

fn text_of<'v>(table: &'v DeTable<'_>, key: &str) -> Option<&'v str> {
    table.get(key)?.get_ref().as_str()
}

/// The table of a spot.
fn find<'v, 'i>(
    tree: &'v mut DeTable<'i>,
    spot: Spot<'_>,
) -> Result<&'v mut Spanned<Node<'i>>, ImportError> {
    let none = |what: &str, name: &str, there: Vec<String>, remedy: &str| {
        let there = match there.is_empty() {
            true => "nor any other".to_owned(),
            false => format!("but {}", there.join(", ")),
        };
        ImportError::NoSpot(format!(
            "there is no {what} {}, {there}; {remedy}",
            quoted(name)
        ))
    };
    let channels = tree.get_mut("channel");
    let there = names(channels.as_deref(), "id");
    let channel = item(channels, "id", spot.channel)
        .ok_or_else(|| none("channel", spot.channel, there, "name one of those"))?;
    let Some(group) = spot.group else {
        return Ok(channel);
    };
    let groups = match channel.get_mut() {
        DeValue::Table(table) => table.get_mut("group"),
        _ => None,
    };
    let there = names(groups.as_deref(), "name");
    let remedy = "add it to the configuration with a `name` and a `period`, or name one of those";
    item(groups, "name", group).ok_or_else(|| none("group", group, there, remedy))
}

/// The names of the first few tables of a list.
fn names(list: Option<&Spanned<Node<'_>>>, key: &str) -> Vec<String> {
    const SHOWN: usize = 8;
    let list = list.and_then(|list| list.get_ref().as_array());
    list.into_iter()
        .flat_map(|list| list.iter())
        .filter_map(|item| Some(quoted(table(item)?.get(key)?.get_ref().as_str()?)))
        .take(SHOWN)
        .collect()
}

fn item<'v, 'i>(
    list: Option<&'v mut Spanned<Node<'i>>>,
    key: &str,
    name: &str,
) -> Option<&'v mut Spanned<Node<'i>>> {
    let DeValue::Array(list) = list?.get_mut() else {
        return None;
    };
    list.iter_mut().find(|item| {
        let found = table(item).and_then(|table| table.get(key));
        found.and_then(|found| found.get_ref().as_str()) == Some(name)
    })
}
