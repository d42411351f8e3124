//! The files of tags that a configuration names with `tags_file`: which they are, what they say.
//!
//! No file is opened here: whoever reads the configuration hands in how files are read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::document::{Findings, MAX_BYTES, Node};
use super::fault::quoted;
use super::resolve::{MAX_TAGS, path};
use super::rows::{self, Rows};
use super::section::Section;

/// The most that all files of tags hold together, in bytes.
const MAX_BYTES_IN_ALL: usize = 4 * MAX_BYTES;

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct TagsFile {
    /// What it is called in faults.
    pub name: String,
    /// All of it, or more than [`MAX_BYTES`].
    pub bytes: Vec<u8>,
}

/// How a file of tags is read, given its path. It need not read more than one byte beyond [`MAX_BYTES`].
pub type ReadTagsFile<'a> = dyn Fn(&Path) -> io::Result<TagsFile> + 'a;

/// The texts of the files, by what is written in the configuration.
#[derive(Debug, Default)]
pub(super) struct Texts(BTreeMap<String, Text>);

#[derive(Debug)]
struct Text {
    path: PathBuf,
    read: Result<Content, String>,
}

#[derive(Debug)]
struct Content {
    name: String,
    /// As far as it is one.
    text: String,
    wrong: Option<&'static str>,
}

impl Texts {
    /// Reads every file that a configuration names, each once.
    pub(super) fn read(tree: &DeTable<'_>, folder: &Path, read: &ReadTagsFile<'_>) -> Self {
        let mut texts = BTreeMap::new();
        let mut left = MAX_BYTES_IN_ALL;
        for written in named_in(tree) {
            if written.is_empty() || written.contains('\0') || texts.contains_key(written) {
                continue;
            }
            let path = folder.join(written);
            let read = match read(&path) {
                Ok(file) => content(file, &mut left),
                Err(error) => Err(unreadable(written, &error)),
            };
            texts.insert(written.to_owned(), Text { path, read });
        }
        Self(texts)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.values().map(|text| &*text.path)
    }
}

/// What stands under `tags_file`, of channels and of their groups.
fn named_in<'t>(tree: &'t DeTable<'_>) -> impl Iterator<Item = &'t str> {
    let channels = tree.get("channel").into_iter().flat_map(tables);
    channels.flat_map(|channel| {
        let groups = channel.get("group").into_iter().flat_map(tables);
        let all = std::iter::once(channel).chain(groups);
        all.filter_map(|table| table.get("tags_file")?.get_ref().as_str())
    })
}

fn tables<'t, 'i>(list: &'t Spanned<Node<'i>>) -> impl Iterator<Item = &'t DeTable<'i>> {
    let list = list.get_ref().as_array();
    list.into_iter()
        .flat_map(|list| list.iter())
        .filter_map(|item| item.get_ref().as_table())
}

fn content(file: TagsFile, left: &mut usize) -> Result<Content, String> {
    let TagsFile { name, bytes } = file;
    let faulty = |text: String, wrong| Content {
        name: name.clone(),
        text,
        wrong,
    };
    if bytes.len() > MAX_BYTES {
        let wrong = "the file is larger than 16MiB; split it over several groups";
        return Ok(faulty(String::new(), Some(wrong)));
    }
    let Some(rest) = left.checked_sub(bytes.len()) else {
        return Err(format!(
            "the files of tags hold more than {}MiB together; split the plant over several hosts",
            MAX_BYTES_IN_ALL >> 20
        ));
    };
    *left = rest;
    let (text, wrong) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = error.as_bytes().get(..good).unwrap_or_default();
            let wrong = "no text in UTF-8 from here on; save the file as CSV in UTF-8";
            (String::from_utf8_lossy(text).into_owned(), Some(wrong))
        }
    };
    // A byte order mark is no character of the text.
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(faulty(text, wrong))
}

fn unreadable(written: &str, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path, which begins in the folder of this file",
        io::ErrorKind::PermissionDenied => "let this user read it",
        _ => "name a CSV file",
    };
    format!("{} cannot be read: {error}; {remedy}", quoted(written))
}

/// The files as rows of tags.
pub(super) struct TagsFiles<'t>(BTreeMap<&'t str, Result<Rows<'t>, &'t str>>);

impl<'t> TagsFiles<'t> {
    /// Cuts the files into rows. What is wrong with them goes to their own findings, which are gathered with the given ones.
    pub(super) fn new(texts: &'t Texts, findings: &Findings<'_>) -> Self {
        let every = |_: &str| true;
        Self::those(texts, findings, &every)
    }

    /// As [`TagsFiles::new`], for some of the files.
    pub(super) fn those(
        texts: &'t Texts,
        findings: &Findings<'_>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Self {
        // Each row stands for a tag at least, so that more could not all be used.
        let mut rows_left = MAX_TAGS;
        let all = texts.0.iter().filter(|(written, _)| wanted(written));
        let all = all.map(|(written, text)| {
            let rows = text.read.as_ref().map_err(|wrong| &**wrong).map(|content| {
                let findings = findings.of_tags_file(&content.name, &content.text);
                match content.wrong {
                    None => rows::read(&content.text, findings, &mut rows_left),
                    Some(wrong) => {
                        let end = content.text.len();
                        findings.fault(end..end, "", wrong);
                        Rows::none(findings)
                    }
                }
            });
            (&**written, rows)
        });
        Self(all.collect())
    }

    /// The rows of the file that a channel or a group names, if it names one.
    pub(super) fn of<'r>(&'r self, section: &Section<'r>) -> Option<&'r Rows<'r>> {
        let written = path(section, "tags_file", "press.csv")?;
        match self.0.get(written)? {
            Ok(rows) => Some(rows),
            Err(wrong) => {
                section.fault_at("tags_file", *wrong);
                None
            }
        }
    }

    /// All files that could be read.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rows<'t>> {
        self.0.values().filter_map(|rows| rows.as_ref().ok())
    }
}
