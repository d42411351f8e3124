//! The newest messages, for readers that were away or are slow. Pure.

use std::collections::VecDeque;

use super::{Message, Place};
use crate::limits::{BACKLOG_BYTES, BACKLOG_MESSAGES, BACKLOG_SAMPLES};

/// The newest messages, without a hole, within three bounds.
pub(super) struct Backlog {
    /// Before the oldest message.
    begin: Place,
    /// Behind the newest message.
    end: Place,
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    /// Behind the message.
    place: Place,
    bytes: usize,
    message: Message,
}

impl Backlog {
    /// One that begins behind this place.
    pub(super) fn new(begin: Place) -> Self {
        Self {
            begin,
            end: begin,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes in the next message, of about so many bytes; `place` is the one behind it. The oldest go.
    pub(super) fn push(&mut self, place: Place, message: &Message, bytes: usize) {
        self.end = place;
        self.bytes += bytes;
        self.entries.push_back(Entry {
            place,
            bytes,
            message: message.clone(),
        });
        while self.is_too_large()
            && let Some(oldest) = self.entries.pop_front()
        {
            self.begin = oldest.place;
            self.bytes -= oldest.bytes;
        }
    }

    fn is_too_large(&self) -> bool {
        self.entries.len() > BACKLOG_MESSAGES
            || self.end.samples - self.begin.samples > BACKLOG_SAMPLES
            || self.bytes > BACKLOG_BYTES
    }

    /// Where it begins.
    pub(super) fn begin(&self) -> Place {
        self.begin
    }

    /// The messages after this number, the oldest first. Those that are gone are left out.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (Place, &Message)> {
        let skip = number.saturating_sub(self.begin.messages);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let entries = self.entries.range(skip.min(self.entries.len())..);
        entries.map(|entry| (entry.place, &entry.message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch_of, text_of};
    use super::*;

    fn filled(messages: impl Iterator<Item = Message>) -> (Backlog, Place) {
        let mut backlog = Backlog::new(Place::default());
        let mut place = Place::default();
        for message in messages {
            place.messages += 1;
            place.samples += message.samples();
            backlog.push(place, &message, message.bytes());
            assert!(!backlog.is_too_large());
        }
        (backlog, place)
    }

    fn numbers(backlog: &Backlog, after: u64) -> Vec<u64> {
        backlog
            .after(after)
            .map(|(place, _)| place.messages)
            .collect()
    }

    #[test]
    fn each_bound_holds_and_the_oldest_go() {
        let messages = BACKLOG_MESSAGES as u64;
        let (backlog, _) = filled((1..=messages + 3).map(|number| batch_of(number, 1)));
        assert_eq!(backlog.begin().messages, 3);
        assert_eq!(numbers(&backlog, 0).len(), BACKLOG_MESSAGES);

        let large = BACKLOG_SAMPLES / 4 + 1;
        let (backlog, end) = filled((1..=10).map(|number| batch_of(number, large)));
        assert_eq!(numbers(&backlog, 0), [8, 9, 10]);
        assert_eq!(end.samples - backlog.begin().samples, 3 * large);

        let text = BACKLOG_BYTES / 4;
        let (backlog, _) = filled((1..=10).map(|number| text_of(number, text)));
        assert_eq!(numbers(&backlog, 0), [8, 9, 10], "bytes of values count");
        let (backlog, end) = filled([text_of(1, 10), text_of(2, BACKLOG_BYTES)].into_iter());
        assert_eq!(
            (numbers(&backlog, 0), backlog.begin()),
            (vec![], end),
            "what is larger than all of it is not kept"
        );
    }

    #[test]
    fn what_came_after_a_number_is_found() {
        let (backlog, _) = filled((1..=5).map(|number| batch_of(number, 1)));
        assert_eq!(numbers(&backlog, 0), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&backlog, 3), [4, 5]);
        assert!(numbers(&backlog, 5).is_empty());
        assert!(numbers(&backlog, u64::MAX).is_empty());
    }
}
