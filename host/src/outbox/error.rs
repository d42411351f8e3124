//! What can go wrong with an outbox.

use std::path::PathBuf;

/// Why an outbox does not do what it should. It may pass: its samples wait, in memory as far as there is room.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The database says no.
    #[error("the outbox cannot be written: {0}; {remedy}", remedy = remedy(.0))]
    Database(redb::Error),
    /// It cannot be opened.
    #[error(
        "the outbox {path} cannot be opened: {reason}; make its folder writable, or move the file away to begin anew"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// The library panicked, as it does where a file is damaged in ways that it does not expect.
    #[error(
        "the outbox's database failed: {0}; move its file away to begin anew, and report it to Bulkhead's developers"
    )]
    Panicked(String),
}

fn remedy(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "make room on the disk"
            }
            std::io::ErrorKind::PermissionDenied => "let this user write the data_dir",
            _ => "see to the disk",
        },
        _ => "see to the disk, or move the file away to begin anew",
    }
}

macro_rules! from {
    ($($name:ident)*) => {$(
        impl From<redb::$name> for OutboxError {
            fn from(error: redb::$name) -> Self {
                Self::Database(error.into())
            }
        }
    )*};
}

from! { TransactionError TableError StorageError CommitError }
