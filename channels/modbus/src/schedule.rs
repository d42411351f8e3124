//! The requests of a group, made once when the configuration comes.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_sdk::{Quality, Sample, TagId};

use crate::address::Table;
use crate::layout::Layout;
use crate::pdu::Ask;
use crate::plan::Block;
use crate::site::{Place, Site};
use crate::value::{Codec, Unreadable};

/// What a cycle asks for, by unit.
#[derive(Debug)]
pub struct Schedule {
    /// One for each unit that has a tag here; those of one line follow each other.
    pub rounds: Vec<Round>,
}

/// What a cycle asks of one unit.
#[derive(Debug)]
pub struct Round {
    /// An index into the units of the site.
    pub unit: usize,
    /// Its line.
    pub line: usize,
    /// One for each table that has a tag here.
    pub areas: Vec<Area>,
}

/// The tags of one table of one unit.
#[derive(Debug)]
pub struct Area {
    table: Table,
    /// Sorted as the spans of the layout are.
    slots: Vec<Slot>,
    /// Which of them held no value of their type when they were last read.
    unreadable: BTreeSet<usize>,
    /// The requests, and what was learnt about them.
    pub layout: Layout,
}

/// One tag.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: TagId,
    start: u16,
    codec: Codec,
}

impl Schedule {
    /// The fewest requests that read these tags. Tags that the site does not know are left out.
    pub fn new(site: &Site, tags: &[TagId]) -> Self {
        let mut sorted: BTreeMap<usize, BTreeMap<Table, Vec<&Place>>> = BTreeMap::new();
        for tag in tags {
            if let Some(place) = site.tag(*tag) {
                sorted
                    .entry(place.unit)
                    .or_default()
                    .entry(place.point.table)
                    .or_default()
                    .push(place);
            }
        }
        let mut rounds: Vec<Round> = sorted
            .into_iter()
            .map(|(unit, tables)| Round {
                unit,
                line: site.units[unit].line,
                areas: tables
                    .into_iter()
                    .map(|(table, tags)| Area::new(site, table, tags))
                    .collect(),
            })
            .collect();
        rounds.sort_by_key(|round| round.line);
        Self { rounds }
    }

    /// Whether all its units are reached over the same line, if there are any.
    pub fn has_one_line(&self) -> bool {
        let first = self.rounds.first().map(|round| round.line);
        first == self.rounds.last().map(|round| round.line)
    }

    /// The rounds of each line.
    pub fn lines(&mut self) -> impl Iterator<Item = &mut [Round]> {
        self.rounds
            .chunk_by_mut(|round, next| round.line == next.line)
    }
}

impl Area {
    fn new(site: &Site, table: Table, mut tags: Vec<&Place>) -> Self {
        tags.sort_by_key(|tag| (tag.point.span.start, tag.point.span.count));
        let slots = tags.iter().map(|tag| Slot {
            tag: tag.id,
            start: tag.point.span.start,
            codec: tag.point.codec,
        });
        let slots = slots.collect();
        let limits = if table.is_bits() {
            site.limits.bits
        } else {
            site.limits.registers
        };
        Self {
            table,
            slots,
            unreadable: BTreeSet::new(),
            layout: Layout::new(tags.iter().map(|tag| tag.point.span).collect(), limits),
        }
    }

    /// The request that reads a block.
    pub fn ask(&self, block: Block) -> Ask {
        Ask::Read {
            table: self.table,
            start: block.start,
            count: block.count,
        }
    }

    /// The tag of one span.
    pub fn tag(&self, index: usize) -> TagId {
        self.slots[index].tag
    }

    /// The samples that the answer to a block gives. `tell` is called for a tag whose bytes are no value of its type, and were
    /// when it was last read.
    pub fn samples(
        &mut self,
        block: Block,
        data: &[u8],
        mut tell: impl FnMut(TagId, Unreadable),
    ) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(block.spans);
        for index in block.first..block.first + block.spans {
            let slot = &self.slots[index];
            let offset = usize::from(slot.start - block.start);
            let (value, quality) = match slot.codec.decode(data, offset) {
                Ok(value) => {
                    if !self.unreadable.is_empty() {
                        self.unreadable.remove(&index);
                    }
                    (Some(value), Quality::Good)
                }
                Err(unreadable) => {
                    if self.unreadable.insert(index) {
                        tell(slot.tag, unreadable);
                    }
                    (None, unreadable.quality())
                }
            };
            samples.push(Sample {
                tag: slot.tag,
                value,
                quality,
                source_time_ns: None,
            });
        }
        samples
    }

    /// The samples of spans that could not be read.
    pub fn bad(
        &self,
        first: usize,
        spans: usize,
        quality: Quality,
    ) -> impl Iterator<Item = Sample> {
        self.slots[first..first + spans]
            .iter()
            .map(move |slot| Sample {
                tag: slot.tag,
                value: None,
                quality,
                source_time_ns: None,
            })
    }
}
