//! A file of JSON lines, appended.
//!
//! Invariants:
//! - **Whole lines.** What is appended ends in a line's end. Where a write fails half-way the file is cut back at once;
//!   where the process dies half-way, the next opening cuts the torn line off.
//! - **One writer.** The file is locked while it is open.
//! - **The path counts, not the file.** Where the file was moved or removed (logrotate), the next write begins a new one.
//!
//! What can go wrong: the path leads to something else. A file whose unfinished last line was not written by a sink is
//! refused, never cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The longest torn line that is cut off. The longest line is an array of 65,536 elements.
const MAX_TORN: u64 = 4 * 1024 * 1024;
/// How every line of a sink begins.
const BEGINNINGS: [&[u8]; 2] = [b"{\"channel\":", b"{\"gap\":"];

/// Why nothing can be written at the moment. It may pass, so the sink tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{path} cannot be {tried}: {source}; {remedy}")]
    System {
        path: PathBuf,
        tried: &'static str,
        source: io::Error,
        remedy: &'static str,
    },
    #[error("{path} is no regular file; use another `path` for the sink")]
    NotRegular { path: PathBuf },
    #[error(
        "{path} is written by another process; use another `path` for the sink, or stop the other"
    )]
    Locked { path: PathBuf },
    #[error(
        "{path} does not end in a whole line, and its end was not written by a sink; use another `path` for the sink"
    )]
    Foreign { path: PathBuf },
}

pub(super) struct LinesFile {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    file: File,
    length: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl LinesFile {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            open: None,
        }
    }

    /// Appends whole lines and removes them from `bytes`, or does neither.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), FileError> {
        let mut open = match self.open.take() {
            Some(open) if open.is_still_at(&self.path) => open,
            _ => open(&self.path)?,
        };
        if let Err(source) = open.file.write_all(bytes) {
            // If even this fails the torn line stays until the next opening, which is what comes next.
            if let Err(error) = open.file.set_len(open.length) {
                tracing::debug!(path = %self.path.display(), %error, "the torn line could not be cut off yet");
            }
            return Err(self.failed("written", source));
        }
        open.length += bytes.len() as u64;
        bytes.clear();
        self.open = Some(open);
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(super) fn close(&mut self) -> Result<(), FileError> {
        match self.open.take() {
            Some(open) => open
                .file
                .sync_data()
                .map_err(|source| self.failed("synced", source)),
            None => Ok(()),
        }
    }

    fn failed(&self, tried: &'static str, source: io::Error) -> FileError {
        system(&self.path, tried)(source)
    }
}

impl Open {
    fn is_still_at(&self, path: &Path) -> bool {
        path.metadata()
            .is_ok_and(|at| (at.dev(), at.ino()) == self.identity)
    }
}

fn system<'a>(path: &'a Path, tried: &'static str) -> impl Fn(io::Error) -> FileError + 'a {
    move |source| FileError::System {
        path: path.to_owned(),
        tried,
        remedy: match source.kind() {
            io::ErrorKind::NotFound => "make its folder",
            io::ErrorKind::PermissionDenied => "let this user write it",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk",
            _ => "see to the disk, or use another `path` for the sink",
        },
        source,
    }
}

fn open(path: &Path) -> Result<Open, FileError> {
    // A pipe would keep us waiting for its reader as it is opened.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(FileError::NotRegular {
            path: path.to_owned(),
        });
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(system(path, "opened"))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => FileError::Locked {
            path: path.to_owned(),
        },
        TryLockError::Error(source) => system(path, "locked")(source),
    })?;
    let metadata = file.metadata().map_err(system(path, "examined"))?;
    let length = metadata.len();
    let whole = end_of_whole_lines(&file, length).map_err(system(path, "read"))?;
    let Some(whole) = whole else {
        return Err(FileError::Foreign {
            path: path.to_owned(),
        });
    };
    if whole < length {
        file.set_len(whole).map_err(system(path, "cut"))?;
        tracing::warn!(
            path = %path.display(),
            bytes = length - whole,
            "cut off a line that was not written whole, as after a crash"
        );
    }
    Ok(Open {
        file,
        length: whole,
        identity: (metadata.dev(), metadata.ino()),
    })
}

/// Where the last whole line ends; `None` if what follows it is not the beginning of a line of ours.
fn end_of_whole_lines(file: &File, length: u64) -> io::Result<Option<u64>> {
    let from = length.saturating_sub(MAX_TORN);
    let mut last = [0];
    if length == 0 {
        return Ok(Some(0));
    }
    file.read_exact_at(&mut last, length - 1)?;
    if last == *b"\n" {
        return Ok(Some(length));
    }
    let mut tail = vec![0; usize::try_from(length - from).expect("at most 4 MiB")];
    file.read_exact_at(&mut tail, from)?;
    let torn = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => &tail[at + 1..],
        None if from == 0 => &tail[..],
        None => return Ok(None),
    };
    let ours = BEGINNINGS
        .iter()
        .any(|beginning| torn.starts_with(beginning) || beginning.starts_with(torn));
    Ok(ours.then(|| length - torn.len() as u64))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of its own for each test, removed afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("bulkhead-sink-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const LINE: &[u8] = b"{\"channel\":\"a\"}\n";

    #[test]
    fn a_torn_line_of_ours_is_cut_off_and_a_foreign_file_is_left_alone() {
        let folder = Folder::new("torn");
        let path = folder.0.join("samples.jsonl");
        let check = |before: &str, expected: Result<&str, &str>| {
            fs::write(&path, before).unwrap();
            let written = LinesFile::new(&path).write(&mut LINE.to_vec());
            let after = fs::read_to_string(&path).unwrap();
            match expected {
                Ok(kept) => {
                    written.unwrap();
                    assert_eq!(
                        after,
                        format!("{kept}{}", String::from_utf8_lossy(LINE)),
                        "{before:?}"
                    );
                }
                Err(part) => {
                    let error = written.unwrap_err().to_string();
                    assert!(error.contains(part), "{error}");
                    assert_eq!(after, before, "a refused file is not touched");
                }
            }
        };
        check("", Ok(""));
        check("{\"channel\":1}\n", Ok("{\"channel\":1}\n"));
        check(
            "{\"channel\":1}\n{\"channel\":\"pre",
            Ok("{\"channel\":1}\n"),
        );
        check("{\"channel\":1}\n{\"ch", Ok("{\"channel\":1}\n"));
        check("{\"gap\":3,", Ok(""));
        check("password = secret", Err("not written by a sink"));
        check("a\nb", Err("not written by a sink"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = Folder::new("moved");
        let (path, moved) = (
            folder.0.join("samples.jsonl"),
            folder.0.join("samples.jsonl.1"),
        );
        let mut sink = LinesFile::new(&path);
        sink.write(&mut LINE.to_vec()).unwrap();
        fs::rename(&path, &moved).unwrap();
        sink.write(&mut LINE.to_vec()).unwrap();
        sink.close().unwrap();
        assert_eq!(fs::read(&path).unwrap(), LINE);
        assert_eq!(fs::read(&moved).unwrap(), LINE);
    }

    #[test]
    fn what_cannot_be_written_says_why_and_is_kept() {
        let folder = Folder::new("refused");
        let path = folder.0.join("missing").join("samples.jsonl");
        let mut sink = LinesFile::new(&path);
        let mut bytes = LINE.to_vec();
        let error = sink.write(&mut bytes).unwrap_err().to_string();
        assert!(error.contains("make its folder"), "{error}");
        assert_eq!(bytes, LINE);
        fs::create_dir(path.parent().unwrap()).unwrap();
        sink.write(&mut bytes).unwrap();
        assert_eq!(
            (bytes.as_slice(), fs::read(&path).unwrap()),
            (&[][..], LINE.to_vec())
        );

        let second = LinesFile::new(&path).write(&mut LINE.to_vec());
        assert!(second.unwrap_err().to_string().contains("another process"));
        let folder_itself = LinesFile::new(&folder.0).write(&mut LINE.to_vec());
        assert!(
            folder_itself
                .unwrap_err()
                .to_string()
                .contains("no regular file")
        );
    }
}
