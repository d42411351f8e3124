//! What is known to fail: a file of case ids, each with its reason.
//!
//! ```text
//! # one on a line; the reason is not optional
//! universal/poll-skip   the protocol reads all units at once (ticket 12)
//! script/tcp/busy-*     the device's firmware ...
//! ```
//!
//! A case that passes although it stands here fails the run, so that the file cannot go stale.

use std::path::Path;

/// Cases that are expected to fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    known: Vec<(String, String)>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExpectationsError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line has no reason.
    #[error("{path}:{line}: {id} has no reason; write it behind the id")]
    NoReason {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The case.
        id: String,
    },
}

impl Expectations {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ExpectationsError> {
        let text = std::fs::read_to_string(path).map_err(|source| ExpectationsError::File {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ExpectationsError> {
        let mut known = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            match text.split_once(char::is_whitespace) {
                Some((id, reason)) => known.push((id.to_owned(), reason.trim().to_owned())),
                None => {
                    return Err(ExpectationsError::NoReason {
                        path: path.display().to_string(),
                        line,
                        id: text.to_owned(),
                    });
                }
            }
        }
        Ok(Self { known })
    }

    /// Why a case is expected to fail, if it is.
    pub fn reason(&self, id: &str) -> Option<&str> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == pattern,
        };
        let found = self.known.iter().find(|(pattern, _)| fits(pattern));
        found.map(|(_, reason)| reason.as_str())
    }

    /// The lines that name none of these cases: out of date, or misspelt.
    pub fn unknown<'a>(&'a self, ids: &[String]) -> Vec<&'a str> {
        let names = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => ids.iter().any(|id| id.starts_with(start)),
            None => ids.iter().any(|id| id == pattern),
        };
        self.known
            .iter()
            .map(|(pattern, _)| pattern.as_str())
            .filter(|pattern| !names(pattern))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_beginnings_of_ids_are_known_with_their_reasons() {
        let path = Path::new("known.txt");
        let known = Expectations::parse(
            "# a\nuniversal/stop  too slow\n\nscript/tcp/*  firmware 2\n",
            path,
        )
        .unwrap();
        assert_eq!(known.reason("universal/stop"), Some("too slow"));
        assert_eq!(known.reason("universal/stop-twice"), None);
        assert_eq!(known.reason("script/tcp/a"), Some("firmware 2"));
        let ids = ["script/tcp/a".to_owned()];
        assert_eq!(known.unknown(&ids), ["universal/stop"]);
        assert!(
            Expectations::parse("universal/stop", path)
                .unwrap_err()
                .to_string()
                .contains("known.txt:1")
        );
    }
}
