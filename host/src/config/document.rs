//! The text as a tree with places in it, and the list that faults are gathered in.
//!
//! The tree is TOML's own. serde would stop at the first unknown key or wrong type, so nothing here goes through it.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use toml::de::DeTable;

use super::fault::{Fault, Faults, Position};

/// The largest configuration, and the largest file of tags, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// The largest file of which every fault of syntax is reported; of a larger one, the first.
const MAX_BYTES_TO_RECOVER: usize = 1 << 20;

/// A key or value as it stands in the tree.
pub(super) type Node<'t> = toml::de::DeValue<'t>;

/// Where lines begin.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            text,
            starts: std::iter::once(0)
                .chain(breaks.map(|(at, _)| at + 1))
                .collect(),
        }
    }

    /// The line of a byte, counted from 1.
    fn line(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start <= byte)
    }

    /// The place of a byte; the end for one beyond it.
    pub(super) fn position(&self, byte: usize) -> Position {
        let byte = byte.min(self.text.len());
        let line = self.line(byte);
        let begun = &self.text.as_bytes()[self.starts[line - 1]..byte];
        let characters = begun.iter().filter(|byte| !is_continuation(**byte)).count();
        Position {
            line: clamped(line),
            column: clamped(characters + 1),
        }
    }
}

/// Whether a byte continues a character of UTF-8 rather than beginning one (RFC 3629, section 3).
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn clamped(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Gathers faults while a file is read. Those of the files of tags are gathered with those of the configuration.
pub(super) struct Findings<'t> {
    file: &'t str,
    is_configuration: bool,
    lines: Lines<'t>,
    found: Rc<RefCell<Found>>,
}

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    more: usize,
}

impl<'t> Findings<'t> {
    /// For the configuration itself.
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            is_configuration: true,
            lines: Lines::new(text),
            found: Rc::default(),
        }
    }

    /// For a file of tags that the configuration names.
    pub(super) fn of_tags_file<'f>(&self, file: &'f str, text: &'f str) -> Findings<'f> {
        Findings {
            file,
            is_configuration: false,
            lines: Lines::new(text),
            found: Rc::clone(&self.found),
        }
    }

    /// The file, as the operator named it.
    pub(super) fn file(&self) -> &'t str {
        self.file
    }

    /// Keeps a fault, or counts it where so many were kept that nobody will read on.
    pub(super) fn fault(&self, span: Range<usize>, at: &str, message: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        if found.faults.len() == Faults::MAX {
            found.more += 1;
        } else {
            let position = self.lines.position(span.start);
            found.faults.push(Fault {
                file: (!self.is_configuration).then(|| self.file.to_owned()),
                position,
                at: at.to_owned(),
                message: message.into(),
            });
        }
    }

    /// Whether further faults are only counted, so that no pains need be taken with their words.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().faults.len() == Faults::MAX
    }

    /// The line where something stands.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.line(span.start)
    }

    /// The place of a byte.
    pub(super) fn position(&self, byte: usize) -> Position {
        self.lines.position(byte)
    }

    /// What was gathered; `None` if that is nothing.
    pub(super) fn into_faults(self) -> Option<Faults> {
        let found = self.found.take();
        Faults::new(self.file, found.faults, found.more)
    }
}

/// Reads the tree. `None` if the text is no TOML, which has been reported then.
pub(super) fn read<'t>(text: &'t str, findings: &Findings<'_>) -> Option<DeTable<'t>> {
    if text.len() > MAX_BYTES {
        findings.fault(
            0..0,
            "",
            "the file is larger than 16MiB; split the plant over several hosts",
        );
        return None;
    }
    let first = match DeTable::parse(text) {
        Ok(tree) => return Some(tree.into_inner()),
        Err(first) => first,
    };
    // Recovery gathers every error there is, and in the worst of files that is each of its bytes.
    let errors = match text.len() {
        ..=MAX_BYTES_TO_RECOVER => DeTable::parse_recoverable(text).1,
        _ => vec![first],
    };
    for error in &errors {
        findings.fault(
            error.span().unwrap_or_default(),
            "",
            syntax_message(error.message()),
        );
    }
    None
}

fn syntax_message(what: &str) -> String {
    match what {
        "duplicate key" => "this key stands twice in its table; remove one".to_owned(),
        "recursion limit" | "cannot recurse further; max recursion depth met" => {
            "nested too deeply; use at most 80 levels".to_owned()
        }
        what => format!("not valid TOML: {what}; see toml.io for how it is written"),
    }
}
