//! Faults of a file: each with its place, all together, for people and for `--json`.

use std::fmt;

use serde::Serialize;

/// A place in a file, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The file of tags in which it stands; `None` for the configuration itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in the file.
    #[serde(flatten)]
    pub position: Position,
    /// Where in its structure, such as `channel press-3, tag temp`, or `channel press-3, tag temp, column scale` in a file of tags.
    /// Empty for a fault of syntax.
    pub at: String,
    /// What is wrong; what to do about it.
    pub message: String,
}

/// Everything that is wrong with a configuration and its files of tags: first the configuration, then the others by their names,
/// each in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Faults {
    /// The configuration, as the operator named it.
    pub file: String,
    /// At least one, at most [`Faults::MAX`].
    pub faults: Vec<Fault>,
    /// How many more there are beyond that.
    pub more: usize,
}

impl Faults {
    /// How many faults are kept; the others are counted.
    pub const MAX: usize = 1_000;

    /// Sorts and bounds the faults of a file, of which `more` were counted only; `None` where there are none.
    pub fn new(file: &str, mut faults: Vec<Fault>, more: usize) -> Option<Self> {
        if faults.is_empty() {
            return None;
        }
        faults.sort();
        let more = more + faults.len().saturating_sub(Self::MAX);
        faults.truncate(Self::MAX);
        Some(Self {
            file: file.to_owned(),
            faults,
            more,
        })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let Position { line, column } = fault.position;
            let file = fault.file.as_ref().unwrap_or(&self.file);
            write!(f, "{file}:{line}:{column}: ")?;
            if !fault.at.is_empty() {
                write!(f, "{}: ", fault.at)?;
            }
            f.write_str(&fault.message)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more; mend these first", self.file),
        }
    }
}

/// What a file wrote, between quotes, fit for a message.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", plain(text))
}

/// What a file wrote, fit for a message: cut, and without control characters.
pub(super) fn plain(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut out = String::new();
    for c in text.chars().take(MAX_CHARS) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_and_harmless() {
        assert_eq!(quoted("press-3"), "`press-3`");
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(1_000)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn faults_are_sorted_and_bounded() {
        let fault = |line| Fault {
            file: None,
            position: Position { line, column: 1 },
            at: String::new(),
            message: "x".into(),
        };
        assert_eq!(Faults::new("a.toml", vec![], 0), None);
        let faults = Faults::new("a.toml", (1..=1_005).rev().map(fault).collect(), 2).unwrap();
        assert_eq!((faults.faults[0].position.line, faults.more), (1, 7));
        assert!(
            faults
                .to_string()
                .ends_with("a.toml: and 7 more; mend these first")
        );
        let of_tags = Fault {
            file: Some("press.csv".into()),
            ..fault(1)
        };
        let faults = Faults::new("z.toml", vec![of_tags, fault(9)], 0).unwrap();
        assert_eq!(faults.to_string(), "z.toml:9:1: x\npress.csv:1:1: x");
    }
}
