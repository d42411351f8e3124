//! The bus: from channels to whoever listens.
//!
//! A batch is shared by its consumers, never copied. Every message has a number, in one order for all consumers.
//!
//! - A [`Subscription`] (a sink) has a bounded queue of its own; when that is full, the message is dropped for this consumer
//!   only. `subscription`.
//! - A [`Reader`] (a stream) has no queue, but a place in the backlog: the newest messages, bounded in number, samples and
//!   bytes, and kept from the first reader on, since nobody else has a number to come back with. One that comes back with
//!   the number of what it has seen last goes on there. `reader`, `backlog`.
//!
//! So a slow consumer never slows a channel, and never misses anything without being told: messages that it did not get are
//! a hole in their numbers, which is announced where it stands, with the messages and the samples that were in it.
//!
//! **Cost**: a message takes one lock, for as long as it takes to number it, to put it into the queues and to push it onto the
//! backlog; however many readers there are. What they wait for is one notice for all of them.

mod backlog;
mod reader;
mod subscription;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::event::{Batch, Severity, WallNs};
use crate::exit::Exit;
use crate::ids::InstanceId;

use backlog::Backlog;
pub use reader::{Heard, Reader};
use subscription::Subscriber;
pub use subscription::{Missed, MissedCount, Received, Subscription};

/// What travels on the bus.
#[derive(Clone, Debug)]
pub enum Message {
    /// Samples of one channel.
    Samples(Arc<Batch>),
    /// Something happened to a channel or one of its links.
    Event(Arc<ChannelEvent>),
}

/// Something that happened to a channel.
#[derive(Clone, Debug)]
pub struct ChannelEvent {
    /// Which life of which channel.
    pub instance: Arc<InstanceId>,
    /// When.
    pub at: WallNs,
    /// What.
    pub what: Happened,
}

/// What happened to a channel.
#[derive(Clone, Debug)]
pub enum Happened {
    /// Its running state changed.
    State {
        /// The new state.
        state: crate::lifecycle::State,
        /// Why, in one sentence.
        reason: String,
    },
    /// An incarnation ended.
    Exit(Exit),
    /// A link came up or went down.
    Link {
        /// The link's name.
        link: String,
        /// Whether it is up now.
        up: bool,
        /// The peer, or why it is down.
        detail: String,
    },
    /// What stands in a link's history too.
    LinkEvent {
        /// The link's name.
        link: String,
        /// The connection, where it is about one.
        connection: Option<u32>,
        /// `connected`, `disconnected`, ...
        event: &'static str,
        /// Why, in one sentence.
        cause: String,
    },
    /// The driver spoke of a device, or it is polled less, or an operator took it out of service.
    Device {
        /// The device's name.
        device: String,
        /// `up`, `down` or `unknown`; `demoted`; `locked` or `unlocked`.
        condition: &'static str,
        /// Why, in the driver's words.
        why: String,
    },
    /// The driver raised or cleared an alarm.
    Alarm {
        /// The alarm's code. With the device it says which alarm it is.
        code: String,
        /// How bad it is.
        severity: Severity,
        /// Raised, or cleared.
        active: bool,
        /// In the driver's words.
        message: String,
        /// The device that it is about, where it is about one.
        device: Option<String>,
        /// When it came or went, where the device says so.
        source_time: Option<WallNs>,
    },
    /// The host noticed something that an operator should know.
    Warning {
        /// In one sentence.
        sentence: String,
    },
    /// Samples over the rate limit, or polls of a group that was still busy, were dropped.
    Dropped {
        /// How many.
        count: u64,
        /// Of what, and why.
        what: &'static str,
    },
}

impl Message {
    /// How many samples it holds.
    fn samples(&self) -> u64 {
        match self {
            Message::Samples(batch) => batch.samples.len() as u64,
            Message::Event(_) => 0,
        }
    }

    /// About how much memory it keeps, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Message::Samples(batch) => batch.bytes(),
            Message::Event(event) => size_of::<ChannelEvent>() + event.what.text_bytes(),
        }
    }
}

impl Happened {
    /// How long its texts are, in bytes.
    fn text_bytes(&self) -> usize {
        match self {
            Happened::State { reason, .. } => reason.len(),
            Happened::Exit(exit) => exit.text_bytes(),
            Happened::Link { link, detail, .. } => link.len() + detail.len(),
            Happened::LinkEvent { link, cause, .. } => link.len() + cause.len(),
            Happened::Device { device, why, .. } => device.len() + why.len(),
            Happened::Alarm {
                code,
                message,
                device,
                ..
            } => code.len() + message.len() + device.as_ref().map_or(0, String::len),
            Happened::Warning { sentence } => sentence.len(),
            Happened::Dropped { .. } => 0,
        }
    }
}

/// A place in the order of all messages: how many have been published up to there, and how many samples they held. The number of
/// a message is that of the place behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    messages: u64,
    samples: u64,
}

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    run: u64,
    state: Mutex<State>,
    /// Whether there is a backlog, so that messages are measured before the lock is taken.
    keeps: AtomicBool,
    readers: AtomicUsize,
    news: Notify,
    /// What readers have missed, all of them together.
    missed_messages: AtomicU64,
    missed_samples: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Behind the newest message.
    head: Place,
    subscribers: Vec<Arc<Subscriber>>,
    /// From the first reader on.
    backlog: Option<Backlog>,
}

/// What was published since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Batches and events.
    pub messages: u64,
    /// The samples in them.
    pub samples: u64,
}

/// How the readers are, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Those there are.
    pub open: usize,
    /// Messages that readers have missed since the host started, since they were too slow or came back too late.
    pub missed_messages: u64,
    /// The samples in them, as far as they are known.
    pub missed_samples: u64,
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// A bus with no consumers.
    pub fn new() -> Self {
        let inner = Inner {
            run: Clock::start().wall().0,
            state: Mutex::default(),
            keeps: AtomicBool::new(false),
            readers: AtomicUsize::new(0),
            news: Notify::new(),
            missed_messages: AtomicU64::new(0),
            missed_samples: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Which run of the host this is: when it began, in nanoseconds since 1970. Numbers of messages mean nothing in another.
    pub fn run(&self) -> u64 {
        self.inner.run
    }

    /// Listens to everything from now on, with room for `queue` messages (at least one).
    pub fn subscribe(&self, queue: usize) -> Subscription {
        let mut state = self.inner.lock();
        let (subscriber, subscription) = subscription::pair(queue, state.head);
        state.subscribers.retain(|subscriber| subscriber.is_open());
        state.subscribers.push(Arc::new(subscriber));
        subscription
    }

    /// Reads everything from now on.
    pub fn listen(&self) -> Reader {
        let head = self.inner.with_backlog(|state| state.head);
        Reader::new(self.inner.clone(), head.messages, Some(head.samples))
    }

    /// Reads everything after a message, as far as the backlog goes back. `None` if there was no such message in this run.
    pub fn resume(&self, after: u64) -> Option<Reader> {
        let head = self.inner.with_backlog(|state| state.head);
        (after <= head.messages).then(|| Reader::new(self.inner.clone(), after, None))
    }

    /// What was published.
    pub fn published(&self) -> Published {
        let Place { messages, samples } = self.inner.lock().head;
        Published { messages, samples }
    }

    /// How the readers are.
    pub fn readers(&self) -> Readers {
        Readers {
            open: self.inner.readers.load(Ordering::Relaxed),
            missed_messages: self.inner.missed_messages.load(Ordering::Relaxed),
            missed_samples: self.inner.missed_samples.load(Ordering::Relaxed),
        }
    }

    /// Hands a message to every consumer that has room. Never waits for any of them.
    pub fn publish(&self, message: &Message) {
        let inner = &*self.inner;
        let samples = message.samples();
        let bytes = inner.keeps.load(Ordering::Relaxed).then(|| message.bytes());
        {
            let mut state = inner.lock();
            state.head.messages += 1;
            state.head.samples += samples;
            let State {
                head,
                subscribers,
                backlog,
            } = &mut *state;
            for subscriber in subscribers.iter() {
                subscriber.offer(*head, message);
            }
            if let Some(backlog) = backlog {
                backlog.push(*head, message, bytes.unwrap_or_else(|| message.bytes()));
            }
        }
        // A reader counts itself before it looks, and looks under the lock: it has seen the message, or is seen here.
        if inner.readers.load(Ordering::Relaxed) > 0 {
            inner.news.notify_waiters();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there can panic halfway but for want of memory, which ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_backlog<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let mut state = self.lock();
        if state.backlog.is_none() {
            state.backlog = Some(Backlog::new(state.head));
            self.keeps.store(true, Ordering::Relaxed);
        }
        look(&state)
    }
}

#[cfg(test)]
mod tests;
