//! A consumer with a queue of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Message, Place};

/// What a consumer receives.
#[derive(Clone, Debug)]
pub enum Received {
    /// The next message.
    Message(Message),
    /// These stood here, and were dropped because this consumer's queue was full.
    Gap(Missed),
}

/// Messages that a consumer did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many: batches and events, of all channels.
    pub messages: u64,
    /// How many samples were in them.
    pub samples: u64,
}

/// What a consumer has missed so far, at any time. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MissedCount {
    inner: Arc<Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    messages: AtomicU64,
    samples: AtomicU64,
    /// Behind the last message that was dropped.
    until: Mutex<Place>,
}

impl MissedCount {
    /// What was missed so far.
    pub fn get(&self) -> Missed {
        Missed {
            messages: self.inner.messages.load(Ordering::Relaxed),
            samples: self.inner.samples.load(Ordering::Relaxed),
        }
    }

    fn until(&self) -> Place {
        *self
            .inner
            .until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, place: Place, samples: u64) {
        *self
            .inner
            .until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = place;
        self.inner.messages.fetch_add(1, Ordering::Relaxed);
        self.inner.samples.fetch_add(samples, Ordering::Relaxed);
    }
}

/// The bus's end.
pub(super) struct Subscriber {
    sender: mpsc::Sender<(Place, Message)>,
    missed: MissedCount,
}

/// The consumer's end. Dropping it ends the subscription.
pub struct Subscription {
    receiver: mpsc::Receiver<(Place, Message)>,
    missed: MissedCount,
    /// Everything up to here was received, or announced as missed.
    place: Place,
    held: Option<Message>,
}

/// Both ends of a subscription that begins behind `head`.
pub(super) fn pair(queue: usize, head: Place) -> (Subscriber, Subscription) {
    let (sender, receiver) = mpsc::channel(queue.max(1));
    let missed = MissedCount::default();
    let subscriber = Subscriber {
        sender,
        missed: missed.clone(),
    };
    let subscription = Subscription {
        receiver,
        missed,
        place: head,
        held: None,
    };
    (subscriber, subscription)
}

impl Subscriber {
    /// Whether there is still a consumer.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Hands a message over if there is room. `place` is the one behind it.
    pub(super) fn offer(&self, place: Place, message: &Message) {
        // One that has gone without being told misses what comes, too.
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) =
            self.sender.try_send((place, message.clone()))
        {
            self.missed.add(place, message.samples());
        }
    }
}

impl Subscription {
    /// The next message, or the gap before it. `None` when the bus is gone and everything was received. Nothing is lost where
    /// this is dropped before its end.
    pub async fn next(&mut self) -> Option<Received> {
        if let Some(message) = self.held.take() {
            return Some(Received::Message(message));
        }
        if let Some(missed) = self.missed_at_the_end() {
            return Some(Received::Gap(missed));
        }
        let Some((place, message)) = self.receiver.recv().await else {
            return self.missed_at_the_end().map(Received::Gap);
        };
        let before = Place {
            messages: place.messages.saturating_sub(1),
            samples: place.samples.saturating_sub(message.samples()),
        };
        let missed = self.skip_to(before);
        self.place = place;
        match missed {
            None => Some(Received::Message(message)),
            Some(missed) => {
                self.held = Some(message);
                Some(Received::Gap(missed))
            }
        }
    }

    /// What it has missed so far, also of what it has not been told yet.
    pub fn missed(&self) -> MissedCount {
        self.missed.clone()
    }

    /// What was dropped behind all that the queue held, where nothing has come since that would show it.
    fn missed_at_the_end(&mut self) -> Option<Missed> {
        if !self.receiver.is_empty() {
            return None;
        }
        let until = self.missed.until();
        // Only a full queue drops anything, and nobody else empties it: if it is empty still, `until` is from before it was.
        match self.receiver.is_empty() {
            true => self.skip_to(until),
            false => None,
        }
    }

    /// Goes on to a place, if it is further on. Gives what is left out by that.
    fn skip_to(&mut self, place: Place) -> Option<Missed> {
        if place.messages <= self.place.messages {
            return None;
        }
        let missed = Missed {
            messages: place.messages - self.place.messages,
            samples: place.samples.saturating_sub(self.place.samples),
        };
        self.place = place;
        Some(missed)
    }
}
