//! A stream of JetStream, NATS' own store.
//!
//! - `payload`: what a message says. `protocol`, `client`: one connection. `credentials`: logging in with a key. `stream`: the stream, and
//!   what it answers. `fault`: what goes wrong.
//!
//! Invariants:
//! - **Delivered is acknowledged.** Each message is published with an inbox of its own, and the delivery ends when the stream has answered
//!   each. What had been acknowledged when a delivery failed is not published again with the next.
//! - **In order.** Of each channel one message is under way at a time, so that one that is refused (a full stream that has room for a
//!   smaller one) is never overtaken; those of several channels are under way together, at most [`WINDOW`] messages.
//! - **A message stands there once** within the stream's window for duplicates: `Nats-Msg-Id` is `channel:epoch:first-last:samples:time`. Later
//!   than that, a reader knows a sample by channel, epoch and sequence.
//! - **Nothing waits for ever**: an answer may take [`client::ANSWER`], and a delivery [`DELIVERY`].
//!
//! The library `async-nats` is not used: its connections come back by themselves and then send what was queued behind a loss, which
//! breaks the order, and a certificate's name cannot be told to it. What a publisher needs of the protocol is small.
//!
//! A message is JSON:
//!
//! ```json
//! {"channel":"press-3","device":"plc","group":"fast","epoch":4,"sequence":1201,
//!  "time":"2026-07-18T13:00:00.000000001Z","time_ns":1784379600000000001,
//!  "values":{"count":17,"level":20.5,"door":null},"quality":{"door":"bad-timeout"},
//!  "source_time_ns":{"level":1784379599999000000},"offsets":[0,1,5]}
//! ```
//!
//! `sequence` is the number of the first value in the order of the text; the others follow one by one, or as far behind it as `offsets`
//! says, which is there only if numbers are left out. `quality` has only what is not `good`; `source_time_ns` only what devices dated.
//! A gap stands under a channel `_gaps`: `{"sink":..,"messages":..,"samples":..,"reason":..,"time":..,"time_ns":..}`.

mod client;
mod credentials;
mod fault;
mod payload;
mod protocol;
mod stream;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use self::client::{ANSWER, Client};
use self::fault::Fault;
use self::payload::{Cutter, Payload};
use self::stream::Ack;
use super::destination::{Destination, Undelivered};
use super::health::Health;
use crate::config::NatsSink;
use crate::event::Item;
use crate::ids::ChannelId;

/// How long a delivery may take, with opening a connection.
const DELIVERY: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Messages under way at once, and about how many bytes of them.
const WINDOW: usize = 256;
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// What is left for other headers than ours, which servers and clusters add.
const SPARE: usize = 256;
/// The longest id of a message: a channel's name, four numbers, and what is between them.
const LONGEST_ID: usize = 64 + 4 * 20 + 8;

/// A stream that samples are delivered to.
pub(super) struct Nats {
    /// The sink's name.
    name: String,
    sink: NatsSink,
    connection: Option<Connection>,
    health: Arc<Health>,
    /// The ids of what was acknowledged in a delivery that failed, and is given again.
    acknowledged: HashSet<String>,
}

struct Connection {
    client: Client,
    /// The longest message that the stream takes, if it says so.
    longest: Option<usize>,
}

/// A message, and from which item it is.
struct Message {
    item: usize,
    payload: Payload,
}

/// What is under way.
struct Flight {
    message: Message,
    queue: usize,
    until: Instant,
}

/// What an attempt left open.
#[derive(Default)]
struct Outcome {
    fault: Option<Fault>,
    /// An item that will never be taken whole, and why.
    never: Option<(usize, String)>,
}

impl Connection {
    /// Connects, and finds or makes the stream.
    async fn open(sink: &NatsSink) -> Result<Self, Fault> {
        let mut client = Client::connect(sink).await?;
        let longest = stream::ensure(&mut client, sink).await?;
        Ok(Self { client, longest })
    }
}

impl Nats {
    pub(super) fn new(name: &str, sink: NatsSink) -> Self {
        Self {
            name: name.to_owned(),
            sink,
            connection: None,
            health: Arc::default(),
            acknowledged: HashSet::new(),
        }
    }

    async fn try_deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        let later = |fault: Fault| Undelivered::Later(fault.to_string());
        // Taken out: a delivery that ends early leaves answers behind that nobody should take for his own.
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && !connection.client.is_there().await
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                self.health.down();
                let connection = Connection::open(&self.sink).await.map_err(later)?;
                self.health.up();
                connection
            }
        };
        let (queues, too_large) = self.messages(items, &connection);
        let outcome = self.publish(&mut connection.client, queues).await;
        let is_left = outcome
            .fault
            .as_ref()
            .is_none_or(Fault::leaves_the_connection);
        if is_left {
            self.connection = Some(connection);
        }
        match (outcome.fault, too_large.or(outcome.never)) {
            (Some(fault), _) => Err(later(fault)),
            (None, Some((item, reason))) => Err(Undelivered::Never { item, reason }),
            (None, None) => Ok(()),
        }
    }

    /// What is still to be published, by channel and in order; and an item of which a sample is too large, if there is one.
    fn messages(
        &mut self,
        items: &[Item],
        connection: &Connection,
    ) -> (Vec<VecDeque<Message>>, Option<(usize, String)>) {
        let headers = protocol::headers_of("", &self.sink.stream) + LONGEST_ID + SPARE;
        let longest = connection.longest.unwrap_or(usize::MAX);
        let cutter = Cutter {
            subject: &self.sink.subject,
            limit: connection
                .client
                .max_payload()
                .min(longest)
                .saturating_sub(headers),
        };
        let mut queues: Vec<VecDeque<Message>> = Vec::new();
        let mut places: HashMap<Option<&ChannelId>, usize> = HashMap::new();
        let mut too_large = None;
        let mut payloads = Vec::new();
        // What is not given again is forgotten.
        let mut still = HashSet::new();
        for (item, given) in items.iter().enumerate() {
            let channel = match given {
                Item::Batch(batch) => {
                    if let Err(reason) = cutter.batch(batch, &mut payloads) {
                        too_large.get_or_insert((item, reason));
                    }
                    Some(&batch.layout.channel)
                }
                Item::Gap(gap) => {
                    payloads.push(cutter.gap(&self.name, gap));
                    None
                }
            };
            let place = *places.entry(channel).or_insert_with(|| {
                queues.push(VecDeque::new());
                queues.len() - 1
            });
            for payload in payloads.drain(..) {
                if let Some(id) = self.acknowledged.take(&payload.id) {
                    still.insert(id);
                } else if let Some(queue) = queues.get_mut(place) {
                    queue.push_back(Message { item, payload });
                }
            }
        }
        self.acknowledged = still;
        (queues, too_large)
    }

    /// Publishes all of them and waits for each answer, or until a fault; what is under way then is waited for.
    async fn publish(
        &mut self,
        client: &mut Client,
        mut queues: Vec<VecDeque<Message>>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ready: VecDeque<usize> = (0..queues.len()).collect();
        let mut flights: HashMap<u64, Flight> = HashMap::new();
        let mut bytes = 0;
        loop {
            while outcome.fault.is_none() && flights.len() < WINDOW && bytes < WINDOW_BYTES {
                let Some(queue) = ready.pop_front() else {
                    break;
                };
                let Some(message) = queues.get_mut(queue).and_then(VecDeque::pop_front) else {
                    continue;
                };
                let Payload {
                    subject,
                    id,
                    bytes: text,
                } = &message.payload;
                let number = client.publish(subject, id, &self.sink.stream, text);
                bytes += text.len();
                let until = Instant::now() + ANSWER;
                let flight = Flight {
                    message,
                    queue,
                    until,
                };
                flights.insert(number, flight);
            }
            let Some(until) = flights.values().map(|flight| flight.until).min() else {
                return outcome;
            };
            let (number, answer) = match timeout_at(until, client.answer()).await {
                Ok(Ok(answered)) => answered,
                Ok(Err(fault)) => {
                    outcome.fault = Some(fault);
                    return outcome;
                }
                Err(_elapsed) => {
                    // A fault that came before says more, but after this the connection is not as it was.
                    outcome.fault = Some(Fault::NoAck {
                        stream: self.sink.stream.clone(),
                        within: ANSWER,
                    });
                    return outcome;
                }
            };
            let Some(Flight { message, queue, .. }) = flights.remove(&number) else {
                continue;
            };
            let Message { item, payload } = message;
            bytes -= payload.bytes.len();
            match stream::ack(&answer, &self.sink.stream, &payload.subject) {
                Ok(ack) => {
                    match ack {
                        Ack::Stored => {}
                        Ack::Duplicate => self.health.had_already(1),
                        Ack::TooLarge(reason) => {
                            outcome.never.get_or_insert((item, reason));
                        }
                    }
                    self.acknowledged.insert(payload.id);
                    ready.push_back(queue);
                }
                Err(fault) => {
                    outcome.fault.get_or_insert(fault);
                }
            }
        }
    }
}

impl Destination for Nats {
    fn health(&self) -> Option<Arc<Health>> {
        Some(self.health.clone())
    }

    async fn deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        if items.is_empty() {
            return Ok(());
        }
        let tried = timeout(DELIVERY, self.try_deliver(items)).await;
        let tried = tried.unwrap_or_else(|_elapsed| {
            let slow = Fault::Slow { within: DELIVERY };
            Err(Undelivered::Later(slow.to_string()))
        });
        match &tried {
            Err(Undelivered::Later(why)) => {
                if self.connection.is_none() {
                    self.health.down();
                }
                self.health.failed(why);
            }
            Err(Undelivered::Never { reason, .. }) => {
                self.health.failed(reason);
            }
            Err(Undelivered::Closed) => {}
            Ok(()) => self.acknowledged.clear(),
        }
        tried
    }

    async fn close(&mut self) -> Result<(), Undelivered> {
        self.health.down();
        if let Some(connection) = self.connection.take() {
            // A server that does not hear it notices the closed connection.
            timeout(GOODBYE, connection.client.close()).await.ok();
        }
        Ok(())
    }
}
