//! A file of JSON lines, appended.
//!
//! Invariants:
//! - **Whole lines.** What is appended ends in a line's end. Where a write fails half-way the file is cut back at once;
//!   where the process dies half-way, the next opening cuts the torn line off.
//! - **One writer.** The file is locked while it is open.
//! - **The path counts, not the file.** Where the file was moved or removed (logrotate), the next write begins a new one.
//! - **Rotation** moves a whole file aside, under its name with the date behind it, and forgets the oldest of those that it moved.
//! - Behind an outbox, what was delivered is on the disk (`fdatasync`) before it is acknowledged.
//!
//! What can go wrong: the path leads to something else. A file whose unfinished last line was not written by a sink is
//! refused, never cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::destination::{Destination, Undelivered};
use super::record::{json_batch, json_gap};
use crate::config::Rotation;
use crate::event::Item;

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

/// A file of JSON lines as a sink's destination.
pub(super) struct FileDestination {
    file: LinesFile,
    sink: String,
    /// Whether what is acknowledged must be on the disk.
    durable: bool,
    buffer: Vec<u8>,
}

impl FileDestination {
    pub(super) fn new(path: &Path, rotation: Rotation, durable: bool, sink: &str) -> Self {
        Self {
            file: LinesFile::new(path, rotation),
            sink: sink.to_owned(),
            durable,
            buffer: Vec::new(),
        }
    }
}

impl Destination for FileDestination {
    async fn deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        self.buffer.clear();
        for item in items {
            match item {
                Item::Batch(batch) => json_batch(&mut self.buffer, batch),
                Item::Gap(gap) => json_gap(&mut self.buffer, gap, &self.sink),
            }
        }
        let written = self
            .file
            .write(&mut self.buffer)
            .and_then(|()| match self.durable {
                true => self.file.sync(),
                false => Ok(()),
            });
        written.map_err(|error| Undelivered::Later(error.to_string()))
    }

    async fn close(&mut self) -> Result<(), Undelivered> {
        let closed = self.file.close();
        closed.map_err(|error| Undelivered::Later(error.to_string()))
    }
}

pub(super) struct LinesFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// When this host opened it.
    since: Instant,
    length: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl LinesFile {
    pub(super) fn new(path: &Path, rotation: Rotation) -> Self {
        Self {
            path: path.to_owned(),
            rotation,
            open: None,
        }
    }

    /// Appends whole lines and removes them from `bytes`, or does neither.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>) -> Result<(), FileError> {
        let mut open = match self.open.take() {
            Some(open) if open.is_still_at(&self.path) => open,
            _ => open(&self.path)?,
        };
        if open.is_due(self.rotation, bytes.len() as u64) {
            self.rotate(open)?;
            open = self::open(&self.path)?;
        }
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
    fn sync(&mut self) -> Result<(), FileError> {
        match &self.open {
            Some(open) => open
                .file
                .sync_data()
                .map_err(|source| self.failed("synced", source)),
            None => Ok(()),
        }
    }

    /// Moves the file aside, and forgets the oldest of those that were.
    fn rotate(&self, open: Open) -> Result<(), FileError> {
        let synced = open.file.sync_data();
        synced.map_err(|source| self.failed("synced", source))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ");
        let aside = folder.join(format!("{name}.{now}"));
        let moved = std::fs::rename(&self.path, &aside);
        moved.map_err(|source| self.failed("moved aside", source))?;
        // One that cannot be removed now is tried again at the next rotation.
        let mut all =
            moved_aside(folder, &name).map_err(|source| self.failed("counted", source))?;
        all.sort();
        let too_many = all.len().saturating_sub(self.rotation.keep.max(1));
        for old in all.iter().take(too_many) {
            if let Err(error) = std::fs::remove_file(old) {
                tracing::warn!(file = %old.display(), %error, "an old file of a sink cannot be removed");
            }
        }
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

/// The files that stand beside a file with a date of ours behind its name.
fn moved_aside(folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let date = other
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'));
        let is_ours = date.is_some_and(|date| {
            date.len() == "20260718T130000.123456789Z".len()
                && date.ends_with('Z')
                && date
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || b"T.Z".contains(&byte))
        });
        if is_ours {
            all.push(entry.path());
        }
    }
    Ok(all)
}

impl Open {
    /// Whether it is to be moved aside before so many bytes more are written.
    fn is_due(&self, rotation: Rotation, more: u64) -> bool {
        let too_large = rotation.bytes.is_some_and(|most| self.length + more > most);
        let too_old = rotation
            .age
            .is_some_and(|most| self.since.elapsed() >= most);
        self.length > 0 && (too_large || too_old)
    }

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
        since: Instant::now(),
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
            let written = LinesFile::new(&path, Rotation::default()).write(&mut LINE.to_vec());
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
        let mut sink = LinesFile::new(&path, Rotation::default());
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
        let mut sink = LinesFile::new(&path, Rotation::default());
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

        let second = LinesFile::new(&path, Rotation::default()).write(&mut LINE.to_vec());
        assert!(second.unwrap_err().to_string().contains("another process"));
        let folder_itself =
            LinesFile::new(&folder.0, Rotation::default()).write(&mut LINE.to_vec());
        assert!(
            folder_itself
                .unwrap_err()
                .to_string()
                .contains("no regular file")
        );
    }

    #[test]
    fn a_file_that_is_full_is_moved_aside_whole_and_the_oldest_goes() {
        let folder = Folder::new("rotated");
        let path = folder.0.join("samples.jsonl");
        let rotation = Rotation {
            bytes: Some(2 * LINE.len() as u64),
            age: None,
            keep: 2,
        };
        fs::write(folder.0.join("samples.jsonl.old"), "somebody's own").unwrap();
        let mut sink = LinesFile::new(&path, rotation);
        for _ in 0..9 {
            sink.write(&mut LINE.to_vec()).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), LINE);
        let aside = moved_aside(&folder.0, "samples.jsonl").unwrap();
        assert_eq!(aside.len(), 2);
        for file in aside {
            assert_eq!(fs::read(file).unwrap(), LINE.repeat(2));
        }
        assert!(folder.0.join("samples.jsonl.old").exists());
        let larger = LINE.repeat(3);
        sink.write(&mut larger.clone()).unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            larger,
            "never a line in two files"
        );
    }
}
