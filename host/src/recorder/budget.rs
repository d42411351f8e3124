//! What all recordings of a host may hold together, and who gives way when that is spent.
//!
//! The rule: *the largest gives way.* A recording may grow to its channel's size as long as the host's budget is not
//! spent. When it is, the recordings that hold the most lose their oldest blocks (the very first one stays, since it tells
//! how the incarnation began) until a sixteenth of the budget is free again. So a channel that needs little keeps all of its
//! recording, whatever the others do, and those that need much share what is left equally.
//!
//! The block that a channel is writing is not packed yet and cannot be taken from it; blocks are therefore the smaller the more
//! channels there are, so that the blocks under way fill half of the budget at most (down to 1 KiB each).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::tape::{Block, Tape};

/// The largest block, before packing.
const MAX_BLOCK: usize = 16 * 1024;
/// The smallest.
const MIN_BLOCK: usize = 1024;

/// The recorder of a host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    budget: usize,
    block: usize,
    used: AtomicUsize,
    next: AtomicU64,
    shelves: Mutex<HashMap<u64, Arc<Shelf>>>,
}

/// The packed blocks of one recording, where the recorder can reach them.
#[derive(Debug, Default)]
struct Shelf {
    bytes: AtomicUsize,
    blocks: Mutex<VecDeque<Block>>,
}

impl Shelf {
    /// Drops blocks until this much is free: from the middle, oldest first; then the very first, which tells how it began;
    /// at last the newest. Gives what was freed.
    fn shed(&self, enough: usize) -> usize {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = 0;
        while freed < enough {
            let place = usize::from(blocks.len() > 2);
            let Some(block) = blocks.remove(place) else {
                break;
            };
            freed += block.bytes();
        }
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

impl Recorder {
    /// For so many channels, which may hold so many bytes together.
    pub fn new(budget: usize, channels: usize) -> Self {
        let share = budget / 2 / channels.max(1);
        Self {
            inner: Arc::new(Inner {
                budget,
                block: share.clamp(MIN_BLOCK, MAX_BLOCK),
                used: AtomicUsize::new(0),
                next: AtomicU64::new(0),
                shelves: Mutex::default(),
            }),
        }
    }

    /// What all recordings hold now, in bytes.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    pub(super) fn block(&self) -> usize {
        self.inner.block
    }

    /// A place for one recording.
    pub(super) fn place(&self) -> Place {
        let shelf = Arc::new(Shelf::default());
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.shelves().insert(number, shelf.clone());
        Place {
            recorder: self.clone(),
            number,
            shelf,
            tail: 0,
        }
    }

    fn shelves(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Shelf>>> {
        self.inner
            .shelves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: usize) {
        let used = self.inner.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.inner.budget {
            self.make_room();
        }
    }

    fn free(&self, bytes: usize) {
        self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes from the largest until a sixteenth is free.
    fn make_room(&self) {
        let shelves = self.shelves();
        let goal = self.inner.budget - self.inner.budget / 16;
        let mut by_size: Vec<&Arc<Shelf>> = shelves.values().collect();
        by_size.sort_by_key(|shelf| std::cmp::Reverse(shelf.bytes.load(Ordering::Relaxed)));
        // The level to which the largest are cut, so that what is over it adds up to what is missing.
        let mut missing = self.used().saturating_sub(goal);
        let sizes: Vec<usize> = by_size
            .iter()
            .map(|shelf| shelf.bytes.load(Ordering::Relaxed))
            .collect();
        let level = level(&sizes, missing);
        for (shelf, size) in by_size.iter().zip(sizes) {
            if missing == 0 || size <= level {
                break;
            }
            let freed = shelf.shed(size - level);
            self.free(freed);
            missing = missing.saturating_sub(freed);
        }
    }
}

/// The level to which the largest of these (in falling order) must be cut to free so much.
fn level(sizes: &[usize], missing: usize) -> usize {
    let mut sum = 0usize;
    for (index, size) in sizes.iter().enumerate() {
        sum = sum.saturating_add(*size);
        let next = sizes.get(index + 1).copied().unwrap_or(0);
        let over_next = sum.saturating_sub(next.saturating_mul(index + 1));
        if over_next >= missing {
            return sum.saturating_sub(missing) / (index + 1);
        }
    }
    0
}

/// Where one recording stands in its host's budget. Gives everything back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    recorder: Recorder,
    number: u64,
    shelf: Arc<Shelf>,
    /// What the block under way holds.
    tail: usize,
}

impl Place {
    /// What the recording holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.shelf.bytes.load(Ordering::Relaxed) + self.tail
    }

    /// The block under way takes so much memory now.
    pub(super) fn tail(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.tail, bytes);
        if bytes > before {
            self.recorder.add(bytes - before);
        } else {
            self.recorder.free(before - bytes);
        }
    }

    /// A block is full. Older ones go where the recording would hold more than `limit`.
    pub(super) fn push(&mut self, block: Block, limit: usize) {
        let bytes = block.bytes();
        let mut blocks = self
            .shelf
            .blocks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        blocks.push_back(block);
        // Counted before anybody can take it away.
        self.shelf.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.recorder.inner.used.fetch_add(bytes, Ordering::Relaxed);
        drop(blocks);
        let over = self.bytes().saturating_sub(limit);
        if over > 0 {
            let freed = self.shelf.shed(over);
            self.recorder.free(freed);
        }
        self.recorder.add(0);
    }

    /// What was recorded, without what is under way.
    pub(super) fn tape(&self) -> Tape {
        let blocks = self
            .shelf
            .blocks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Tape {
            blocks: blocks.iter().cloned().collect(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Out of reach first, so that nothing is shed and given back twice.
        self.recorder.shelves().remove(&self.number);
        self.recorder.free(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(sequence: u64, bytes: usize) -> Block {
        Block {
            packed: vec![0; bytes].into(),
            plain: 0,
            sequence,
            turns_before: 0,
            entry: None,
        }
    }

    fn sequences(place: &Place) -> Vec<u64> {
        let tape = place.tape();
        tape.blocks.iter().map(|block| block.sequence).collect()
    }

    #[test]
    fn a_recording_over_its_size_loses_its_middle() {
        let recorder = Recorder::new(1 << 20, 1);
        let mut place = recorder.place();
        for sequence in 0..100 {
            place.push(block(sequence, 1000), 8000);
        }
        assert!(place.bytes() <= 8000, "{}", place.bytes());
        let kept = sequences(&place);
        assert_eq!(kept.first(), Some(&0), "how it began");
        assert_eq!(kept.last(), Some(&99));
        assert!(kept.len() >= 6, "{kept:?}");
        assert!(kept[1..].is_sorted_by(|a, b| a + 1 == *b), "{kept:?}");
        place.push(block(100, 7900), 8000);
        assert_eq!(sequences(&place), [100], "too large beside anything");
        place.push(block(101, 9000), 8000);
        assert_eq!(sequences(&place), [0; 0], "too large for this channel");
        drop(place);
        assert_eq!(recorder.used(), 0);
    }

    #[test]
    fn when_the_budget_is_spent_the_largest_give_way_and_the_small_keep_all() {
        let recorder = Recorder::new(100_000, 8);
        let mut small: Vec<Place> = (0..4).map(|_| recorder.place()).collect();
        for place in &mut small {
            (0..5).for_each(|sequence| place.push(block(sequence, 500), 1 << 20));
        }
        let mut large: Vec<Place> = (0..4).map(|_| recorder.place()).collect();
        for sequence in 0..200 {
            for place in &mut large {
                place.push(block(sequence, 500), 1 << 20);
                assert!(recorder.used() <= 100_000, "{}", recorder.used());
            }
        }
        for place in &small {
            assert_eq!(sequences(place), [0, 1, 2, 3, 4]);
        }
        let sizes: Vec<usize> = large.iter().map(Place::bytes).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least < 8_000, "shared equally: {sizes:?}");
        drop((small, large));
        assert_eq!(recorder.used(), 0);
    }

    #[test]
    fn a_level_frees_what_is_missing() {
        assert_eq!(level(&[100, 50, 10], 30), 70);
        assert_eq!(level(&[100, 50, 10], 70), 40);
        assert_eq!(level(&[100, 50, 10], 1000), 0);
        assert_eq!(level(&[], 1), 0);
    }

    #[test]
    fn many_channels_have_small_blocks() {
        assert_eq!(Recorder::new(16 << 20, 1).block(), MAX_BLOCK);
        assert_eq!(Recorder::new(16 << 20, 1000).block(), 8388);
        assert_eq!(Recorder::new(16 << 20, 10_000).block(), MIN_BLOCK);
    }
}
