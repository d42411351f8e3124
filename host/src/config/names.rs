//! Names within a file: their rule, and that none stands twice.

use std::collections::HashMap;

use super::fault::{plain, quoted};
use super::section::Section;

/// The longest name of a device, group, tag or sink, in characters.
pub(super) const MAX_CHARS: usize = 128;

/// Names of one kind that were seen so far, with the position in their list and their line.
pub(super) struct Names<'r> {
    kind: &'static str,
    seen: HashMap<&'r str, (usize, usize)>,
}

impl<'r> Names<'r> {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            seen: HashMap::new(),
        }
    }

    /// Takes a name, and reports one that was there before.
    pub(super) fn claim(&mut self, section: &Section<'r>, key: &str, name: &'r str) {
        let kind = self.kind;
        let span = section.span_of(key);
        let next = self.seen.len();
        match self.seen.get(name) {
            Some((_, line)) => section.fault_at(
                key,
                format!(
                    "{kind} {} stands on line {line} already; rename one of them",
                    quoted(name)
                ),
            ),
            None => {
                self.seen.insert(name, (next, section.report().line(&span)));
            }
        }
    }

    /// The position of a name among those that differ.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.seen.get(name).map(|(position, _)| *position)
    }

    /// How many names differ.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// A few of the names, in their order, for a message.
    pub(super) fn some(&self) -> String {
        const SHOWN: usize = 8;
        let mut names: Vec<_> = self.seen.iter().collect();
        names.sort_by_key(|(_, (position, _))| *position);
        let mut shown: Vec<String> = names
            .iter()
            .take(SHOWN)
            .map(|(name, _)| quoted(name))
            .collect();
        if names.len() > SHOWN {
            shown.push(format!("{} more", names.len() - SHOWN));
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
            "the name {} {wrong}; use 1 to {MAX_CHARS} characters without `/`, control characters and outer blanks",
            quoted(name)
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
