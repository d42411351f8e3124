//! Whether a log is whole: every entry there, none changed, none in another place.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::entry::{Entry, MAX_LINE_BYTES};
use super::{Head, files};

/// The most faults that are listed; one removed line makes one.
const MAX_FAULTS: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1 on; 0 where it is about no line.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// The number and the hash of the last one.
    pub last: Option<(u64, String)>,
    /// What is wrong, at most the first hundred.
    pub faults: Vec<Fault>,
}

/// Reads the whole log of a folder. `since` is the first entry that must be there: those before may lie elsewhere.
///
/// # Errors
///
/// Where it cannot be read.
pub fn verify(folder: &Path, since: u64) -> io::Result<Verified> {
    let mut reading = Reading {
        expected: since.max(1),
        previous: None,
        noted: Head::read(folder)?,
        entries: 0,
        last: None,
        faults: Vec::new(),
    };
    let files = files(folder)?;
    let newest = files.last().map(|(_, path)| path.clone());
    for (_, path) in files {
        let is_newest = Some(&path) == newest.as_ref();
        reading.file(&path, is_newest)?;
    }
    let end = newest.unwrap_or_else(|| folder.to_owned());
    if let Some(noted) = reading.noted
        && reading.expected <= noted.number
    {
        let what = format!(
            "entries {} to {} are missing at the end",
            reading.expected, noted.number
        );
        reading.fault(&end, 0, what);
    }
    Ok(Verified {
        entries: reading.entries,
        last: reading.last,
        faults: reading.faults,
    })
}

struct Reading {
    /// The number of the next entry.
    expected: u64,
    /// The hash of the one before; `None` before the first, whose predecessor may lie elsewhere.
    previous: Option<super::Hash>,
    noted: Option<Head>,
    entries: u64,
    last: Option<(u64, String)>,
    faults: Vec<Fault>,
}

impl Reading {
    fn file(&mut self, path: &Path, is_newest: bool) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let most = MAX_LINE_BYTES as u64 + 1;
            if reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let whole = line.pop_if(|last| *last == b'\n').is_some();
            if !whole && is_newest && reader.fill_buf()?.is_empty() {
                // The host is writing it at this moment, or cuts it off when it starts.
                return Ok(());
            }
            match std::str::from_utf8(&line)
                .map_err(|error| error.to_string())
                .and_then(Entry::read)
            {
                Ok(entry) => self.entry(path, number, &entry),
                Err(what) => {
                    self.fault(path, number, what);
                    // Its own number is worth nothing; the next one's hash tells whether it stood here.
                    self.expected += 1;
                    self.previous = None;
                }
            }
        }
    }

    fn entry(&mut self, path: &Path, line: usize, entry: &Entry) {
        self.entries += 1;
        if entry.number > self.expected {
            let what = match entry.number - self.expected {
                1 => format!("entry {} is missing before this line", self.expected),
                _ => format!(
                    "entries {} to {} are missing before this line",
                    self.expected,
                    entry.number - 1
                ),
            };
            self.fault(path, line, what);
        } else if entry.number < self.expected {
            self.fault(
                path,
                line,
                format!(
                    "entry {} stands where {} should be",
                    entry.number, self.expected
                ),
            );
        } else if self
            .previous
            .is_some_and(|previous| previous != entry.previous)
            || (entry.number == 1 && entry.previous != super::Hash::NONE)
        {
            self.fault(
                path,
                line,
                format!(
                    "entry {} does not follow from the one before it",
                    entry.number
                ),
            );
        }
        if let Some(noted) = self.noted.filter(|noted| noted.number == entry.number)
            && noted.hash != entry.hash
        {
            self.fault(
                path,
                line,
                format!(
                    "entry {} is another than the one that was noted when it was written",
                    entry.number
                ),
            );
        }
        self.expected = entry.number + 1;
        self.previous = Some(entry.hash);
        self.last = Some((entry.number, entry.hash.to_string()));
    }

    fn fault(&mut self, path: &Path, line: usize, what: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                path: path.to_owned(),
                line,
                what,
            });
        }
    }
}
