//! What is kept: records in *slots* (one per owner) and in bounded *lists* (many per owner).
//!
//! ```text
//! slot:KIND     owner          -> record
//! list:KIND     owner, number  -> record      numbers ascend from 1 and are never used again
//! lists         KIND, owner    -> next number, records now, records dropped
//! set_aside     number         -> what it was and why, and the record as it was found
//! ```
//!
//! When a list is full its oldest record goes, and is counted. A record that is damaged is set aside when somebody
//! comes upon it: it moves to the table `set_aside`, which is bounded too, and everything else goes on.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::owner::Owner;
use super::record::{self, Place};

/// A kind of record of which each owner has one at most.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its table's name: unique, begins with `slot:`.
    pub table: &'static str,
    /// The version of the shape of its payload. A record of another version is set aside.
    pub version: u8,
    /// The largest payload, in bytes.
    pub max_bytes: usize,
}

/// A kind of record of which each owner has a list.
#[derive(Debug, PartialEq, Eq)]
pub struct List {
    /// Its table's name: unique, begins with `list:`.
    pub table: &'static str,
    /// The version of the shape of its payload. A record of another version is set aside.
    pub version: u8,
    /// The largest payload, in bytes.
    pub max_bytes: usize,
    /// The most records of one owner.
    pub max_records: u64,
}

/// A write for which nobody waits.
#[derive(Clone, Debug)]
pub enum Keep {
    /// Put into a slot, in place of what was there.
    Slot(&'static Slot, Owner, Vec<u8>),
    /// Append to a list.
    List(&'static List, Owner, Vec<u8>),
}

/// Whoever has something to keep for which nobody waits; see [`super::Store::ask`].
pub trait Ledger: Send + Sync {
    /// Gives what is to be kept. Called on the store's own thread, in the midst of a transaction: it must be quick.
    /// From now on the ledger may be put on the list again.
    fn take(&self) -> Vec<Keep>;
    /// Takes back what could not be kept, so as to give it again later, as far as there is room.
    fn put_back(&self, keep: Vec<Keep>);
}

/// Records that are kept aside.
const MAX_ASIDE: u64 = 32;

const HEADS: TableDefinition<'_, (&str, &str), (u64, u64, u64)> = TableDefinition::new("lists");
const ASIDE: TableDefinition<'_, u64, (&str, &[u8])> = TableDefinition::new("set_aside");

pub(super) fn slot_table(slot: &Slot) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(slot.table)
}

pub(super) fn list_table(
    list: &List,
) -> TableDefinition<'static, (&'static str, u64), &'static [u8]> {
    TableDefinition::new(list.table)
}

impl Keep {
    pub(super) fn apply(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        match self {
            Keep::Slot(slot, owner, payload) => put(transaction, slot, owner, payload),
            Keep::List(list, owner, payload) => append(transaction, list, owner, payload).map(drop),
        }
    }
}

pub(super) fn slot_place<'a>(slot: &'a Slot, owner: &'a Owner) -> Place<'a> {
    Place {
        kind: slot.table,
        owner: owner.as_str(),
        number: 0,
    }
}

pub(super) fn put(
    transaction: &WriteTransaction,
    slot: &Slot,
    owner: &Owner,
    payload: &[u8],
) -> Result<(), redb::Error> {
    let sealed = record::seal(slot_place(slot, owner), slot.version, payload);
    let mut table = transaction.open_table(slot_table(slot))?;
    table.insert(owner.as_str(), sealed.as_slice())?;
    Ok(())
}

pub(super) fn clear(
    transaction: &WriteTransaction,
    slot: &Slot,
    owner: &Owner,
) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(slot_table(slot))?;
    let was = table.remove(owner.as_str())?.is_some();
    Ok(was)
}

/// What is known of a list, besides its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    next: u64,
    records: u64,
    pub(super) dropped: u64,
}

impl Head {
    fn read(
        table: &impl ReadableTable<(&'static str, &'static str), (u64, u64, u64)>,
        list: &List,
        owner: &Owner,
    ) -> Result<Self, redb::Error> {
        let head = table.get((list.table, owner.as_str()))?;
        Ok(head.map_or_else(Self::default, |head| {
            let (next, records, dropped) = head.value();
            Self {
                next,
                records,
                dropped,
            }
        }))
    }

    pub(super) fn of(
        transaction: &redb::ReadTransaction,
        list: &List,
        owner: &Owner,
    ) -> Result<Self, redb::Error> {
        match transaction.open_table(HEADS) {
            Ok(table) => Self::read(&table, list, owner),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn append(
    transaction: &WriteTransaction,
    list: &List,
    owner: &Owner,
    payload: &[u8],
) -> Result<u64, redb::Error> {
    let mut heads = transaction.open_table(HEADS)?;
    let mut table = transaction.open_table(list_table(list))?;
    let mut head = Head::read(&heads, list, owner)?;
    let number = head.next.max(1);
    let place = Place {
        kind: list.table,
        owner: owner.as_str(),
        number,
    };
    let sealed = record::seal(place, list.version, payload);
    table.insert((owner.as_str(), number), sealed.as_slice())?;
    head.next = number + 1;
    head.records += 1;
    while head.records > list.max_records.max(1) {
        let oldest = {
            let mut all = table.range((owner.as_str(), 0)..(owner.as_str(), number))?;
            all.next().transpose()?.map(|(key, _)| key.value().1)
        };
        head.records -= 1;
        if let Some(oldest) = oldest {
            table.remove((owner.as_str(), oldest))?;
            head.dropped += 1;
        }
    }
    let head = (head.next, head.records, head.dropped);
    heads.insert((list.table, owner.as_str()), head)?;
    Ok(number)
}

/// Takes a record out of a list; says whether it was there.
pub(super) fn remove(
    transaction: &WriteTransaction,
    list: &List,
    owner: &Owner,
    number: u64,
) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(list_table(list))?;
    let was = table.remove((owner.as_str(), number))?.is_some();
    if was {
        let mut heads = transaction.open_table(HEADS)?;
        let head = Head::read(&heads, list, owner)?;
        let head = (head.next, head.records.saturating_sub(1), head.dropped);
        heads.insert((list.table, owner.as_str()), head)?;
    }
    Ok(was)
}

/// What is to be set aside: a record that somebody could not read.
#[derive(Clone, Debug)]
pub(super) enum Unreadable {
    Slot(&'static Slot, Owner),
    List(&'static List, Owner, u64),
}

impl Unreadable {
    /// Moves it aside, if it is still there and still damaged; it may have been written anew.
    pub(super) fn set_aside(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let (name, found, damage) = match self {
            Unreadable::Slot(slot, owner) => {
                let table = transaction.open_table(slot_table(slot))?;
                let Some(found) = table.get(owner.as_str())? else {
                    return Ok(());
                };
                let found = found.value().to_vec();
                let place = slot_place(slot, owner);
                let damage = record::unseal(place, slot.version, &found).err();
                (format!("{} {owner}", slot.table), found, damage)
            }
            Unreadable::List(list, owner, number) => {
                let table = transaction.open_table(list_table(list))?;
                let Some(found) = table.get((owner.as_str(), *number))? else {
                    return Ok(());
                };
                let found = found.value().to_vec();
                let place = Place {
                    kind: list.table,
                    owner: owner.as_str(),
                    number: *number,
                };
                let damage = record::unseal(place, list.version, &found).err();
                (format!("{} {owner} {number}", list.table), found, damage)
            }
        };
        let Some(damage) = damage else { return Ok(()) };
        let mut aside = transaction.open_table(ASIDE)?;
        let number = aside.last()?.map_or(1, |(last, _)| last.value() + 1);
        aside.insert(
            number,
            (format!("{name}: {damage}").as_str(), found.as_slice()),
        )?;
        while redb::ReadableTableMetadata::len(&aside)? > MAX_ASIDE {
            aside.pop_first()?;
        }
        drop(aside);
        match self {
            Unreadable::Slot(slot, owner) => clear(transaction, slot, owner).map(drop),
            Unreadable::List(list, owner, number) => {
                remove(transaction, list, owner, *number).map(drop)
            }
        }
    }
}

/// What stands aside: what each was and why it stands there, and its bytes.
pub(super) fn aside(
    transaction: &redb::ReadTransaction,
) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let table = match transaction.open_table(ASIDE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for entry in table.iter()? {
        let (_, value) = entry?;
        let (name, bytes) = value.value();
        all.push((name.to_owned(), bytes.to_vec()));
    }
    Ok(all)
}
