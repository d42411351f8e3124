//! The database file: opened, checked, and set aside where it is damaged.
//!
//! A host at night with a damaged file starts without what it held, says so, and leaves the file for whoever looks into it
//! in the morning. A file that cannot be read or written at all (no rights, a full or failing disk) is another matter: it may be
//! whole, so the host refuses to start.
//!
//! The library reports damage as an error where it notices, and panics where it does not expect any; both
//! are damage here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};

use super::StoreError;
use crate::clock::Clock;

/// Pages that the library keeps in memory, in bytes.
const CACHE: usize = 1024 * 1024;
/// The largest file that is read through at each start. A larger one is checked after a crash only.
const CHECKED_AT_START: u64 = 256 * 1024 * 1024;
/// Damaged files that are kept.
const KEPT: usize = 4;

/// Opens a database, or a new one where the file is damaged; says where the damaged one is. `lost` says what that means.
pub(crate) fn open(path: &Path, lost: &str) -> Result<(Database, Option<PathBuf>), StoreError> {
    let damage = match attempt(path) {
        Ok(database) => return Ok((database, None)),
        Err(Trouble::Refused(reason)) => return Err(fault(path, reason)),
        Err(Trouble::Damaged(reason)) => reason,
    };
    let aside = set_aside(path).map_err(|error| {
        let reason = format!("{damage}, and it cannot be moved aside: {error}");
        fault(path, reason)
    })?;
    tracing::error!(
        file = %path.display(),
        aside = %aside.display(),
        damage,
        "the database is damaged; it was set aside and the host goes on with an empty one: {lost}"
    );
    match attempt(path) {
        Ok(database) => Ok((database, Some(aside))),
        Err(Trouble::Refused(reason) | Trouble::Damaged(reason)) => Err(fault(path, reason)),
    }
}

fn fault(path: &Path, reason: String) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        reason,
    }
}

enum Trouble {
    /// The contents are not what this host wrote.
    Damaged(String),
    /// The file cannot be had.
    Refused(String),
}

fn attempt(path: &Path) -> Result<Database, Trouble> {
    let opened = catch_unwind(AssertUnwindSafe(|| checked(path)));
    opened.unwrap_or_else(|panic| Err(Trouble::Damaged(said(&*panic))))
}

fn checked(path: &Path) -> Result<Database, Trouble> {
    let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_AT_START);
    let mut database = redb::Builder::new()
        .set_cache_size(CACHE)
        .create(path)
        .map_err(trouble)?;
    if small && !database.check_integrity().map_err(trouble)? {
        tracing::warn!(file = %path.display(), "the database was damaged in part, and is mended");
    }
    Ok(database)
}

fn trouble(error: DatabaseError) -> Trouble {
    let damaged = match &error {
        DatabaseError::Storage(StorageError::Io(error)) => matches!(
            error.kind(),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
        ),
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::UpgradeRequired(_) => {
            true
        }
        _ => false,
    };
    match damaged {
        true => Trouble::Damaged(error.to_string()),
        false => Trouble::Refused(error.to_string()),
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("it panicked: {said}")
}

/// Moves the file aside under a name that says when, and forgets the oldest where there are too many.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = i128::from(Clock::start().wall().0);
    let now = jiff::Timestamp::from_nanosecond(now).unwrap_or_default();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = format!("{name}.corrupt-");
    let mut others = Vec::new();
    for entry in path.parent().unwrap_or(Path::new(".")).read_dir()? {
        let other = entry?;
        if other.file_name().to_string_lossy().starts_with(&stem) {
            others.push(other.path());
        }
    }
    // The date sorts as text.
    others.sort();
    let too_many = (others.len() + 1).saturating_sub(KEPT);
    for old in others.iter().take(too_many) {
        std::fs::remove_file(old)?;
    }
    let date = now.strftime("%Y%m%dT%H%M%S.%3fZ");
    let aside = path.with_file_name(format!("{stem}{date}"));
    std::fs::rename(path, &aside)?;
    Ok(aside)
}
