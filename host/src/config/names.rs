//! Names within a file: their rule, and that none stands twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::fault::{plain, quoted};
use super::section::Section;

/// The longest name of a device, group, tag or sink, in characters.
pub(super) const MAX_CHARS: usize = 128;

/// Names of one kind that were seen so far.
pub(super) struct Names<'r> {
    kind: &'static str,
    in_order: Vec<&'r str>,
    seen: HashMap<&'r str, Seen<'r>>,
}

#[derive(Clone, Copy)]
struct Seen<'r> {
    position: usize,
    file: &'r str,
    line: usize,
}

impl<'r> Names<'r> {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            in_order: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// Takes the name that stands at `key`, and reports one that was there before.
    pub(super) fn claim(&mut self, section: &Section<'r>, key: &str, name: &'r str) {
        let file = section.findings().file();
        let line = section.findings().line(&section.span_of(key));
        match self.seen.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(Seen {
                    position: self.in_order.len(),
                    file,
                    line,
                });
                self.in_order.push(name);
            }
            Entry::Occupied(entry) => {
                let first = entry.get();
                let elsewhere = match first.file == file {
                    true => String::new(),
                    false => format!(" of {}", plain(first.file)),
                };
                section.fault_at(
                    key,
                    format!(
                        "{} {} stands on line {}{elsewhere} already; give one of them another name",
                        self.kind,
                        quoted(name),
                        first.line
                    ),
                );
            }
        }
    }

    /// The position of a name among those that differ.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.seen.get(name).map(|seen| seen.position)
    }

    /// How many names differ.
    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// A few of the names, for a message.
    pub(super) fn some(&self) -> String {
        const SHOWN: usize = 8;
        if self.in_order.is_empty() {
            return format!("no {} with a name", self.kind);
        }
        let mut shown: Vec<String> = self
            .in_order
            .iter()
            .take(SHOWN)
            .map(|name| quoted(name))
            .collect();
        if self.len() > SHOWN {
            shown.push(format!("{} more", self.len() - SHOWN));
        }
        shown.join(", ")
    }
}

/// Reads the name of a device, group, tag or sink. One that is missing or breaks the rule is reported.
pub(super) fn required_name<'r>(section: &Section<'r>, example: &str) -> Option<&'r str> {
    let name = section.required("name", example)?;
    check_name(section, name);
    Some(name)
}

/// Reports a name that breaks the rule.
pub(super) fn check_name(section: &Section<'_>, name: &str) {
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.chars().nth(MAX_CHARS).is_some() {
        "is too long"
    } else if name.contains('/') {
        "contains `/`, which parts a channel from its tag"
    } else if name.contains(char::is_control) {
        "contains a control character"
    } else if name.trim() != name {
        "begins or ends with a blank"
    } else {
        return;
    };
    section.fault_at(
        "name",
        format!(
            "the name {wrong}; use 1 to {MAX_CHARS} characters without `/`, control characters and outer blanks"
        ),
    );
}

/// What an item is called in messages: by its name, or by its number where it has none.
pub(super) fn called(kind: &str, section: &Section<'_>, key: &str, index: usize) -> String {
    match section.peek(key) {
        Some(name) if !name.is_empty() => format!("{kind} {}", plain(name)),
        _ => format!("{kind} number {}", index + 1),
    }
}
