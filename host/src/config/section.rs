//! One table of the file, or one row of a file of tags, read key by key.
//!
//! Every reader reports what is wrong and then goes on with the default, so that one pass finds every fault.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeInteger, DeTable};

use super::document::{Findings, Node};
use super::fault::quoted;
use super::rows::{self, Row};
use super::spelling::closest;
use super::units::{parse_duration, parse_size, show_duration, show_size};

/// One table, where it stands and what it is called in messages.
pub(super) struct Section<'r> {
    /// `None` reads as an empty table.
    table: Option<Table<'r>>,
    span: Range<usize>,
    at: String,
    findings: &'r Findings<'r>,
}

/// What a section is read from.
#[derive(Clone, Copy)]
enum Table<'r> {
    Toml(&'r DeTable<'r>),
    Row(&'r Row<'r>),
}

/// The keys of a table: those that are read, and those that a later version will read, each with what to do today.
pub(super) struct Keys {
    pub(super) known: &'static [&'static str],
    pub(super) later: &'static [(&'static str, &'static str)],
}

impl<'r> Section<'r> {
    pub(super) fn new(
        table: &'r DeTable<'r>,
        span: Range<usize>,
        at: impl Into<String>,
        findings: &'r Findings<'r>,
    ) -> Self {
        Self {
            table: Some(Table::Toml(table)),
            span,
            at: at.into(),
            findings,
        }
    }

    /// A row of a file of tags.
    pub(super) fn row(row: &'r Row<'r>, at: impl Into<String>, findings: &'r Findings<'r>) -> Self {
        Self {
            table: Some(Table::Row(row)),
            span: row.span(),
            at: at.into(),
            findings,
        }
    }

    /// Gives the table its name in messages, once it is known.
    pub(super) fn named(mut self, at: impl Into<String>) -> Self {
        self.at = at.into();
        self
    }

    pub(super) fn at(&self) -> &str {
        &self.at
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn findings(&self) -> &'r Findings<'r> {
        self.findings
    }

    /// The value of a key. Not for `settings` of a row.
    pub(super) fn get(&self, key: &str) -> Option<&'r Spanned<Node<'r>>> {
        match self.table? {
            Table::Toml(table) => table.get(key),
            Table::Row(row) => row.get(key),
        }
    }

    fn toml(&self) -> Option<&'r DeTable<'r>> {
        match self.table? {
            Table::Toml(table) => Some(table),
            Table::Row(_) => None,
        }
    }

    /// Whether this is a row of a file of tags.
    pub(super) fn is_row(&self) -> bool {
        matches!(self.table, Some(Table::Row(_)))
    }

    /// What this is called in a fault of one key; of a row, with the name of the column.
    fn at_key(&self, key: &str) -> Cow<'_, str> {
        match self.is_row() {
            true => format!("{}, column {key}", self.at).into(),
            false => (&*self.at).into(),
        }
    }

    /// How a value would be written here, for a message; `toml` is how TOML writes it.
    pub(super) fn example(&self, key: &str, toml: &str) -> String {
        match self.is_row() {
            true => format!("`{}` under `{key}`", rows::example(toml)),
            false => format!("`{key} = {toml}`"),
        }
    }

    /// Reports something about the table as a whole.
    pub(super) fn fault(&self, message: impl Into<String>) {
        self.findings.fault(self.span(), &self.at, message);
    }

    /// Reports something about one key's value, or about the table where the key is absent.
    pub(super) fn fault_at(&self, key: &str, message: impl Into<String>) {
        self.findings
            .fault(self.span_of(key), &self.at_key(key), message);
    }

    /// Reports something about a part of a key's value.
    pub(super) fn fault_in(&self, span: Range<usize>, message: impl Into<String>) {
        self.findings.fault(span, &self.at, message);
    }

    /// Where the value of a key stands, or the table where it is absent.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.get(key).map_or_else(|| self.span(), Spanned::span)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Reports every key that is not in the list.
    pub(super) fn refuse_unknown_keys(&self, keys: &Keys) {
        for key in self.toml().into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if keys.known.contains(&name) {
                continue;
            }
            if self.findings.is_full() {
                self.findings.fault(key.span(), &self.at, "");
                continue;
            }
            let message = unknown("key", name, keys);
            self.findings.fault(key.span(), &self.at, message);
        }
    }

    fn wrong_type(&self, key: &str, node: &Spanned<Node<'_>>, wanted: &str) {
        let found = match node.get_ref() {
            Node::String(text) if self.is_row() => quoted(text),
            Node::Integer(_) => "an integer".to_owned(),
            Node::Array(_) => "an array".to_owned(),
            Node::String(_) => "a string".to_owned(),
            Node::Float(_) => "a float".to_owned(),
            Node::Boolean(_) => "a boolean".to_owned(),
            Node::Datetime(_) => "a date".to_owned(),
            Node::Table(_) => "a table".to_owned(),
        };
        self.findings.fault(
            node.span(),
            &self.at_key(key),
            format!("`{key}` is {found}; write {wanted}"),
        );
    }

    /// A string, if it is there and is one; nothing is reported.
    pub(super) fn peek(&self, key: &str) -> Option<&'r str> {
        self.get(key)?.get_ref().as_str()
    }

    /// A string, if it is there.
    pub(super) fn string(&self, key: &str, example: &str) -> Option<&'r str> {
        let node = self.get(key)?;
        let text = node.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(
                key,
                node,
                &format!("a string such as `{key} = \"{example}\"`"),
            );
        }
        text
    }

    /// A list of strings, each with its place.
    pub(super) fn strings(&self, key: &str, example: &str) -> Vec<(&'r str, Range<usize>)> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let wanted = format!("a list of strings such as `{key} = [\"{example}\"]`");
        let Some(list) = node.get_ref().as_array() else {
            self.wrong_type(key, node, &wanted);
            return Vec::new();
        };
        let mut strings = Vec::with_capacity(list.len());
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => strings.push((text, item.span())),
                None => self.wrong_type(key, item, &wanted),
            }
        }
        strings
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &str, example: &str) -> Option<&'r str> {
        if !self.has(key) {
            let example = self.example(key, &format!("\"{example}\""));
            self.fault_at(
                key,
                format!("`{key}` is missing; add one such as {example}"),
            );
        }
        self.string(key, example)
    }

    /// A string with a longest length in characters, or the empty one.
    pub(super) fn text(&self, key: &str, max_chars: usize, example: &str) -> String {
        let text = self.string(key, example).unwrap_or_default();
        if text.chars().nth(max_chars).is_some() {
            self.fault_at(
                key,
                format!("`{key}` is longer than {max_chars} characters; shorten it"),
            );
        }
        text.to_owned()
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> bool {
        let Some(node) = self.get(key) else {
            return default;
        };
        node.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, node, "`true` or `false`");
            default
        })
    }

    pub(super) fn integer(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(node) = self.get(key) else {
            return default;
        };
        let Some(integer) = node.get_ref().as_integer() else {
            self.wrong_type(key, node, &format!("a whole number such as {default}"));
            return default;
        };
        match to_i128(integer)
            .and_then(|n| u64::try_from(n).ok())
            .filter(|n| range.contains(n))
        {
            Some(number) => number,
            None => {
                let (from, to) = range.into_inner();
                self.fault_at(
                    key,
                    format!(
                        "`{key}` is {}; use {from} to {to}",
                        quoted(&integer.to_string())
                    ),
                );
                default
            }
        }
    }

    /// Two finite numbers, the lower one first. `None` where they are absent or wrong, and reported only if they are wrong.
    pub(super) fn span_of_numbers(&self, key: &str, example: &str) -> Option<(f64, f64)> {
        let node = self.get(key)?;
        let right = match node.get_ref() {
            Node::Array(two) if two.len() == 2 => {
                let number =
                    |index: usize| two.get(index).and_then(|node| number_in(node.get_ref()));
                number(0).zip(number(1))
            }
            _ => None,
        };
        let right = right.filter(|(low, high)| low.is_finite() && high.is_finite() && low < high);
        if right.is_none() {
            self.fault_at(
                key,
                format!(
                    "`{key}` is no pair of numbers, the lower one first; write one such as {}",
                    self.example(key, example)
                ),
            );
        }
        right
    }

    /// A finite number, written as a float or as an integer.
    pub(super) fn number(&self, key: &str, default: f64) -> f64 {
        let Some(node) = self.get(key) else {
            return default;
        };
        let number = match node.get_ref() {
            Node::Float(_) | Node::Integer(_) => number_in(node.get_ref()),
            Node::String(_)
            | Node::Boolean(_)
            | Node::Datetime(_)
            | Node::Array(_)
            | Node::Table(_) => {
                self.wrong_type(key, node, &format!("a number such as {default:?}"));
                return default;
            }
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => number,
            None => {
                self.fault_at(
                    key,
                    format!("`{key}` is not finite; use a number such as {default:?}"),
                );
                default
            }
        }
    }

    pub(super) fn duration(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.duration_if_right(key, default, range)
            .unwrap_or(default)
    }

    /// A duration, or the word `never` for none.
    pub(super) fn duration_or_never(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        if self.peek(key) == Some("never") {
            return None;
        }
        Some(self.duration(key, default, range))
    }

    /// A duration; `None` where it is absent or wrong, and reported only if it is wrong.
    fn duration_if_right(
        &self,
        key: &str,
        example: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let node = self.get(key)?;
        let example = show_duration(example);
        let Some(text) = node.get_ref().as_str() else {
            self.wrong_type(
                key,
                node,
                &format!("a duration with its unit such as \"{example}\""),
            );
            return None;
        };
        let Some(duration) = parse_duration(text) else {
            self.fault_at(
                key,
                format!(
                    "`{key}` is {}, which is no duration; write one with its unit such as \"{example}\"",
                    quoted(text)
                ),
            );
            return None;
        };
        if !range.contains(&duration) {
            let (from, to) = range.into_inner();
            self.fault_at(
                key,
                format!(
                    "`{key}` is {}; use {} to {}",
                    quoted(text),
                    show_duration(from),
                    show_duration(to)
                ),
            );
            return None;
        }
        Some(duration)
    }

    pub(super) fn size(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(node) = self.get(key) else {
            return default;
        };
        let example = show_size(default);
        let Some(text) = node.get_ref().as_str() else {
            self.wrong_type(
                key,
                node,
                &format!("a size with its unit such as \"{example}\""),
            );
            return default;
        };
        match parse_size(text) {
            Some(bytes) if range.contains(&bytes) => return bytes,
            Some(_) => {
                let (from, to) = range.into_inner();
                self.fault_at(
                    key,
                    format!("`{key}` is {}; use {} to {}", quoted(text), show_size(from), show_size(to)),
                );
            }
            None => self.fault_at(
                key,
                format!(
                    "`{key}` is {}, which is no size; write one in B, KiB, MiB or GiB such as \"{example}\"",
                    quoted(text)
                ),
            ),
        }
        default
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, default: T, words: &[(&'static str, T)]) -> T {
        let names: Vec<&'static str> = words.iter().map(|(name, _)| *name).collect();
        let Some(text) = self.string(key, names.first().copied().unwrap_or_default()) else {
            return default;
        };
        if let Some((_, chosen)) = words.iter().find(|(name, _)| *name == text) {
            return *chosen;
        }
        self.fault_at(
            key,
            format!("`{key}` is {}; use one of {}", quoted(text), listed(&names)),
        );
        default
    }

    /// A table within this one: `key = { .. }` or `[this.key]`.
    pub(super) fn table(&self, key: &str, at: impl Into<String>) -> Option<Section<'r>> {
        let node = self.get(key)?;
        match node.get_ref() {
            Node::Table(table) => Some(Section::new(table, node.span(), at, self.findings)),
            _ => {
                self.wrong_type(key, node, &format!("a table such as `{key} = {{ .. }}`"));
                None
            }
        }
    }

    /// A table within this one that has these keys; an empty one where it is absent.
    pub(super) fn part(&self, key: &str, keys: &Keys) -> Section<'r> {
        let at = if self.at.is_empty() {
            key.to_owned()
        } else {
            format!("{}, {key}", self.at)
        };
        let Some(section) = self.table(key, at.clone()) else {
            return Section {
                table: None,
                span: self.span(),
                at,
                findings: self.findings,
            };
        };
        section.refuse_unknown_keys(keys);
        section
    }

    /// A list of tables: `[[this.key]]` or `key = [{ .. }, { .. }]`.
    pub(super) fn tables(&self, key: &str) -> Vec<Section<'r>> {
        let Some(node) = self.get(key) else {
            return Vec::new();
        };
        let Some(list) = node.get_ref().as_array() else {
            let wanted =
                format!("a list of tables: `[[{key}]]` with two brackets, or `{key} = [{{ .. }}]`");
            self.wrong_type(key, node, &wanted);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(list.len());
        for item in list {
            match item.get_ref() {
                Node::Table(table) => {
                    sections.push(Section::new(
                        table,
                        item.span(),
                        self.at.clone(),
                        self.findings,
                    ));
                }
                _ => self.wrong_type(key, item, &format!("tables in it: `{key} = [{{ .. }}]`")),
            }
        }
        sections
    }

    /// Whether a key holds a list with nothing in it.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.get(key)
            .and_then(|node| node.get_ref().as_array())
            .is_some_and(|list| list.is_empty())
    }

    /// Every key with its table, in the order of the file.
    pub(super) fn named_tables(&self) -> Vec<(&'r str, Section<'r>)> {
        let mut entries: Vec<_> = self.toml().into_iter().flat_map(DeTable::iter).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut sections = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            match node.get_ref() {
                Node::Table(table) => sections.push((
                    &**key.get_ref(),
                    Section::new(table, key.span(), self.at.clone(), self.findings),
                )),
                _ => self.wrong_type(key.get_ref(), node, "a table such as `{ .. }`"),
            }
        }
        sections
    }

    /// A table that only the driver understands, as JSON; `{}` where it is absent.
    pub(super) fn settings(&self, key: &str) -> Json {
        let empty = || Json::Object(serde_json::Map::new());
        if let Some(Table::Row(row)) = self.table {
            return row.settings().cloned().unwrap_or_else(empty);
        }
        match self.get(key) {
            None => empty(),
            Some(node) if node.get_ref().is_table() => {
                json(node, &mut |span, message| self.fault_in(span, message))
            }
            Some(node) => {
                self.wrong_type(key, node, &format!("a table such as `{key} = {{ .. }}`"));
                empty()
            }
        }
    }
}

/// How deep settings may be. The reader of TOML bounds brackets only, and each dotted key by itself.
const MAX_LEVELS: usize = 80;

/// A value as JSON. What JSON cannot carry is reported, and void.
pub(super) fn json(node: &Spanned<Node<'_>>, fault: &mut dyn FnMut(Range<usize>, String)) -> Json {
    json_within(MAX_LEVELS, node, fault)
}

fn json_within(
    levels: usize,
    node: &Spanned<Node<'_>>,
    fault: &mut dyn FnMut(Range<usize>, String),
) -> Json {
    let Some(below) = levels.checked_sub(1) else {
        let message = format!("nested too deeply; use at most {MAX_LEVELS} levels");
        fault(node.span(), message);
        return Json::Null;
    };
    let mut void = |why: &str| {
        let message = format!(
            "a number in the settings {why}, which JSON cannot carry; write it as a string"
        );
        fault(node.span(), message);
        Json::Null
    };
    match node.get_ref() {
        Node::String(text) => Json::from(&**text),
        Node::Boolean(truth) => Json::from(*truth),
        Node::Datetime(moment) => Json::from(moment.to_string()),
        Node::Array(list) => list
            .iter()
            .map(|item| json_within(below, item, fault))
            .collect(),
        Node::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), json_within(below, value, fault)))
            .collect(),
        Node::Integer(integer) => {
            let number = to_i128(integer).and_then(serde_json::Number::from_i128);
            number
                .map(Json::Number)
                .unwrap_or_else(|| void("is beyond 64 bits"))
        }
        Node::Float(float) => {
            let number = float
                .as_str()
                .parse()
                .ok()
                .and_then(serde_json::Number::from_f64);
            number
                .map(Json::Number)
                .unwrap_or_else(|| void("is not finite"))
        }
    }
}

/// What is wrong with a key or column that is not known.
pub(super) fn unknown(kind: &str, name: &str, keys: &Keys) -> String {
    if let Some((_, remedy)) = keys.later.iter().find(|(later, _)| *later == name) {
        return format!("`{name}` is not supported yet by this version; {remedy}");
    }
    match closest(name, keys.known) {
        Some(meant) => format!("unknown {kind} {}; did you mean `{meant}`?", quoted(name)),
        None => format!(
            "unknown {kind} {}; remove it, or use one of {}",
            quoted(name),
            listed(keys.known)
        ),
    }
}

fn to_i128(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A number, whether it is written as a float or as an integer.
fn number_in(node: &Node<'_>) -> Option<f64> {
    match node {
        Node::Float(float) => float.as_str().parse::<f64>().ok(),
        Node::Integer(integer) => to_i128(integer).map(|n| n as f64),
        _ => None,
    }
}

/// `` `a`, `b` or `c` ``, for a message.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}
