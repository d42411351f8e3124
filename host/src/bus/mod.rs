//! The bus: from channels to whoever listens.
//!
//! A batch is shared by its consumers, never copied. Each consumer has a bounded queue of its own; when that is full,
//! the message is dropped for this consumer only, counted, and announced as a gap before the next one. So a slow
//! consumer never slows a channel, and never misses anything without being told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config;
use crate::event::{Sample, WallNs};
use crate::exit::Exit;
use crate::ids::InstanceId;

/// What travels on the bus.
#[derive(Clone, Debug)]
pub enum Message {
    /// Samples of one channel.
    Samples(Arc<Batch>),
    /// Something happened to a channel or one of its links.
    Event(Arc<ChannelEvent>),
}

/// What one channel publishes at one moment. Shared by every consumer, never copied.
#[derive(Debug)]
pub struct Batch {
    /// Which life of which channel published it.
    pub instance: Arc<InstanceId>,
    /// The configuration that the samples' ids point into: after a reload the next batch may have another.
    pub channel: Arc<config::Channel>,
    /// Counts the batches of the channel within this run of the host, from 1.
    pub sequence: u64,
    /// When the host received it.
    pub server_time: WallNs,
    /// In the driver's order.
    pub samples: Vec<Sample>,
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
        /// The alarm's code.
        code: String,
        /// Raised, or cleared.
        active: bool,
        /// In the driver's words.
        message: String,
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

/// What a consumer receives.
#[derive(Clone, Debug)]
pub enum Received {
    /// The next message.
    Message(Message),
    /// So many messages were dropped here because this consumer's queue was full.
    Gap(u64),
}

/// The bus. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bus {
    subscribers: Arc<RwLock<Vec<Arc<Subscriber>>>>,
}

struct Subscriber {
    sender: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

/// One consumer's end. Dropping it ends the subscription.
pub struct Subscription {
    receiver: mpsc::Receiver<Message>,
    dropped: Arc<AtomicU64>,
    announced: u64,
    held: Option<Message>,
}

impl Bus {
    /// A bus with no consumers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to everything from now on, with room for `queue` messages (at least one).
    pub fn subscribe(&self, queue: usize) -> Subscription {
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let subscriber = Arc::new(Subscriber {
            sender,
            dropped: dropped.clone(),
        });
        let mut subscribers = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        subscribers.push(subscriber);
        Subscription {
            receiver,
            dropped,
            announced: 0,
            held: None,
        }
    }

    /// Hands a message to every consumer that has room. Never waits.
    pub fn publish(&self, message: &Message) {
        let subscribers = self
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for subscriber in subscribers.iter() {
            if let Err(TrySendError::Full(_)) = subscriber.sender.try_send(message.clone()) {
                subscriber.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Subscription {
    /// The next message, or the gap before it. `None` when the bus is gone and everything was received.
    pub async fn next(&mut self) -> Option<Received> {
        if let Some(message) = self.held.take() {
            return Some(Received::Message(message));
        }
        let message = self.receiver.recv().await?;
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.announced {
            let gap = dropped - self.announced;
            self.announced = dropped;
            self.held = Some(message);
            return Some(Received::Gap(gap));
        }
        Some(Received::Message(message))
    }

    /// How many messages were dropped here so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ids::ChannelId;

    fn channel() -> Arc<config::Channel> {
        let origin = config::Origin {
            name: String::new(),
            folder: PathBuf::new(),
        };
        let text = "[[channel]]\nid = \"a\"\ndriver = \"d\"";
        let mut host = config::parse(text, &origin).unwrap().value;
        Arc::new(host.channels.remove(0))
    }

    fn batch(sequence: u64) -> Message {
        let instance = InstanceId {
            channel: ChannelId::new("a").unwrap(),
            incarnation: 1,
        };
        Message::Samples(Arc::new(Batch {
            instance: Arc::new(instance),
            channel: channel(),
            sequence,
            server_time: WallNs(0),
            samples: Vec::new(),
        }))
    }

    async fn sequence(subscription: &mut Subscription) -> Result<u64, u64> {
        match subscription.next().await.unwrap() {
            Received::Message(Message::Samples(batch)) => Ok(batch.sequence),
            Received::Message(other) => panic!("{other:?}"),
            Received::Gap(missed) => Err(missed),
        }
    }

    #[tokio::test]
    async fn a_slow_consumer_is_told_what_it_missed_and_a_quick_one_misses_nothing() {
        let bus = Bus::new();
        let mut slow = bus.subscribe(2);
        let mut quick = bus.subscribe(100);
        for number in 1..=5 {
            bus.publish(&batch(number));
        }
        assert_eq!(
            sequence(&mut slow).await,
            Err(3),
            "a gap comes before what is received next"
        );
        assert_eq!(sequence(&mut slow).await, Ok(1));
        assert_eq!(sequence(&mut slow).await, Ok(2));
        bus.publish(&batch(6));
        assert_eq!(sequence(&mut slow).await, Ok(6), "a gap is announced once");
        for number in 1..=6 {
            assert_eq!(sequence(&mut quick).await, Ok(number));
        }
    }

    #[tokio::test]
    async fn consumers_that_left_are_forgotten() {
        let bus = Bus::new();
        drop(bus.subscribe(1));
        let _kept = bus.subscribe(1);
        assert_eq!(bus.subscribers.read().unwrap().len(), 1);
    }
}
