//! What outlives the process: one redb database in `data_dir`, and the lock that keeps a second host out.
//!
//! Holds the incarnation numbers and the saved states of drivers. Every write is durable when its function
//! returns, and blocks for as long as that takes: callers on the runtime go through `spawn_blocking`.
//!
//! Incarnation numbers are reserved in blocks ahead of use, so that a restart after a trap waits for no disk. After
//! a crash of the host the numbers go on at the next block: they may skip, they never repeat.

mod lock;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::ids::ChannelId;
use lock::Lock;

const INCARNATIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("incarnation_high_water");
const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("saved_state_v1");

/// Incarnation numbers that are reserved at once.
const BLOCK: u64 = 256;

/// The largest saved state, in bytes.
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// What went wrong with `data_dir`.
#[derive(Debug, thiserror::Error)]
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
}

/// The store. Cheap to clone; the lock is held until the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    database: Database,
    /// Per channel: the next number, and the first one that is not reserved.
    numbers: Mutex<HashMap<ChannelId, Numbers>>,
    _lock: Lock,
}

#[derive(Clone, Copy)]
struct Numbers {
    next: u64,
    reserved_until: u64,
}

impl Store {
    /// Makes the folder if need be, locks it, opens the database.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let lock = Lock::take(data_dir)?;
        let path = data_dir.join("bulkhead.redb");
        let fault = |reason: String| StoreError::Database {
            path: path.clone(),
            reason,
        };
        let database = Database::create(&path).map_err(|error| fault(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.clone(),
                database,
                numbers: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Reserves a block of numbers for each of these channels, in one step.
    pub fn reserve_incarnations(&self, channels: &[&ChannelId]) -> Result<(), StoreError> {
        let mut all = self
            .inner
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.write(|transaction| {
            let mut table = transaction.open_table(INCARNATIONS)?;
            for channel in channels {
                let next = match all.get(*channel) {
                    Some(numbers) => numbers.next,
                    None => table.get(channel.as_str())?.map_or(0, |last| last.value()) + 1,
                };
                let reserved_until = next + BLOCK;
                table.insert(channel.as_str(), reserved_until - 1)?;
                all.insert(
                    (*channel).clone(),
                    Numbers {
                        next,
                        reserved_until,
                    },
                );
            }
            Ok(())
        })
    }

    /// The number of the channel's next incarnation. Waits for the disk once in a block of numbers.
    pub fn next_incarnation(&self, channel: &ChannelId) -> Result<u64, StoreError> {
        loop {
            if let Some(number) = self.reserved_incarnation(channel) {
                return Ok(number);
            }
            self.reserve_incarnations(&[channel])?;
        }
    }

    /// As [`Store::next_incarnation`], from the numbers that are reserved already; waits for no disk. `None` if there
    /// are none left.
    pub fn reserved_incarnation(&self, channel: &ChannelId) -> Option<u64> {
        let mut all = self
            .inner
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let numbers = all
            .get_mut(channel)
            .filter(|numbers| numbers.next < numbers.reserved_until)?;
        numbers.next += 1;
        Some(numbers.next - 1)
    }

    /// Gives back the numbers that were reserved and not used, so that the next run of the host goes on without a
    /// gap.
    pub fn settle(&self) -> Result<(), StoreError> {
        let mut all = self
            .inner
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.write(|transaction| {
            let mut table = transaction.open_table(INCARNATIONS)?;
            for (channel, numbers) in all.iter() {
                table.insert(channel.as_str(), numbers.next - 1)?;
            }
            Ok(())
        })?;
        all.clear();
        Ok(())
    }

    /// Keeps a driver's state for its next incarnation.
    pub fn save_state(&self, channel: &ChannelId, state: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .open_table(STATES)?
                .insert(channel.as_str(), state)?;
            Ok(())
        })
    }

    /// The state that the channel's driver saved last.
    pub fn state(&self, channel: &ChannelId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|transaction| {
            let table = match transaction.open_table(STATES) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table
                .get(channel.as_str())?
                .map(|value| value.value().to_vec()))
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let whole = || work(&self.inner.database.begin_read()?);
        whole().map_err(|error: redb::Error| self.fault(&error))
    }

    fn write(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let whole = || {
            let transaction = self.inner.database.begin_write()?;
            work(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        whole().map_err(|error: redb::Error| self.fault(&error))
    }

    fn fault(&self, error: &redb::Error) -> StoreError {
        StoreError::Database {
            path: self.inner.path.clone(),
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("bulkhead-store-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        path
    }

    #[test]
    fn numbers_never_repeat_and_go_on_without_a_gap_after_an_orderly_stop() {
        let path = folder("numbers");
        let channel = ChannelId::new("a").unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(
            [1, 2, 3].map(|_| store.next_incarnation(&channel).unwrap()),
            [1, 2, 3]
        );
        store.settle().unwrap();
        assert_eq!(store.next_incarnation(&channel).unwrap(), 4);
        drop(store); // as after a crash: nothing was settled
        let store = Store::open(&path).unwrap();
        assert_eq!(store.next_incarnation(&channel).unwrap(), 4 + BLOCK);
        drop(store);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_second_host_is_kept_out_and_told_who_is_in() {
        let path = folder("lock");
        let store = Store::open(&path).unwrap();
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(store);
        drop(Store::open(&path).unwrap());
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_saved_state_is_there_again() {
        let path = folder("state");
        let channel = ChannelId::new("a").unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.state(&channel).unwrap(), None);
        store.save_state(&channel, b"one").unwrap();
        store.save_state(&channel, b"two").unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(
            store.state(&channel).unwrap().as_deref(),
            Some(b"two".as_slice())
        );
        drop(store);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
