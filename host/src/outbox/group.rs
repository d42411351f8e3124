//! What waits to be committed, as it goes to the disk.
//!
//! A batch is written down when it is taken from the bus, and let go of: its samples are read once, while they are at hand, and what
//! waits takes a tenth of the memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::codec;
use crate::event::{Gap, GapReason, Item, Layout, WallNs};

/// What one commit may hold, in bytes as they go to the disk; beyond it the bus waits in its queue.
const MOST_BYTES: usize = 1024 * 1024;
/// The same in batches and gaps, each of which takes some 50 bytes more in memory.
const MOST_ENTRIES: usize = 65_536;
/// What stays reserved for the next items, in bytes.
const KEPT: usize = 2 * 1024 * 1024;

/// Items in their order.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Of all entries, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where its bytes end.
    end: usize,
    samples: u64,
    of: Of,
}

/// What an entry is, as far as it matters before it is read again.
#[derive(Debug)]
pub(super) enum Of {
    /// A batch of this layout, whose last sample has this epoch and sequence.
    Batch {
        layout: Arc<Layout>,
        last: (u64, u64),
    },
    Gap(Gap),
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'g> {
    /// What `codec` puts behind the entry's head.
    pub(super) bytes: &'g [u8],
    pub(super) samples: u64,
    pub(super) of: &'g Of,
}

static EMPTY: Group = Group {
    bytes: Vec::new(),
    entries: Vec::new(),
};

impl Default for &Group {
    fn default() -> Self {
        &EMPTY
    }
}

impl Group {
    /// Adds an item.
    pub(super) fn push(&mut self, item: &Item) {
        let of = match item {
            Item::Batch(batch) => {
                codec::write_batch(&mut self.bytes, batch);
                Of::Batch {
                    layout: batch.layout.clone(),
                    last: (batch.epoch, batch.last_sequence()),
                }
            }
            Item::Gap(gap) => {
                codec::write_gap(&mut self.bytes, gap);
                Of::Gap(*gap)
            }
        };
        self.entries.push(Entry {
            end: self.bytes.len(),
            samples: item.samples(),
            of,
        });
    }

    /// How full it is, from 0 to 1 and beyond: its bytes as they go to the disk, or how many entries it has.
    pub(super) fn fullness(&self) -> f64 {
        let bytes = self.bytes.len() as f64 / MOST_BYTES as f64;
        bytes.max(self.entries.len() as f64 / MOST_ENTRIES as f64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.entries.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Written<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let bytes = &self.bytes[start..entry.end];
            start = entry.end;
            Written {
                bytes,
                samples: entry.samples,
                of: &entry.of,
            }
        })
    }

    /// All its samples.
    pub(super) fn samples(&self) -> u64 {
        self.entries.iter().map(|entry| entry.samples).sum()
    }

    /// The gap that it is, if it is nothing else.
    pub(super) fn only_gap(&self) -> Option<&Gap> {
        match self.entries.as_slice() {
            [
                Entry {
                    of: Of::Gap(gap), ..
                },
            ] => Some(gap),
            _ => None,
        }
    }

    /// The last samples of channels in it.
    pub(super) fn marks(&self) -> BTreeMap<Box<str>, (u64, u64)> {
        let mut marks: BTreeMap<Box<str>, (u64, u64)> = BTreeMap::new();
        for entry in &self.entries {
            let Of::Batch { layout, last } = &entry.of else {
                continue;
            };
            let channel = layout.channel.as_str();
            match marks.get_mut(channel) {
                Some(mark) => *mark = *last,
                None => {
                    marks.insert(channel.into(), *last);
                }
            }
        }
        marks
    }

    /// What it amounts to where none of it is accepted.
    pub(super) fn missing(&self, reason: GapReason, at: WallNs) -> Gap {
        let mut gap = Gap {
            messages: 0,
            samples: 0,
            reason,
            at,
        };
        for entry in &self.entries {
            let (messages, samples) = match &entry.of {
                Of::Batch { .. } => (1, entry.samples),
                Of::Gap(other) => (other.messages, other.samples),
            };
            gap.messages += messages;
            gap.samples += samples;
        }
        gap
    }
}

impl<'i> FromIterator<&'i Item> for Group {
    fn from_iter<I: IntoIterator<Item = &'i Item>>(items: I) -> Self {
        let mut group = Self::default();
        items.into_iter().for_each(|item| group.push(item));
        group
    }
}
