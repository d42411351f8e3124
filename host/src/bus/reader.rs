//! A consumer that reads the backlog at its own pace, from any place that it still goes back to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, Message, Place};

/// Messages that are taken out of the backlog with one lock.
const PIECE: usize = 64;

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The next message, and its number.
    Message(u64, Message),
    /// What stood here was gone before it was read.
    Gap {
        /// How many messages: batches and events, of all channels.
        messages: u64,
        /// How many samples were in them, where that is known: not for those that were gone before the reader came back.
        samples: Option<u64>,
        /// The number of the last of them.
        until: u64,
    },
}

/// One reader.
pub struct Reader {
    bus: Arc<Inner>,
    /// The last message that was taken out of the backlog, or announced as missed; and the samples up to there, where they are
    /// known.
    number: u64,
    samples: Option<u64>,
    /// Taken out of the backlog, not given out yet.
    taken: VecDeque<(Place, Message)>,
}

impl Reader {
    pub(super) fn new(bus: Arc<Inner>, number: u64, samples: Option<u64>) -> Self {
        bus.readers.fetch_add(1, Ordering::Relaxed);
        Self {
            bus,
            number,
            samples,
            taken: VecDeque::new(),
        }
    }

    /// The number of the message after which comes what [`Reader::next`] gives.
    pub fn place(&self) -> u64 {
        match self.taken.front() {
            Some((place, _)) => place.messages.saturating_sub(1),
            None => self.number,
        }
    }

    /// Whether something between its place and the newest message is gone already.
    pub fn has_missed(&self) -> bool {
        let state = self.bus.lock();
        let begin = state.backlog.as_ref().map(|backlog| backlog.begin());
        begin.is_some_and(|begin| begin.messages > self.number)
    }

    /// What comes next, now or later. Nothing is lost where this is dropped before its end.
    pub async fn next(&mut self) -> Heard {
        loop {
            if let Some((place, message)) = self.taken.pop_front() {
                return Heard::Message(place.messages, message);
            }
            // Before the look, so that what comes after it is noticed.
            let bus = self.bus.clone();
            let news = bus.news.notified();
            if let Some(gap) = self.take() {
                return gap;
            }
            if self.taken.is_empty() {
                news.await;
            }
        }
    }

    /// Takes the next piece out of the backlog. Gives the gap before it instead, where there is one.
    fn take(&mut self) -> Option<Heard> {
        let state = self.bus.lock();
        // There is one from the first reader on.
        let backlog = state.backlog.as_ref()?;
        let begin = backlog.begin();
        if begin.messages > self.number {
            let messages = begin.messages - self.number;
            let samples = self
                .samples
                .map(|samples| begin.samples.saturating_sub(samples));
            (self.number, self.samples) = (begin.messages, Some(begin.samples));
            drop(state);
            self.bus
                .missed_messages
                .fetch_add(messages, Ordering::Relaxed);
            self.bus
                .missed_samples
                .fetch_add(samples.unwrap_or(0), Ordering::Relaxed);
            return Some(Heard::Gap {
                messages,
                samples,
                until: begin.messages,
            });
        }
        let piece = backlog.after(self.number).take(PIECE);
        self.taken
            .extend(piece.map(|(place, message)| (place, message.clone())));
        if let Some((place, _)) = self.taken.back() {
            (self.number, self.samples) = (place.messages, Some(place.samples));
        }
        None
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.bus.readers.fetch_sub(1, Ordering::Relaxed);
    }
}
