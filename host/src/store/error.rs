//! What can go wrong with `data_dir`.

use std::path::PathBuf;

/// What went wrong with `data_dir`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another host has it.
    #[error(
        "{path} is in use by another host (process {holder}); stop that one, or give this one a data_dir of its own"
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as it said.
        holder: String,
    },
    /// The folder cannot be used.
    #[error(
        "data_dir {path} cannot be used: {reason}; make it a folder that this user may write to"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The database cannot be read or written.
    #[error(
        "the database {path} failed: {reason}; check the disk, or move the file away to begin anew"
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
    /// A record is larger than its kind may be.
    #[error("{bytes} bytes are too many for one record of {kind}; at most {most} are kept")]
    TooLarge {
        /// The kind of record.
        kind: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// Whoever was reading has panicked.
    #[error(
        "reading the database failed: {reason}; report it to Bulkhead's developers with the log"
    )]
    Task {
        /// What it said.
        reason: String,
    },
    /// The store has been closed.
    #[error("the host is stopping: nothing more is kept in {path}")]
    Closed {
        /// The file.
        path: PathBuf,
    },
}
