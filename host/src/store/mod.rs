//! What outlives the process: one redb database in `data_dir`, and the lock that keeps a second host out.
//!
//! - `keep`: what is kept: records in slots (the saved states of drivers, statistics) and in bounded lists (histories). A
//!   [`Slot`] or a [`List`] is a constant of whoever has something to keep; the store knows none of them but one, [`SAVED_STATE`].
//! - `record`: each record is versioned and checksummed; a damaged one is set aside when it is met, and nothing else suffers.
//! - `writer`: one thread writes, in groups. What returns a future is durable when that is done; whoever need not wait
//!   is a [`Ledger`]. Reading never waits for a write.
//! - `numbers`: incarnation numbers, reserved in blocks.
//! - `database`, `lock`: the file and the folder. A damaged file is set aside, and the host starts with an empty one.
//!
//! What can go wrong: the disk. A write that fails fails for who waits for it; histories and statistics stay in memory, as
//! far as they have room, and are tried again.

mod database;
mod error;
mod keep;
mod lock;
mod numbers;
mod owner;
mod record;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, TableError};

use crate::ids::ChannelId;
use keep::{Head, Unreadable};
use lock::Lock;
use numbers::{Floor, Numbers};
use record::Place;
use writer::{Refused, Writer};

pub(crate) use database::{open as open_database, said};
pub use error::StoreError;
pub use keep::{Keep, Ledger, List, Slot};
pub use owner::Owner;

/// The largest saved state, in bytes.
pub const MAX_STATE_BYTES: usize = crate::limits::STATE_BYTES;

/// What a driver asked to be kept for its next incarnation.
pub static SAVED_STATE: Slot = Slot {
    table: "slot:saved_state",
    version: 1,
    max_bytes: MAX_STATE_BYTES,
};

/// What was found in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was kept there.
    Nothing,
    /// The payload.
    Whole(Vec<u8>),
    /// Something that cannot be read; it is being set aside. Why, in words that follow "the record was set aside: ".
    SetAside(String),
}

/// A record of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number: ascends from 1 for each owner, and is never used again.
    pub number: u64,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A list as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The oldest first.
    pub entries: Vec<Entry>,
    /// How many were dropped since the list began, because it was full.
    pub dropped: u64,
    /// How many of those that were found could not be read, and are being set aside.
    pub set_aside: u64,
}

/// The store. Cheap to clone; the lock is held until the last clone is dropped, which waits for what is still to be
/// written.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    // Before the database and the lock: its thread ends first.
    writer: Writer,
    database: Arc<Database>,
    numbers: Numbers,
    floor: Arc<Floor>,
    epochs: Arc<Floor>,
    aside: Option<PathBuf>,
    _lock: Lock,
}

impl Store {
    /// Makes the folder if need be, locks it, opens the database. Sets a damaged one aside and begins anew.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let lock = Lock::take(data_dir)?;
        let path = data_dir.join("bulkhead.redb");
        let (database, aside) = database::open(
            &path,
            "history, statistics and saved states of drivers begin anew",
        )?;
        let database = Arc::new(database);
        let fault = {
            let path = path.clone();
            move |reason| StoreError::Database {
                path: path.clone(),
                reason,
            }
        };
        let writer = Writer::start(database.clone(), fault.clone())
            .map_err(|error| fault(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                writer,
                database,
                numbers: Numbers::default(),
                floor: Arc::new(Floor::read(data_dir, "incarnations")),
                epochs: Arc::new(Floor::read(data_dir, "epochs")),
                aside,
                _lock: lock,
            }),
        })
    }

    /// Where the damaged database is that was set aside when this one was opened.
    pub fn set_aside(&self) -> Option<&Path> {
        self.inner.aside.as_deref()
    }

    /// Puts a payload into a slot, in place of what was there. Durable when this is done.
    pub async fn put(
        &self,
        slot: &'static Slot,
        owner: impl Into<Owner>,
        payload: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.fits(slot.table, payload.len(), slot.max_bytes)?;
        let owner = owner.into();
        self.write(move |transaction| keep::put(transaction, slot, &owner, &payload))
            .await
    }

    /// Empties a slot; says whether there was something. Durable when this is done.
    pub async fn clear(
        &self,
        slot: &'static Slot,
        owner: impl Into<Owner>,
    ) -> Result<bool, StoreError> {
        let owner = owner.into();
        self.write(move |transaction| keep::clear(transaction, slot, &owner))
            .await
    }

    /// What is in a slot. Something that is damaged is set aside.
    pub fn slot(&self, slot: &'static Slot, owner: impl Into<Owner>) -> Result<Found, StoreError> {
        let owner = &owner.into();
        let found = self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(keep::slot_table(slot)))? else {
                return Ok(Found::Nothing);
            };
            let Some(sealed) = table.get(owner.as_str())? else {
                return Ok(Found::Nothing);
            };
            let place = keep::slot_place(slot, owner);
            Ok(match record::unseal(place, slot.version, sealed.value()) {
                Ok(payload) => Found::Whole(payload.to_vec()),
                Err(damage) => Found::SetAside(damage.to_string()),
            })
        })?;
        if let Found::SetAside(damage) = &found {
            tracing::warn!(channel = %owner, kind = slot.table, damage, "a damaged record was set aside");
            self.move_aside(Unreadable::Slot(slot, owner.clone()));
        }
        Ok(found)
    }

    /// Appends a record to a list; gives its number. Durable when this is done.
    pub async fn append(
        &self,
        list: &'static List,
        owner: impl Into<Owner>,
        payload: Vec<u8>,
    ) -> Result<u64, StoreError> {
        self.fits(list.table, payload.len(), list.max_bytes)?;
        let owner = owner.into();
        self.write(move |transaction| keep::append(transaction, list, &owner, &payload))
            .await
    }

    /// Takes a record out of a list; says whether it was there. Durable when this is done.
    pub async fn remove(
        &self,
        list: &'static List,
        owner: impl Into<Owner>,
        number: u64,
    ) -> Result<bool, StoreError> {
        let owner = owner.into();
        self.write(move |transaction| keep::remove(transaction, list, &owner, number))
            .await
    }

    /// The whole list of one owner. Records that are damaged are set aside.
    pub fn list(&self, list: &'static List, owner: impl Into<Owner>) -> Result<Listed, StoreError> {
        let owner = &owner.into();
        let mut damaged = Vec::new();
        let listed = self.read(|transaction| {
            let mut listed = Listed {
                dropped: Head::of(transaction, list, owner)?.dropped,
                ..Listed::default()
            };
            let Some(table) = existing(transaction.open_table(keep::list_table(list)))? else {
                return Ok(listed);
            };
            for record in table.range((owner.as_str(), 0)..=(owner.as_str(), u64::MAX))? {
                let (key, sealed) = record?;
                let number = key.value().1;
                match unsealed(list, owner, number, sealed.value()) {
                    Ok(payload) => listed.entries.push(Entry { number, payload }),
                    Err(damage) => damaged.push((number, damage)),
                }
            }
            listed.set_aside = damaged.len() as u64;
            Ok(listed)
        })?;
        for (number, damage) in damaged {
            self.damaged_entry(list, owner, number, &damage);
        }
        Ok(listed)
    }

    /// One record of a list, if it is there and whole.
    pub fn entry(
        &self,
        list: &'static List,
        owner: impl Into<Owner>,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let owner = &owner.into();
        let found = self.read(|transaction| {
            let Some(table) = existing(transaction.open_table(keep::list_table(list)))? else {
                return Ok(None);
            };
            let sealed = table.get((owner.as_str(), number))?;
            Ok(sealed.map(|sealed| unsealed(list, owner, number, sealed.value())))
        })?;
        Ok(match found {
            None => None,
            Some(Ok(payload)) => Some(payload),
            Some(Err(damage)) => {
                self.damaged_entry(list, owner, number, &damage);
                None
            }
        })
    }

    /// Asks the ledger soon for what it has to keep. It must be asked for once only until it has given it.
    pub fn ask(&self, ledger: Arc<dyn Ledger>) {
        self.inner.writer.ask(ledger);
    }

    /// Waits until everything is durable that was given to the store before, ledgers included. Fails where a ledger
    /// could not be rid of what it has.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let outcome = self.inner.writer.flush().await;
        outcome.unwrap_or_else(|| Err(self.closed()))
    }

    /// Reserves a block of incarnation numbers for each of these channels, where none are left, in one step.
    pub async fn reserve_incarnations(&self, channels: Vec<ChannelId>) -> Result<(), StoreError> {
        let floor = self.inner.floor.clone();
        let of = channels.clone();
        let firsts = self
            .write(move |transaction| numbers::reserve(transaction, &of, &floor))
            .await?;
        for (channel, first) in channels.into_iter().zip(firsts) {
            self.inner.numbers.take(channel, first);
        }
        Ok(())
    }

    /// Raises the epoch of each of these channels, in one step, and gives them. Durable when this is done.
    pub async fn raise_epochs(&self, channels: Vec<ChannelId>) -> Result<Vec<u64>, StoreError> {
        let floor = self.inner.epochs.clone();
        self.write(move |transaction| numbers::raise_epochs(transaction, &channels, &floor))
            .await
    }

    /// The number of the channel's next incarnation, from the numbers that are reserved. `None` if there are none left:
    /// then a block must be reserved first.
    pub fn reserved_incarnation(&self, channel: &ChannelId) -> Option<u64> {
        self.inner.numbers.next(channel)
    }

    /// Gives back the incarnation numbers that were reserved and not used, so that the next run of the host goes on without
    /// a gap; waits until everything is durable.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let used = self.inner.numbers.give_back();
        self.write(move |transaction| numbers::settle(transaction, &used))
            .await?;
        self.flush().await
    }

    /// The records that were set aside: what each was and why it stands there, and its bytes.
    pub fn records_aside(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(keep::aside)
    }

    fn fits(&self, kind: &'static str, bytes: usize, most: usize) -> Result<(), StoreError> {
        if bytes <= most {
            return Ok(());
        }
        Err(StoreError::TooLarge { kind, bytes, most })
    }

    fn damaged_entry(&self, list: &'static List, owner: &Owner, number: u64, damage: &str) {
        tracing::warn!(channel = %owner, kind = list.table, number, damage, "a damaged record was set aside");
        self.move_aside(Unreadable::List(list, owner.clone(), number));
    }

    /// Nobody waits: a record that stays where it is is found again.
    fn move_aside(&self, unreadable: Unreadable) {
        let moved = move |transaction: &_| unreadable.set_aside(transaction);
        match self.inner.writer.submit(moved) {
            Ok(_answer) => {}
            Err(Refused::Full | Refused::Closed) => {
                tracing::debug!("the damaged record stays where it is for now");
            }
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&redb::WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let outcome = self.inner.writer.write(work).await;
        outcome.unwrap_or_else(|| Err(self.closed()))
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed {
            path: self.inner.path.clone(),
        }
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let fault = |reason| StoreError::Database {
            path: self.inner.path.clone(),
            reason,
        };
        let whole = || work(&self.inner.database.begin_read()?);
        match catch_unwind(AssertUnwindSafe(whole)) {
            Ok(done) => done.map_err(|error: redb::Error| fault(error.to_string())),
            Err(panic) => Err(fault(database::said(&*panic))),
        }
    }
}

/// A table that nobody has written to yet is as good as an empty one.
fn existing<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn unsealed(list: &List, owner: &Owner, number: u64, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let place = Place {
        kind: list.table,
        owner: owner.as_str(),
        number,
    };
    match record::unseal(place, list.version, sealed) {
        Ok(payload) => Ok(payload.to_vec()),
        Err(damage) => Err(damage.to_string()),
    }
}

#[cfg(test)]
mod tests;
