//! The recording of one incarnation, as it grows. Belongs to the channel's task; nobody else writes to it.

use super::budget::{Place, Recorder};
use super::header::Call;
use super::tape::{Block, Tail, Tape};
use crate::bindings::events::Event;
use crate::event::{MonotonicNs, WallNs};

/// How an incarnation began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Where its random numbers began.
    pub seed: u64,
    /// Its instantiation.
    pub start: Call,
    /// Its `configure`, if it came to that.
    pub configure: Option<Call>,
}

/// What one incarnation was given so far.
#[derive(Debug)]
pub struct Recording {
    /// How it began.
    pub opening: Opening,
    /// Set when the driver was asked to stop so that the next recording begins.
    pub recycling: bool,
    limit: usize,
    block: usize,
    tail: Tail,
    noted: usize,
    events: u64,
    place: Place,
}

impl Recording {
    /// An empty one, of at most `limit` bytes.
    pub fn new(recorder: &Recorder, limit: usize) -> Self {
        Self {
            opening: Opening::default(),
            recycling: false,
            limit,
            // Several fit, so that what must go is a part of the recording and not all of it.
            block: recorder.block().min(limit / 8),
            tail: Tail::default(),
            noted: 0,
            events: 0,
            place: recorder.place(),
        }
    }

    /// A turn is about to be taken.
    pub fn turn(&mut self, now: (MonotonicNs, WallNs), events: &[Event]) {
        self.seal_if_full();
        self.tail.turn(now, events.len());
        for event in events {
            self.tail.event(event, now.0);
            self.seal_if_full();
        }
        self.events += events.len() as u64;
        if self.tail.capacity() != self.noted {
            self.note();
        }
    }

    /// It returned, with so many actions.
    pub fn done(&mut self, fuel: u64, actions: usize) {
        self.tail.done(fuel, actions);
    }

    fn seal_if_full(&mut self) {
        if self.tail.len() >= self.block {
            let block = self.tail.seal(self.block * 2);
            self.note();
            self.place.push(block, self.limit);
        }
    }

    fn note(&mut self) {
        self.noted = self.tail.capacity();
        self.place.tail(self.noted);
    }

    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.place.bytes()
    }

    /// Whether the next full block could cost an older one.
    pub fn is_nearly_full(&self) -> bool {
        self.place.bytes() + self.block + size_of::<Block>() > self.limit
    }

    /// Turns that were recorded.
    pub fn turns(&self) -> u64 {
        self.tail.turns()
    }

    /// Events that were recorded.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Ends it.
    pub fn into_tape(mut self) -> Tape {
        let last = (self.tail.len() > 0).then(|| self.tail.seal(0));
        let mut tape = self.place.tape();
        tape.blocks.extend(last);
        tape
    }
}
