//! Turns of events in blocks, each of which can be read without those before it.
//!
//! ```text
//! block   = record*                              packed with LZ4; moments begin anew in each
//! record  = 1 now wall count event{count}        a turn; its events may go on in the next block
//!         | 2 fuel actions                       what that turn used, and how much it asked for
//! ```
//!
//! `now` and `wall - now` are told from those of the turn before. A turn without the second record is the one that never
//! returned. Where blocks were lost, reading goes on with the first turn that begins after the gap.

use super::bytes::{Malformed, Reader, put_from, put_u64};
use super::events::{put_event, read_event};
use crate::bindings::events::Event;
use crate::event::{MonotonicNs, WallNs};

const TURN: u8 = 1;
const DONE: u8 = 2;

/// The most events that one turn can have.
const MAX_EVENTS: u64 = 256;
/// The most plain bytes in one block: a full one, and one event more of the largest kind (a saved state of 1 MiB).
pub(super) const MAX_BLOCK: usize = 4 * 1024 * 1024;

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block} of the recording has {malformed}")]
pub struct TapeError {
    /// Counted from 0.
    block: usize,
    malformed: Malformed,
}

/// A part of a tape, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) packed: Box<[u8]>,
    pub(super) plain: u32,
    /// Its number, counted from 0 over blocks that were lost too.
    pub(super) sequence: u64,
    /// Turns that began before it.
    pub(super) turns_before: u64,
    /// Where the first turn begins in it, if one does.
    pub(super) entry: Option<u32>,
}

impl Block {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.packed.len() + size_of::<Self>()
    }

    fn unpack(&self) -> Result<Vec<u8>, Malformed> {
        let malformed = |what| Malformed { what, at: 0 };
        let plain = usize::try_from(self.plain).unwrap_or(usize::MAX);
        if plain > MAX_BLOCK {
            return Err(malformed("more in it than a block may hold"));
        }
        let mut bytes = vec![0; plain];
        match lz4_flex::block::decompress_into(&self.packed, &mut bytes) {
            Ok(count) if count == plain => Ok(bytes),
            Ok(_) | Err(_) => Err(malformed("packing that cannot be undone")),
        }
    }
}

/// The block that is being written.
#[derive(Debug, Default)]
pub(super) struct Tail {
    plain: Vec<u8>,
    sequence: u64,
    /// Turns that have begun, in this block and before it.
    turns: u64,
    turns_before: u64,
    entry: Option<u32>,
    now: u64,
    offset: u64,
}

impl Tail {
    pub(super) fn len(&self) -> usize {
        self.plain.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.plain.capacity()
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    /// A turn begins, with so many events.
    pub(super) fn turn(&mut self, (now, wall): (MonotonicNs, WallNs), events: usize) {
        if self.entry.is_none() {
            self.entry = u32::try_from(self.plain.len()).ok();
        }
        self.turns += 1;
        let offset = wall.0.wrapping_sub(now.0);
        self.plain.push(TURN);
        put_from(&mut self.plain, now.0, self.now);
        put_from(&mut self.plain, offset, self.offset);
        put_u64(&mut self.plain, events as u64);
        (self.now, self.offset) = (now.0, offset);
    }

    /// One of its events.
    pub(super) fn event(&mut self, event: &Event, now: MonotonicNs) {
        put_event(&mut self.plain, event, now.0);
    }

    /// It returned.
    pub(super) fn done(&mut self, fuel: u64, actions: usize) {
        self.plain.push(DONE);
        put_u64(&mut self.plain, fuel);
        put_u64(&mut self.plain, actions as u64);
    }

    /// Packs what there is, and begins the next block. `keep`: how much memory that one may begin with.
    pub(super) fn seal(&mut self, keep: usize) -> Block {
        let packed = lz4_flex::block::compress(&self.plain).into_boxed_slice();
        let block = Block {
            packed,
            plain: u32::try_from(self.plain.len()).unwrap_or(u32::MAX),
            sequence: self.sequence,
            turns_before: self.turns_before,
            entry: self.entry,
        };
        self.plain.clear();
        self.plain.shrink_to(keep);
        self.sequence += 1;
        self.turns_before = self.turns;
        (self.entry, self.now, self.offset) = (None, 0, 0);
        block
    }
}

/// A tape that is not written any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    pub(super) blocks: Vec<Block>,
}

/// One turn of a tape.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Counted from 1 since the incarnation began, lost ones included.
    pub number: u64,
    /// When it was taken.
    pub now: (MonotonicNs, WallNs),
    /// What the driver was given.
    pub events: Vec<Event>,
    /// The fuel that it used and the number of its actions; `None` if it never returned.
    pub done: Option<(u64, u64)>,
}

impl Tape {
    /// Every turn that can be read, in order.
    pub fn turns(&self) -> Turns<'_> {
        Turns {
            tape: self,
            next: 0,
            plain: Vec::new(),
            at: 0,
            now: 0,
            offset: 0,
            begun: 0,
            held: None,
            failed: false,
        }
    }

    /// Whether no block is missing.
    pub fn is_whole(&self) -> bool {
        (0u64..)
            .zip(&self.blocks)
            .all(|(place, block)| block.sequence == place)
    }

    /// The same, with the plain bytes of each block changed. Their number stays.
    pub(super) fn map(&self, change: impl Fn(&mut [u8])) -> Result<Tape, TapeError> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let mut plain = block.unpack().map_err(|malformed| TapeError {
                block: index,
                malformed,
            })?;
            change(&mut plain);
            blocks.push(Block {
                packed: lz4_flex::block::compress(&plain).into_boxed_slice(),
                ..block.clone()
            });
        }
        Ok(Tape { blocks })
    }
}

/// See [`Tape::turns`]. Ends with the first fault.
pub struct Turns<'a> {
    tape: &'a Tape,
    /// The next block.
    next: usize,
    plain: Vec<u8>,
    at: usize,
    now: u64,
    offset: u64,
    begun: u64,
    /// A turn that was read, while it is not known yet whether it returned.
    held: Option<Turn>,
    failed: bool,
}

impl Turns<'_> {
    fn fail(&mut self, malformed: Malformed) -> TapeError {
        self.failed = true;
        TapeError {
            block: self.next.saturating_sub(1),
            malformed,
        }
    }

    /// Goes on to the next block, if the present one is used up. False at the end of the tape. A turn whose rest was lost
    /// is given up.
    fn advance(&mut self, open: &mut Option<(Turn, u64)>) -> Result<bool, TapeError> {
        while self.at >= self.plain.len() {
            let Some(block) = self.tape.blocks.get(self.next) else {
                return Ok(false);
            };
            let contiguous = match self
                .next
                .checked_sub(1)
                .and_then(|last| self.tape.blocks.get(last))
            {
                None => block.sequence == 0,
                Some(last) => block.sequence == last.sequence.wrapping_add(1),
            };
            self.next += 1;
            let plain = block.unpack();
            self.plain = plain.map_err(|malformed| self.fail(malformed))?;
            self.at = 0;
            (self.now, self.offset) = (0, 0);
            if !contiguous {
                *open = None;
                self.begun = block.turns_before;
                self.at = match block.entry {
                    Some(entry) => usize::try_from(entry).unwrap_or(usize::MAX),
                    None => self.plain.len(),
                };
            }
        }
        Ok(true)
    }

    /// Reads records until a turn is known whole.
    fn read(&mut self) -> Result<Option<Turn>, TapeError> {
        let mut open: Option<(Turn, u64)> = None;
        loop {
            if !self.advance(&mut open)? {
                // The last one; one that lacks events was cut off with the tape.
                return Ok(self
                    .held
                    .take()
                    .or(open.filter(|(_, left)| *left == 0).map(|(turn, _)| turn)));
            }
            let plain = std::mem::take(&mut self.plain);
            let step = self.step(&plain, &mut open);
            self.plain = plain;
            if let Some(turn) = step.map_err(|malformed| self.fail(malformed))? {
                return Ok(Some(turn));
            }
        }
    }

    /// Reads one record, or one event of a turn.
    fn step(
        &mut self,
        plain: &[u8],
        open: &mut Option<(Turn, u64)>,
    ) -> Result<Option<Turn>, Malformed> {
        let mut reader = Reader::new(plain);
        reader.take(self.at)?;
        if let Some((turn, left)) = open
            && *left > 0
        {
            turn.events.push(read_event(&mut reader, turn.now.0.0)?);
            *left -= 1;
            self.at = reader.at();
            if *left == 0 {
                self.held = open.take().map(|(turn, _)| turn);
            }
            return Ok(None);
        }
        let before = reader;
        let mut ready = None;
        match reader.byte()? {
            TURN => {
                if let Some(held) = self.held.take() {
                    // Without its end: that stood in a block that was lost. This record is read again.
                    return Ok(Some(held));
                }
                let now = reader.from(self.now)?;
                let offset = reader.from(self.offset)?;
                let count = reader.u64()?;
                if count > MAX_EVENTS {
                    return Err(before.malformed("a turn of too many events"));
                }
                (self.now, self.offset) = (now, offset);
                self.begun = self.begun.saturating_add(1);
                let turn = Turn {
                    number: self.begun,
                    now: (MonotonicNs(now), WallNs(now.wrapping_add(offset))),
                    events: Vec::new(),
                    done: None,
                };
                if count == 0 {
                    self.held = Some(turn);
                } else {
                    *open = Some((turn, count));
                }
            }
            DONE => {
                let done = (reader.u64()?, reader.u64()?);
                // After a gap the end of a turn may stand alone.
                ready = self.held.take().map(|turn| Turn {
                    done: Some(done),
                    ..turn
                });
            }
            _ => return Err(before.malformed("a record that this version does not know")),
        }
        self.at = reader.at();
        Ok(ready)
    }
}

impl Iterator for Turns<'_> {
    type Item = Result<Turn, TapeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.read().transpose()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recorder::events::tests::every_kind;

    /// So many turns, sealed after each so many bytes.
    pub(in crate::recorder) fn tape(turns: u64, block: usize) -> Tape {
        let mut tail = Tail::default();
        let mut blocks = Vec::new();
        let events = every_kind();
        for number in 1..=turns {
            let now = MonotonicNs(1000 + number * 1_000_000);
            let from = (number as usize * 7) % events.len();
            let some = &events[from..(from + 5).min(events.len())];
            tail.turn((now, WallNs(now.0 + 1_700_000_000_000_000_000)), some.len());
            for event in some {
                tail.event(event, now);
                if tail.len() >= block {
                    blocks.push(tail.seal(64));
                }
            }
            if number < turns {
                tail.done(number * 100, number as usize);
            }
        }
        if tail.len() > 0 {
            blocks.push(tail.seal(64));
        }
        Tape { blocks }
    }

    fn numbers(tape: &Tape) -> Vec<u64> {
        tape.turns().map(|turn| turn.unwrap().number).collect()
    }

    #[test]
    fn turns_come_back_whole_however_they_are_cut_into_blocks() {
        let whole = tape(200, usize::MAX);
        assert_eq!(whole.blocks.len(), 1);
        let expected: Vec<Turn> = whole.turns().map(Result::unwrap).collect();
        assert_eq!(expected.len(), 200);
        assert_eq!(expected[6].done, Some((700, 7)));
        assert_eq!(expected[199].done, None, "the last never returned");
        for block in [1, 10, 64, 333, 4096] {
            let cut = tape(200, block);
            assert!(cut.blocks.len() > 4 && cut.is_whole(), "{block}");
            let turns: Vec<Turn> = cut.turns().map(Result::unwrap).collect();
            assert_eq!(format!("{turns:?}"), format!("{expected:?}"), "{block}");
        }
    }

    #[test]
    fn after_a_gap_reading_goes_on_with_the_next_turn() {
        let all = tape(100, 300);
        let mut cut = all.clone();
        cut.blocks.drain(2..6);
        assert!(all.is_whole() && !cut.is_whole());
        let (all_turns, left) = (numbers(&all), numbers(&cut));
        assert_eq!(all_turns, (1..=100).collect::<Vec<u64>>());
        assert!(left.len() < 100 && left.last() == Some(&100), "{left:?}");
        assert!(left.is_sorted_by(|a, b| a < b), "{left:?}");
        let whole: Vec<Turn> = all.turns().map(Result::unwrap).collect();
        for turn in cut.turns().map(Result::unwrap) {
            let same = &whole[turn.number as usize - 1];
            assert_eq!(format!("{:?}", turn.events), format!("{:?}", same.events));
            assert_eq!(turn.now, same.now);
        }
    }

    #[test]
    fn damage_is_a_fault_and_never_a_panic() {
        let whole = tape(50, 400);
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut hurt = whole.clone();
            let place = random.usize(..hurt.blocks.len());
            let block = &mut hurt.blocks[place];
            match random.u8(..4) {
                0 => block.plain = random.u32(..),
                1 => block.entry = Some(random.u32(..)),
                2 => block.turns_before = random.u64(..),
                _ => {
                    let at = random.usize(..block.packed.len());
                    block.packed[at] ^= random.u8(1..);
                }
            }
            if random.bool() {
                hurt.blocks.remove(random.usize(..hurt.blocks.len()));
            }
            for turn in hurt.turns() {
                drop(turn);
            }
        }
        let huge = Block {
            plain: u32::MAX,
            ..whole.blocks[0].clone()
        };
        let error = Tape { blocks: vec![huge] }.turns().next().unwrap();
        assert!(error.unwrap_err().to_string().contains("block 0"));
    }
}
