//! Incarnation numbers: reserved in blocks ahead of use, so that a restart after a trap waits for no disk.
//!
//! After a crash of the host the numbers go on at the next block: they may skip, they never repeat. Not even where the
//! database was damaged and set aside: a second file beside it, written whenever a block is reserved that reaches beyond
//! any before, says from where an empty database counts.
//!
//! Epochs are raised by one whenever a channel begins to count its samples anew: with each start of the host, and where a reload
//! brings a channel. What makes them never repeat is the same.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::ids::ChannelId;

const HIGH_WATER: TableDefinition<'_, &str, u64> = TableDefinition::new("incarnation_high_water");
const EPOCHS: TableDefinition<'_, &str, u64> = TableDefinition::new("epochs");
/// No channel's name: from where the channels count that have no entry of their own.
const BASE: &str = "";

/// No channel's name either: the highest number that any channel had when the database was written last, as the floor knows it. A
/// database that knows less than the floor is an older one that was put back: its channels count on from the floor too.
const TOP: &str = "/";

/// Numbers that are reserved at once.
pub(super) const BLOCK: u64 = 256;

/// The numbers that are reserved and not used yet. Held for a moment only: never while something is written.
#[derive(Default)]
pub(super) struct Numbers {
    all: Mutex<HashMap<ChannelId, Reserved>>,
}

#[derive(Clone, Copy)]
struct Reserved {
    next: u64,
    until: u64,
}

impl Numbers {
    fn all(&self) -> MutexGuard<'_, HashMap<ChannelId, Reserved>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number, if one is left.
    pub(super) fn next(&self, channel: &ChannelId) -> Option<u64> {
        let mut all = self.all();
        let reserved = all
            .get_mut(channel)
            .filter(|reserved| reserved.next < reserved.until)?;
        reserved.next += 1;
        Some(reserved.next - 1)
    }

    /// Takes a block that is on the disk now, unless there are numbers left.
    pub(super) fn take(&self, channel: ChannelId, first: u64) {
        let until = first + BLOCK;
        let mut all = self.all();
        let reserved = all
            .entry(channel)
            .or_insert(Reserved { next: first, until });
        if reserved.next >= reserved.until {
            *reserved = Reserved { next: first, until };
        }
    }

    /// Gives back what was not used: for each channel the last number that was.
    pub(super) fn give_back(&self) -> Vec<(ChannelId, u64)> {
        let mut all = self.all();
        all.drain()
            .map(|(channel, reserved)| (channel, reserved.next - 1))
            .collect()
    }
}

/// Reserves the next block of each channel, in the database; gives the first number of each.
pub(super) fn reserve(
    transaction: &WriteTransaction,
    channels: &[ChannelId],
    floor: &Floor,
) -> Result<Vec<u64>, redb::Error> {
    advance(transaction, HIGH_WATER, channels, floor, BLOCK)
}

/// Raises the epoch of each channel, and gives it.
pub(super) fn raise_epochs(
    transaction: &WriteTransaction,
    channels: &[ChannelId],
    floor: &Floor,
) -> Result<Vec<u64>, redb::Error> {
    advance(transaction, EPOCHS, channels, floor, 1)
}

/// Takes the next so many numbers of each channel, in the database and in the floor; gives the first of each.
fn advance(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, &str, u64>,
    channels: &[ChannelId],
    floor: &Floor,
    by: u64,
) -> Result<Vec<u64>, redb::Error> {
    let mut table = transaction.open_table(table)?;
    let base = table.get(BASE)?.map(|base| base.value());
    let base = match base {
        Some(base) => base,
        None => {
            // A new database: the first there is, or one in place of another.
            table.insert(BASE, floor.known())?;
            floor.known()
        }
    };
    let top = table.get(TOP)?.map_or(0, |top| top.value());
    if top < floor.known() && base < floor.known() {
        // Whoever has an entry gets the floor for it, whoever has none begins there.
        let names = table.iter()?.map(|entry| Ok(entry?.0.value().to_owned()));
        let names: Vec<String> = names.collect::<Result<_, redb::StorageError>>()?;
        for name in names {
            table.insert(name.as_str(), floor.known())?;
        }
    }
    let base = table.get(BASE)?.map_or(base, |base| base.value());
    let mut firsts = Vec::with_capacity(channels.len());
    for channel in channels {
        let last = table
            .get(channel.as_str())?
            .map_or(base, |last| last.value());
        table.insert(channel.as_str(), last + by)?;
        firsts.push(last + 1);
    }
    if let Some(highest) = firsts.iter().max() {
        let highest = highest + by - 1;
        table.insert(TOP, highest.max(floor.known()))?;
        floor.raise(highest).map_err(redb::StorageError::from)?;
    }
    Ok(firsts)
}

/// Notes the last numbers that were used.
pub(super) fn settle(
    transaction: &WriteTransaction,
    used: &[(ChannelId, u64)],
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(HIGH_WATER)?;
    for (channel, last) in used {
        table.insert(channel.as_str(), last)?;
    }
    Ok(())
}

/// The highest number that any channel ever had, in a file of its own beside the database.
pub(super) struct Floor {
    path: PathBuf,
    known: Mutex<u64>,
}

impl Floor {
    /// Reads the file. One that is not there or says nothing counts as zero.
    pub(super) fn read(data_dir: &Path, name: &str) -> Self {
        let path = data_dir.join(name);
        let known = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Self {
            path,
            known: Mutex::new(known),
        }
    }

    pub(super) fn known(&self) -> u64 {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises it, on the disk too. Called on the store's thread only.
    pub(super) fn raise(&self, to: u64) -> std::io::Result<()> {
        if to <= self.known() {
            return Ok(());
        }
        // Whole or not at all: beside it first, then in its place.
        let beside = self.path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        writeln!(file, "{to}")?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = to;
        Ok(())
    }
}
