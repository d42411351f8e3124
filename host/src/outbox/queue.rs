//! One sink's queue on the disk: a redb database of its own.
//!
//! Invariants:
//! - **Accepted is durable.** What [`Queue::change`] was given is on the disk when it returns, all of it or none.
//! - **In order.** Chunks have ascending numbers; they are read in that order, and a gap stands where it arose.
//! - **Gone only when acknowledged, or announced.** A chunk is removed when its sink has acknowledged it, or when it makes room
//!   or is too old; then a gap stands in its place, and it is counted.
//! - **A bad chunk harms itself only.** Each has a checksum, and becomes a gap where it does not fit.
//!
//! ```text
//! chunks    number   -> samples, when (on the queue's own clock), sealed chunk (`codec`)
//! layouts   number   -> sealed layout
//! marks     channel  -> epoch and sequence of the last sample accepted, and of the last acknowledged
//! counts    name     -> number: the next numbers, totals, the queue's own clock
//! ```
//!
//! **The queue's own clock** counts the time for which a host has had it open, over restarts: age is measured by it, so a wall
//! clock that jumps drops nothing, and neither does a host that was switched off over the holidays.
//!
//! **Cost**: one transaction for each group of batches, with two waits for the disk (quick repair: after a crash a queue of any
//! size opens at once, instead of being read through).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::codec;
use super::counts::Counts;
use super::group::{Group, Of};
use super::layouts::{self, AtHand, Layouts, NewLayout};
use super::seal::{Kind, seal, unseal};
use super::{Mark, OutboxError};
use crate::config::Overflow;
use crate::event::{Gap, GapReason, Item, Layout, WallNs};

const CHUNKS: TableDefinition<'_, u64, (u64, u64, &[u8])> = TableDefinition::new("chunks");
const LAYOUTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("layouts");
const MARKS: TableDefinition<'_, &str, (u64, u64, u64, u64)> = TableDefinition::new("marks");
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("counts");

/// What a chunk may hold, in bytes, unless it is a single batch: with its key and its head it fits a page of 64 KiB.
const CHUNK_BYTES: usize = 60 * 1024;
/// The most that is read at once, in bytes on the disk. One chunk may go beyond it.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// The most chunks that are dropped in one transaction.
const DROPPED_AT_ONCE: usize = 4_096;

/// How much a queue may hold, and what happens beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of what it holds; the file is somewhat larger.
    pub bytes: u64,
    /// By the queue's own clock.
    pub age: Duration,
    /// What goes where there is no room.
    pub overflow: Overflow,
}

/// What a sink has acknowledged, and the queue has not noted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Every chunk up to this number.
    pub(super) until: u64,
    /// The last sample of each channel in them: epoch and sequence.
    pub(super) marks: BTreeMap<Box<str>, (u64, u64)>,
    /// Samples of them that were damaged.
    pub(super) damaged: u64,
    /// Samples of them that the sink's peer will never take.
    pub(super) refused: u64,
}

/// How a queue goes on behind another that was there before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Numbers of chunks go on behind this one: those up to it belong to a file that was there before, and what was said of them is not
    /// about this one.
    pub(super) newest: u64,
    /// Whether a damaged file was set aside for this one.
    pub(super) was_set_aside: bool,
    /// Samples that the other file held, as far as it is known: at most so many are missing, since some may be on their way or have arrived.
    pub(super) samples: u64,
    /// For the gap that stands in their place.
    pub(super) now: WallNs,
}

/// What is to be changed in one transaction.
#[derive(Debug, Default)]
pub(super) struct Change<'c> {
    /// To be accepted, in this order.
    pub(super) entries: &'c Group,
    /// To be removed, since it has arrived.
    pub(super) acknowledged: Acknowledged,
    /// Chunks up to this number are with the sink at the moment: they are not dropped.
    pub(super) in_flight: u64,
    /// Whether everything else goes, since an operator said so.
    pub(super) purge: bool,
    /// How long the queue was open, since it was asked last.
    pub(super) elapsed: Duration,
    /// For gaps.
    pub(super) now: WallNs,
}

/// The queue, as its one writer sees it.
pub(super) struct Queue {
    database: Arc<Database>,
    bounds: Bounds,
    counts: Counts,
    /// What was acknowledged and removed.
    removed: u64,
    layouts: Layouts,
}

/// Reads a queue while its writer writes. Cheap to clone.
#[derive(Clone)]
pub(super) struct QueueReader {
    database: Arc<Database>,
    layouts: AtHand,
}

/// A chunk as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chunk {
    pub(super) number: u64,
    pub(super) entries: Vec<Item>,
    /// Samples that it held and that cannot be read.
    pub(super) damaged: u64,
}

impl Queue {
    /// Takes over an opened database; makes what is missing in it. Where another file was there before this one in this run of the host, a
    /// gap says so, once: it is on the disk with the first transaction.
    pub(super) fn new(
        database: Arc<Database>,
        bounds: Bounds,
        before: Before,
    ) -> Result<Self, OutboxError> {
        let mut write = database.begin_write()?;
        write.set_quick_repair(true);
        let (counts, stored) = {
            let mut chunks = write.open_table(CHUNKS)?;
            let _marks = write.open_table(MARKS)?;
            let in_file = write.open_table(LAYOUTS)?;
            let mut table = write.open_table(COUNTS)?;
            let mut stored = HashMap::new();
            for layout in in_file.iter()? {
                let (number, sealed) = layout?;
                // One that is damaged is of no use to new batches either.
                if let Ok(bytes) = unseal(Kind::Layout, number.value(), sealed.value()) {
                    stored.insert(layouts::contents(bytes), number.value());
                }
            }
            let mut counts = Counts::read(|name| {
                let found = table.get(name)?;
                Ok::<_, redb::StorageError>(found.map(|count| count.value()))
            })?;
            if before.was_set_aside || counts.next < before.newest {
                counts.next = counts.next.max(before.newest) + 1;
                counts.dropped[GapReason::Damaged as usize] += before.samples;
                let gap = Gap {
                    messages: 1,
                    samples: before.samples,
                    reason: GapReason::Damaged,
                    at: before.now,
                };
                let place = (counts.next, counts.clock);
                insert_gap(&mut chunks, &mut counts, place, gap)?;
                counts.write(|name, count| table.insert(name, count).map(drop))?;
            }
            (counts, stored)
        };
        write.commit()?;
        Ok(Self {
            database,
            bounds,
            counts,
            removed: 0,
            layouts: Layouts::new(stored),
        })
    }

    pub(super) fn reader(&self) -> QueueReader {
        QueueReader {
            database: self.database.clone(),
            layouts: self.layouts.at_hand(),
        }
    }

    #[cfg(test)]
    pub(super) fn into_database(self) -> Arc<Database> {
        self.database
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Up to which chunk everything was removed since it was opened, since it was acknowledged.
    pub(super) fn removed(&self) -> u64 {
        self.removed
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.counts.bytes >= self.bounds.bytes
    }

    /// Does all of it in one transaction, or nothing. After an error the database must be opened anew.
    ///
    /// Where there is no room: `drop-oldest` drops what is oldest and not with the sink at the moment; with `drop-newest` the entries
    /// themselves become a gap; with `block` whoever calls looks at [`Queue::is_full`] first.
    pub(super) fn change(&mut self, change: &Change<'_>) -> Result<(), OutboxError> {
        let mut counts = self.counts.clone();
        counts.clock = counts.clock.saturating_add(nanos(change.elapsed));
        let mut write = self.database.begin_write()?;
        write.set_quick_repair(true);
        let mut new_layouts = Vec::new();
        let mut of_use = None;
        {
            let mut chunks = write.open_table(CHUNKS)?;
            let mut marks = write.open_table(MARKS)?;
            let mut layouts = write.open_table(LAYOUTS)?;

            // First what makes room.
            while let Some((number, samples, bytes)) = first(&chunks)? {
                if number > change.acknowledged.until {
                    break;
                }
                chunks.remove(number)?;
                counts.gone(samples, bytes);
                counts.delivered += samples;
            }
            for (reason, samples) in [
                (GapReason::Damaged, change.acknowledged.damaged),
                (GapReason::Refused, change.acknowledged.refused),
            ] {
                counts.dropped[reason as usize] += samples;
                counts.delivered = counts.delivered.saturating_sub(samples);
            }
            for (channel, (epoch, sequence)) in &change.acknowledged.marks {
                let (accepted, _) = mark(&marks, channel)?;
                marks.insert(&**channel, (accepted.0, accepted.1, *epoch, *sequence))?;
            }
            if change.purge {
                drop_chunks(
                    &mut chunks,
                    &mut counts,
                    change,
                    GapReason::Purged,
                    |_, _| true,
                )?;
            }
            let oldest = counts.clock.saturating_sub(nanos(self.bounds.age));
            drop_chunks(
                &mut chunks,
                &mut counts,
                change,
                GapReason::Age,
                |_, when| when < oldest,
            )?;

            let full = counts.bytes >= self.bounds.bytes;
            let refused = full && self.bounds.overflow == Overflow::DropNewest;
            let missing = refused.then(|| change.entries.missing(GapReason::Bytes, change.now));
            let missing: Option<Group> = missing.map(|gap| {
                counts.dropped[GapReason::Bytes as usize] += gap.samples;
                let gap = (gap.messages > 0).then_some(Item::Gap(gap));
                gap.iter().collect()
            });
            let entries = missing.as_ref().unwrap_or(change.entries);
            // A gap that follows a gap is one with it.
            let merged = match entries.only_gap() {
                Some(gap) => merge_into_last(&mut chunks, &mut counts, gap, change)?,
                None => false,
            };
            let mut rest = entries.iter().filter(|_| !merged).peekable();
            while rest.peek().is_some() {
                let mut body = Vec::with_capacity(CHUNK_BYTES);
                let (mut taken, mut samples) = (0, 0);
                while let Some(entry) = rest.peek() {
                    if body.len() >= CHUNK_BYTES {
                        break;
                    }
                    let before = body.len();
                    match entry.of {
                        Of::Batch { layout, .. } => {
                            let number =
                                self.layout(layout, &mut layouts, &mut counts, &mut new_layouts)?;
                            codec::write_batch_head(&mut body, number);
                        }
                        Of::Gap(_) => codec::write_gap_head(&mut body),
                    }
                    body.extend_from_slice(entry.bytes);
                    if body.len() > CHUNK_BYTES && taken > 0 {
                        body.truncate(before);
                        break;
                    }
                    taken += 1;
                    samples += entry.samples;
                    rest.next();
                }
                counts.next += 1;
                let place = (counts.next, counts.clock);
                insert(&mut chunks, &mut counts, place, &body, taken, samples)?;
                counts.accepted += samples;
            }
            if !merged {
                for (channel, (epoch, sequence)) in entries.marks() {
                    let (_, acknowledged) = mark(&marks, &channel)?;
                    let new = (epoch, sequence, acknowledged.0, acknowledged.1);
                    marks.insert(&*channel, new)?;
                }
            }
            if self.bounds.overflow == Overflow::DropOldest {
                let most = self.bounds.bytes;
                drop_chunks(
                    &mut chunks,
                    &mut counts,
                    change,
                    GapReason::Bytes,
                    |bytes, _| bytes > most,
                )?;
            }
            if chunks.is_empty()? {
                of_use = self.layouts.of_use(layouts.len()?, &new_layouts);
                if let Some(of_use) = &of_use {
                    layouts.retain(|number, _| of_use.contains(&number))?;
                }
            }
            let mut table = write.open_table(COUNTS)?;
            counts.write(|name, count| table.insert(name, count).map(drop))?;
        }
        write.commit()?;
        self.counts = counts;
        self.removed = self.removed.max(change.acknowledged.until);
        self.layouts.add(new_layouts);
        if let Some(of_use) = of_use {
            self.layouts.keep(&of_use);
        }
        Ok(())
    }

    /// The number of a layout, which is stored if it is not yet. What is new is known only once the transaction is done.
    fn layout(
        &self,
        layout: &Arc<Layout>,
        table: &mut redb::Table<'_, u64, &'static [u8]>,
        counts: &mut Counts,
        new: &mut Vec<NewLayout>,
    ) -> Result<u64, OutboxError> {
        if let Some(number) = self.layouts.known(layout) {
            return Ok(number);
        }
        let mut fresh = new.iter();
        if let Some(known) = fresh.find(|known| Arc::ptr_eq(&known.layout, layout)) {
            return Ok(known.number);
        }
        let bytes = codec::write_layout(layout);
        let contents = layouts::contents(&bytes);
        let number = match self.layouts.stored(&contents) {
            Some(number) => number,
            None => {
                counts.next_layout += 1;
                let number = counts.next_layout;
                let sealed = seal(Kind::Layout, number, &bytes);
                table.insert(number, sealed.as_slice())?;
                number
            }
        };
        new.push(NewLayout {
            layout: layout.clone(),
            contents,
            number,
        });
        Ok(number)
    }
}

impl QueueReader {
    /// Chunks after a number, in order, until they hold so many samples or 4 MiB. One whose contents are damaged is a gap, of now.
    pub(super) fn read(
        &self,
        after: u64,
        most_samples: u64,
        now: WallNs,
    ) -> Result<Vec<Chunk>, OutboxError> {
        let read = self.database.begin_read()?;
        let (chunks, layouts) = (read.open_table(CHUNKS)?, read.open_table(LAYOUTS)?);
        let mut at_hand = self.layouts.lock();
        let mut layout = |number: u64| {
            if let Some(layout) = at_hand.get(&number) {
                return Some(layout.clone());
            }
            let sealed = layouts.get(number).ok()??;
            let bytes = unseal(Kind::Layout, number, sealed.value()).ok()?;
            let layout = Arc::new(codec::read_layout(bytes).ok()?);
            at_hand.insert(number, layout.clone());
            Some(layout)
        };
        let (mut all, mut samples, mut bytes) = (Vec::new(), 0, 0);
        for chunk in chunks.range(after.saturating_add(1)..)? {
            let (number, value) = chunk?;
            let (number, (held, _, sealed)) = (number.value(), value.value());
            let body = unseal(Kind::Chunk, number, sealed).map_err(|damage| damage.to_string());
            let entries = body.and_then(|body| {
                codec::read_chunk(body, &mut layout).map_err(|damage| damage.to_string())
            });
            let (entries, damaged) = entries
                .map(|entries| (entries, 0))
                .unwrap_or_else(|damage| {
                    tracing::error!(
                        number,
                        samples = held,
                        damage,
                        "a damaged part of an outbox is left out"
                    );
                    let gap = Gap {
                        messages: 1,
                        samples: held,
                        reason: GapReason::Damaged,
                        at: now,
                    };
                    (vec![Item::Gap(gap)], held)
                });
            samples += held;
            bytes += sealed.len();
            all.push(Chunk {
                number,
                entries,
                damaged,
            });
            if samples >= most_samples || bytes >= READ_BYTES {
                break;
            }
        }
        Ok(all)
    }

    /// What was accepted last and acknowledged last of each channel.
    pub(super) fn marks(&self) -> Result<Vec<Mark>, OutboxError> {
        let read = self.database.begin_read()?;
        let mut all = Vec::new();
        for entry in read.open_table(MARKS)?.iter()? {
            let (channel, mark) = entry?;
            let (epoch, sequence, acknowledged_epoch, acknowledged) = mark.value();
            all.push(Mark {
                channel: channel.value().to_owned(),
                accepted: (epoch, sequence),
                acknowledged: (acknowledged_epoch, acknowledged),
            });
        }
        Ok(all)
    }

    /// How long the oldest sample has been there, by the queue's own clock as it stood at the last change.
    pub(super) fn oldest(&self) -> Result<Option<Duration>, OutboxError> {
        let read = self.database.begin_read()?;
        let clock = read
            .open_table(COUNTS)?
            .get("clock")?
            .map_or(0, |clock| clock.value());
        let chunks = read.open_table(CHUNKS)?;
        for chunk in chunks.iter()? {
            let (samples, when, _) = chunk?.1.value();
            // A gap waits for nothing; two never follow each other for long.
            if samples > 0 {
                return Ok(Some(Duration::from_nanos(clock.saturating_sub(when))));
            }
        }
        Ok(None)
    }
}

/// The oldest chunk: its number, its samples and its bytes.
fn first(chunks: &Chunks<'_>) -> Result<Option<(u64, u64, u64)>, OutboxError> {
    let first = chunks.first()?;
    Ok(first.map(|(number, value)| {
        let (samples, _, sealed) = value.value();
        (number.value(), samples, sealed.len() as u64)
    }))
}

type Chunks<'t> = redb::Table<'t, u64, (u64, u64, &'static [u8])>;

fn insert(
    chunks: &mut Chunks<'_>,
    counts: &mut Counts,
    (number, when): (u64, u64),
    entries: &[u8],
    how_many: usize,
    samples: u64,
) -> Result<(), OutboxError> {
    let mut body = Vec::with_capacity(entries.len() + 4);
    codec::varint(&mut body, how_many as u64);
    body.extend_from_slice(entries);
    let sealed = seal(Kind::Chunk, number, &body);
    counts.samples += samples;
    counts.bytes += sealed.len() as u64;
    chunks.insert(number, (samples, when, sealed.as_slice()))?;
    Ok(())
}

fn insert_gap(
    chunks: &mut Chunks<'_>,
    counts: &mut Counts,
    place: (u64, u64),
    gap: Gap,
) -> Result<(), OutboxError> {
    let mut body = Vec::new();
    codec::write_gap_head(&mut body);
    codec::write_gap(&mut body, &gap);
    insert(chunks, counts, place, &body, 1, 0)
}

/// Drops the oldest chunks that are not with the sink, as long as `goes` says so of the bytes that are held and of when the oldest was
/// accepted; one gap stands in their place.
fn drop_chunks(
    chunks: &mut Chunks<'_>,
    counts: &mut Counts,
    change: &Change<'_>,
    reason: GapReason,
    goes: impl Fn(u64, u64) -> bool,
) -> Result<(), OutboxError> {
    let from = change
        .in_flight
        .max(change.acknowledged.until)
        .saturating_add(1);
    let mut gap = Gap {
        messages: 0,
        samples: 0,
        reason,
        at: change.now,
    };
    let mut place = None;
    // What an operator wants gone goes at once, however much it is.
    let most = match reason {
        GapReason::Purged => usize::MAX,
        _ => DROPPED_AT_ONCE,
    };
    for _ in 0..most {
        let found = {
            let mut range = chunks.range(from..)?;
            let mut first = range.next().transpose()?;
            // The gap that stands for those dropped just now.
            if first
                .as_ref()
                .is_some_and(|(number, _)| place.is_some_and(|(place, _)| place == number.value()))
            {
                first = range.next().transpose()?;
            }
            first.map(|(number, value)| {
                let (samples, when, sealed) = value.value();
                (
                    number.value(),
                    samples,
                    when,
                    sealed.len() as u64,
                    gap_of(number.value(), sealed),
                )
            })
        };
        let Some((number, samples, when, bytes, is_gap)) = found else {
            break;
        };
        if !goes(counts.bytes, when) {
            break;
        }
        // A gap is as good as none where nothing else goes with it: it stays.
        if is_gap.is_some()
            && gap.messages == 0
            && !follows_one_that_goes(chunks, number, counts, &goes)?
        {
            break;
        }
        chunks.remove(number)?;
        counts.gone(samples, bytes);
        match is_gap {
            Some(before) => {
                gap.messages += before.messages;
                gap.samples += before.samples;
            }
            None => {
                gap.messages += 1;
                gap.samples += samples;
                counts.dropped[reason as usize] += samples;
            }
        }
        place = Some((number, when));
    }
    // It is as old as what it stands for, so that it goes with what gets too old behind it.
    if let Some(place) = place {
        insert_gap(chunks, counts, place, gap)?;
    }
    Ok(())
}

/// Whether the chunk behind a gap goes too.
fn follows_one_that_goes(
    chunks: &Chunks<'_>,
    number: u64,
    counts: &Counts,
    goes: impl Fn(u64, u64) -> bool,
) -> Result<bool, OutboxError> {
    let mut range = chunks.range(number.saturating_add(1)..)?;
    let next = range.next().transpose()?;
    Ok(next.is_some_and(|(_, value)| goes(counts.bytes, value.value().1)))
}

/// Adds a gap to the one that stands at the end, if there is one that is not with the sink.
fn merge_into_last(
    chunks: &mut Chunks<'_>,
    counts: &mut Counts,
    gap: &Gap,
    change: &Change<'_>,
) -> Result<bool, OutboxError> {
    let last = chunks.last()?.and_then(|(number, value)| {
        let (_, _, sealed) = value.value();
        let before = gap_of(number.value(), sealed)?;
        let (_, when, _) = value.value();
        let place = (number.value(), when);
        (before.reason == gap.reason).then_some((place, sealed.len() as u64, before))
    });
    let Some((place, bytes, before)) = last else {
        return Ok(false);
    };
    if place.0 <= change.in_flight {
        return Ok(false);
    }
    let both = Gap {
        messages: before.messages + gap.messages,
        samples: before.samples + gap.samples,
        reason: gap.reason,
        at: before.at,
    };
    counts.gone(0, bytes);
    insert_gap(chunks, counts, place, both)?;
    Ok(true)
}

/// The gap that a chunk is, if it is nothing else.
fn gap_of(number: u64, sealed: &[u8]) -> Option<Gap> {
    // A gap is short.
    if sealed.len() > 64 {
        return None;
    }
    let body = unseal(Kind::Chunk, number, sealed).ok()?;
    match codec::read_chunk(body, &mut |_| None).ok()?.as_slice() {
        [Item::Gap(gap)] => Some(*gap),
        _ => None,
    }
}

type EpochAndSequence = (u64, u64);

fn mark(
    marks: &redb::Table<'_, &'static str, (u64, u64, u64, u64)>,
    channel: &str,
) -> Result<(EpochAndSequence, EpochAndSequence), OutboxError> {
    let found = marks.get(channel)?.map(|mark| mark.value());
    let (epoch, sequence, acknowledged_epoch, acknowledged) = found.unwrap_or_default();
    Ok(((epoch, sequence), (acknowledged_epoch, acknowledged)))
}

/// The last samples of channels in entries.
pub(super) fn marks_of<'e>(
    entries: impl Iterator<Item = &'e Item>,
) -> BTreeMap<Box<str>, (u64, u64)> {
    let mut marks = BTreeMap::new();
    for entry in entries {
        if let Item::Batch(batch) = entry {
            let last = (batch.epoch, batch.last_sequence());
            match marks.get_mut(batch.layout.channel.as_str()) {
                Some(mark) => *mark = last,
                None => {
                    marks.insert(batch.layout.channel.as_str().into(), last);
                }
            }
        }
    }
    marks
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many layouts a file has.
#[cfg(test)]
pub(super) fn stored_layouts(database: &Database) -> u64 {
    let read = database.begin_read().unwrap();
    read.open_table(LAYOUTS).unwrap().len().unwrap()
}

/// Changes the last byte of a chunk.
#[cfg(test)]
pub(super) fn damage(database: &Database, number: u64) {
    let write = database.begin_write().unwrap();
    {
        let mut chunks = write.open_table(CHUNKS).unwrap();
        let (samples, when, mut sealed) = {
            let found = chunks.get(number).unwrap().unwrap();
            let (samples, when, sealed) = found.value();
            (samples, when, sealed.to_vec())
        };
        *sealed.last_mut().unwrap() ^= 1;
        chunks
            .insert(number, (samples, when, sealed.as_slice()))
            .unwrap();
    }
    write.commit().unwrap();
}
