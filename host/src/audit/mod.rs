//! Who wrote what, when, and with which answer: an append-only log whose entries are chained by hash.
//!
//! - `entry`: what an entry is, and how it is chained. `verify`: whether a log is whole.
//!
//! One line of JSON for each write, in `audit-NNNNNN.jsonl` in `data_dir`; a file that is full is followed by the next, and none is ever
//! changed or removed by the host. A line is with the kernel before its write is answered, so it outlives the process; it is
//! on the disk within [`SETTLE`], so a power cut may cost the entries of that time. What was on the disk last is noted in
//! `audit.head`, so that a log whose end was cut off is not whole either.
//!
//! Who can write to `data_dir` can write a whole new log, too. Keep the hash of an entry elsewhere from time to time if that matters:
//! it vouches for all before it.

mod entry;
mod verify;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use entry::{Answer, Entry, Hash, Write};
pub use verify::{Fault, Verified, verify};

/// How long an entry may be on its way to the disk.
pub const SETTLE: Duration = Duration::from_millis(100);
/// A file that is as large is followed by the next, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// What was on the disk last.
const HEAD: &str = "audit.head";

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {} cannot be written: {cause}; see to its folder and its disk", .path.display())]
pub struct AuditError {
    path: PathBuf,
    cause: io::Error,
}

/// The log. Shared by whoever lets tags be written.
#[derive(Debug)]
pub struct Audit {
    inner: Arc<Inner>,
    settling: Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    max_file_bytes: u64,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// The number of the file.
    number: u32,
    bytes: u64,
    /// The last entry.
    last: Head,
    /// Entries that could not be written.
    lost: u64,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    number: u64,
    hash: Hash,
}

impl Head {
    /// Before the first entry.
    const NONE: Self = Self {
        number: 0,
        hash: Hash::NONE,
    };

    fn read(folder: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(folder.join(HEAD)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(text.trim_end().split_once(' ').and_then(|(number, hash)| {
            let (number, hash) = (number.parse().ok()?, Hash::parse(hash)?);
            Some(Self { number, hash })
        }))
    }

    /// Whole, or not at all.
    fn write(self, folder: &Path) -> io::Result<()> {
        let new = folder.join(format!("{HEAD}.new"));
        let mut file = File::create(&new)?;
        writeln!(file, "{} {}", self.number, self.hash)?;
        file.sync_data()?;
        std::fs::rename(new, folder.join(HEAD))
    }
}

impl Audit {
    /// Goes on where the log ends. A last line that a power cut has left unfinished is cut off.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read, or the file not be written.
    pub fn open(folder: &Path) -> Result<Self, AuditError> {
        Self::open_with(folder, MAX_FILE_BYTES)
    }

    fn open_with(folder: &Path, max_file_bytes: u64) -> Result<Self, AuditError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| AuditError { path, cause }
        };
        let files = files(folder).map_err(failed(folder))?;
        let number = files.last().map_or(1, |(number, _)| *number);
        let path = path_of(folder, number);
        let (file, bytes, end) = go_on(&path).map_err(failed(&path))?;
        let noted = Head::read(folder).map_err(failed(&folder.join(HEAD)))?;
        // An empty file is what a full one was followed by; a log that was cut off shows where it is verified.
        let last = end.or(noted).unwrap_or(Head::NONE);
        let inner = Arc::new(Inner {
            folder: folder.to_owned(),
            max_file_bytes,
            log: Mutex::new(Log {
                file,
                number,
                bytes,
                last,
                lost: 0,
            }),
        });
        // One that waits is enough: whatever is new when it is taken is settled by it.
        let (sender, news) = sync_channel::<()>(1);
        let settled = inner.clone();
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread
            .spawn(move || {
                while news.recv().is_ok() {
                    std::thread::sleep(SETTLE / 2);
                    settled.settle();
                }
            })
            .map_err(failed(&path))?;
        Ok(Self {
            inner,
            settling: Mutex::new(Some((sender, thread))),
        })
    }

    /// Writes down a write and its answer. When this returns, it outlives the process. What cannot be written is logged
    /// and counted, and the next entry says how many are missing.
    pub fn record(&self, write: &Write<'_>) {
        self.inner.record(write);
        if let Some((news, _)) = &*self.settling() {
            // Full: it is about to look anyway.
            news.try_send(()).ok();
        }
    }

    /// The last entries before one of this number, or of all, the newest first.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read.
    pub fn last(&self, most: usize, before: Option<u64>) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for (_, path) in files(&self.inner.folder)?.into_iter().rev() {
            let text = std::fs::read_to_string(path)?;
            let entries = text.lines().rev().filter_map(|line| Entry::read(line).ok());
            let wanted = entries.filter(|entry| before.is_none_or(|before| entry.number < before));
            found.extend(wanted.take(most - found.len()));
            if found.len() >= most {
                break;
            }
        }
        Ok(found)
    }

    /// What was recorded is on the disk when this returns. Nothing more may be recorded.
    pub fn close(&self) {
        let settling = self.settling().take();
        if let Some((news, thread)) = settling {
            drop(news);
            drop(thread.join());
        }
        self.inner.settle();
    }

    fn settling(&self) -> MutexGuard<'_, Option<(SyncSender<()>, JoinHandle<()>)>> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn log(&self) -> MutexGuard<'_, Log> {
        // Each change is whole before anything could panic.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, write: &Write<'_>) {
        let mut log = self.log();
        if log.bytes >= self.max_file_bytes
            && let Err(error) = log.turn_over(&self.folder)
        {
            tracing::error!(%error, "the audit log has no new file; it goes on in the one that is full");
        }
        let (line, hash) = entry::line(log.last.number + 1, log.last.hash, log.lost, write);
        match log.append(line.as_bytes()) {
            Ok(()) => {
                log.last = Head {
                    number: log.last.number + 1,
                    hash,
                };
                log.lost = 0;
            }
            Err(error) => {
                log.lost += 1;
                tracing::error!(%error, channel = write.channel, tag = write.tag, "a write could not be written down in the audit log; see to the disk");
            }
        }
    }

    fn settle(&self) {
        let (file, last) = {
            let log = self.log();
            (log.file.try_clone(), log.last)
        };
        let settled = file
            .and_then(|file| file.sync_data())
            .and_then(|()| last.write(&self.folder));
        if let Err(error) = settled {
            tracing::error!(%error, "the audit log is not on the disk; see to it");
        }
    }
}

impl Log {
    /// All of a line, or nothing.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self, folder: &Path) -> io::Result<()> {
        self.file.sync_data()?;
        let number = self.number + 1;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path_of(folder, number))?;
        (self.file, self.number, self.bytes) = (file, number, 0);
        Ok(())
    }
}

fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("audit-{number:06}.jsonl"))
}

/// The files of a log, in order.
fn files(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .and_then(|number| number.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, file.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Opens a file to go on with it: the file, its length, and its last entry.
fn go_on(path: &Path) -> io::Result<(File, u64, Option<Head>)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let bytes = std::fs::read(path)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    if whole < bytes.len() {
        tracing::warn!(path = %path.display(), "the last line of the audit log was never finished, and is cut off");
        file.set_len(whole as u64)?;
    }
    let lines = bytes[..whole].split(|byte| *byte == b'\n');
    let last = lines
        .filter_map(|line| std::str::from_utf8(line).ok())
        .rfind(|line| !line.is_empty());
    let end = last.and_then(|line| {
        let Ok(Entry { number, hash, .. }) = Entry::read(line) else {
            tracing::error!(path = %path.display(), "the last entry of the audit log was changed; `bulkhead audit verify` says more");
            return None;
        };
        Some(Head { number, hash })
    });
    Ok((file, whole as u64, end))
}

#[cfg(test)]
mod tests;
