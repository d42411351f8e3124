//! `kind = "mqtt"`: a broker of MQTT 3.1.1 or 5.
//!
//! ```text
//! deliver ── payload ──► parcel ── client ──► session ◄──► broker
//!            (topic, wire)                       │ ▲
//!                                       requests ▼ │ answers
//!                                             the host
//! ```
//!
//! - `payload`: samples become publishes, cut to what the broker takes. `topic`: names become topics.
//! - `client`: dials, and dials again. `session`: one connection. `wire`: the packets. `reason`: what a broker says when it
//!   says no. `prompt`: a stream without delays.
//! - `requests`: writes that come over MQTT, and their answers.
//!
//! # What is promised
//!
//! - **QoS 1**: a delivery is done when each of its messages has its own PUBACK. Where the connection breaks before, all of it is
//!   given again by the runner; nothing is sent again by itself. Channel, epoch and sequence tell a reader what it has already.
//! - **QoS 0**: a delivery is done when the socket has taken it. What is then lost on the way is lost.
//! - In version 3.1.1 a PUBACK cannot say no: what the broker's access list or its limit of sizes refuses is acknowledged and lost, as far as
//!   the broker goes (mosquitto does). Version 5 says no, and the sink says why.
//! - A connection never flaps over a limit of sizes: what the broker says it takes is kept to; a message that is refused as too large
//!   is cut in halves until it passes; and where a broker hangs up twice over one without a word (as brokers
//!   of version 3.1.1 do), smaller ones are tried. A sample that is too large by itself is given up, after all others of its batch
//!   are delivered.
//!
//! # Messages
//!
//! One per device and group of a batch, under a topic made of names (default `bulkhead/{channel}/{group}`), in JSON:
//!
//! ```text
//! {"channel":"press-3","device":"plc","group":"fast","epoch":7,"sequence":1201,
//!  "time":"2026-07-18T13:00:00.000000001Z","time_ns":1784379600000000001,
//!  "values":{"temp":21.5,"count":18446744073709551615,"mode":null},
//!  "quality":{"mode":"bad-timeout"},"source_time_ns":{"temp":1784379599000000000},"offsets":[0,1,4]}
//! ```
//!
//! - `values` has each tag once, **in the order of the samples**: the first has the number `sequence`, the next one more, and so on; or,
//!   where some were left out by a filter or stand in other messages, `sequence` plus the number at its place in `offsets`. A
//!   tag that comes twice in a batch comes in two messages. (A reader that needs the numbers must keep the order of members: Python and
//!   JavaScript do, the latter but for names that are whole numbers; for others there are parsers that do.)
//! - `quality` has those that are not `good`; `source_time_ns` those for which the device gave a time. Absent if empty.
//! - `group` is empty for tags that are in none. Values are written as everywhere in the host, see `record`.
//!
//! With `{tag}` in the topic there is one message per sample, with `tag`, `value` and, if need be, `quality` (a word) and
//! `source_time_ns` (a number) in place of the maps.
//!
//! `<prefix>/<sink>/gap` says what is missing for good: `{"sink":..,"messages":..,"samples":..,"reason":..,"time":..,"time_ns":..}`.
//! `<prefix>/<sink>/status` is retained and says `online` or `offline`; the latter is the last will too.
//!
//! # What can go wrong
//!
//! Two clients with one client id end each other's connections for ever (version 5 says so). A broker that takes a message and
//! has no room for it is beyond what a sink can know.

mod client;
mod payload;
mod prompt;
mod reason;
mod requests;
mod session;
#[cfg(test)]
mod tests;
mod topic;
mod wire;

use std::sync::Arc;

use tokio::sync::mpsc;

use self::client::Client;
use self::payload::{Encoder, Limits, Parcel};
use self::requests::Desk;
pub(crate) use self::requests::{WAITING, WriteAnswer, WriteOutcome, WriteRequest};
use self::session::{End, Outcome};
use super::destination::{Destination, Undelivered};
use super::health::Health;
use crate::config::MqttSink;
use crate::event::Item;

/// So much must speak for a limit: two connections that ended over a message longer than any that passed, or six over any.
const ENOUGH: u32 = 6;
/// Below this, smaller messages are not tried on a mere guess.
const LEAST_GUESS: usize = 1_024;

/// A broker, as a destination of samples.
pub(super) struct Mqtt {
    client: Client,
    encoder: Encoder,
    parcel: Parcel,
    /// The longest payload, as the operator says.
    max_payload: usize,
    /// The longest payload that is believed to pass.
    guessed: Option<usize>,
    /// How much speaks for a limit that the broker does not tell: how often in a row it hung up over a delivery without a word.
    suspicions: u32,
    health: Arc<Health>,
}

impl Mqtt {
    /// Begins to connect. `requests` takes writes, if the sink is to have any. Must be called within a tokio runtime.
    pub(super) fn start(
        name: &str,
        sink: &MqttSink,
        requests: Option<mpsc::Sender<WriteRequest>>,
    ) -> Self {
        let health = Arc::new(Health::default());
        let desk = sink.writes.as_deref().zip(requests);
        let desk = desk.map(|(levels, requests)| Desk::new(name, levels, requests));
        Self {
            client: Client::start(name, sink, desk, Arc::clone(&health)),
            encoder: Encoder::new(name, sink),
            parcel: Parcel::default(),
            max_payload: sink.max_payload,
            guessed: None,
            suspicions: 0,
            health,
        }
    }

    /// From now on smaller payloads are tried.
    fn guess(&mut self, failed: usize) {
        let guessed = self
            .guessed
            .map_or(failed / 2, |guessed| guessed.min(failed / 2));
        tracing::warn!(
            refused = failed,
            tried = guessed,
            "the broker takes no messages of this size, so they are cut; set `max_payload` to what it takes"
        );
        self.guessed = Some(guessed);
    }

    /// Tries smaller messages if it is likely that their length ended the connection.
    fn suspect(&mut self, end: &End) {
        let is_told = end.code == Some(reason::TOO_LARGE);
        let longest = match end.suspect {
            Some(suspect) => {
                self.suspicions += if suspect.is_longest { ENOUGH / 2 } else { 1 };
                suspect.payload
            }
            None => self
                .parcel
                .packets
                .iter()
                .map(|packet| packet.payload)
                .max()
                .unwrap_or(0),
        };
        if (is_told || self.suspicions >= ENOUGH) && longest > LEAST_GUESS {
            self.suspicions = 0;
            self.guess(longest);
        }
    }
}

impl Destination for Mqtt {
    fn health(&self) -> Option<Arc<Health>> {
        Some(self.health.clone())
    }

    async fn deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        let (mut from, mut never, mut too_long) = (0, None, 0);
        while from < items.len() {
            let limits = Limits {
                payload: self.max_payload,
                packet: self.client.longest().await.map_err(Undelivered::Later)?,
                guessed: self.guessed,
            };
            let encoded = self.encoder.encode(items, from, limits, &mut self.parcel);
            let outcome = match self.parcel.packets.is_empty() {
                true => Outcome::Done,
                false => self.client.send(&mut self.parcel).await,
            };
            match outcome {
                Outcome::Done => {
                    from = encoded.next;
                    if never.is_none() {
                        never = encoded.too_large;
                    }
                }
                // The connection is another since, and with it the limit; or it takes not even what says that something is missing.
                Outcome::TooLong if too_long < 3 => too_long += 1,
                Outcome::TooLong => {
                    let reason = "the broker takes too small packets only; let it take larger ones";
                    return Err(Undelivered::Later(reason.to_owned()));
                }
                Outcome::Refused {
                    packet,
                    code,
                    reason,
                } => {
                    let reason = reason::not_taken(code, reason.as_deref());
                    self.health.failed(&reason);
                    let packet = self.parcel.packets.get(packet).copied();
                    match packet {
                        Some(packet) if code == reason::TOO_LARGE && packet.samples > 1 => {
                            self.guess(packet.payload)
                        }
                        Some(packet) if code == reason::TOO_LARGE => {
                            return Err(Undelivered::Never {
                                item: packet.item,
                                reason,
                            });
                        }
                        _ => return Err(Undelivered::Later(reason)),
                    }
                }
                Outcome::Broken(end) => {
                    self.suspect(&end);
                    return Err(Undelivered::Later(end.reason));
                }
            }
        }
        self.suspicions = 0;
        match never {
            None => Ok(()),
            Some((item, reason)) => Err(Undelivered::Never { item, reason }),
        }
    }

    async fn close(&mut self) -> Result<(), Undelivered> {
        self.client.close().await;
        Ok(())
    }
}
