//! One connection from CONNACK to its end: what is to be sent, what comes, and what has been silent for too long.
//!
//! Everything happens in one loop that writes as much as the broker takes while it reads, so that neither side waits for the other.
//! What is sent lies in two queues of bytes: those of the parcel, and those of everything else (answers,
//! acknowledgements, pings), which are put in between two packets.
//!
//! Invariants:
//! - Never more than `window` messages of QoS 1 are without their acknowledgement.
//! - A parcel is done when each of its packets has its own PUBACK; those of QoS 0, when the socket has taken the last byte.
//! - Nothing waits for longer than [`PATIENCE`] without progress: the connection is given up then.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::health::Health;
use super::payload::Parcel;
use super::reason;
use super::requests::{Answer, Desk};
use super::wire::{self, ConnAck, Inbox, Packet};
use crate::config::{MqttVersion, Qos};

/// How long the broker may neither take, acknowledge nor answer anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What waits beside the parcel, in bytes, before the connection is given up: what comes makes answers, and a broker that sends but
/// does not take them must not fill the memory.
const MAX_ASIDE: usize = 1 << 20;
/// How much is read at once.
const READ: usize = 16 << 10;

/// Publishes to be delivered, and where to say how that went.
pub(super) struct Job {
    pub(super) parcel: Parcel,
    pub(super) done: oneshot::Sender<(Parcel, Outcome)>,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is acknowledged.
    Done,
    /// The broker said no to this packet. Others may have been taken.
    Refused {
        packet: usize,
        code: u8,
        reason: Option<String>,
    },
    /// A packet is longer than this broker takes; nothing was sent.
    TooLong,
    /// The connection ended.
    Broken(End),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// In one sentence with its remedy.
    pub(super) reason: String,
    /// What the broker itself gave as its reason.
    pub(super) code: Option<u8>,
    /// Where the broker hung up without a word while messages were on their way.
    pub(super) suspect: Option<Suspect>,
}

/// What the broker may not have liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    /// The longest payload on its way.
    pub(super) payload: usize,
    /// Whether none as long has passed on this connection.
    pub(super) is_longest: bool,
}

impl End {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            code: None,
            suspect: None,
        }
    }
}

/// What a session needs to know of itself.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) version: MqttVersion,
    pub(super) qos: Qos,
    /// Messages without an acknowledgement.
    pub(super) window: usize,
    /// `None` where the broker wants none.
    pub(super) keep_alive: Option<Duration>,
    /// The longest packet that the broker takes, in bytes.
    pub(super) longest: Option<usize>,
}

impl Terms {
    /// What was asked for, as far as the broker grants it; or why it cannot be served [3.2.2.3].
    pub(super) fn agree(self, ack: &ConnAck, retains: bool) -> Result<Self, String> {
        if ack.maximum_qos == Some(0) && self.qos == Qos::AtLeastOnce {
            return Err(
                "the broker takes QoS 0 only; write `qos = 0`, or use another broker".to_owned(),
            );
        }
        if ack.retain_available == Some(false) && retains {
            return Err(
                "the broker keeps no retained messages; write `status = false` and `retain = false`".to_owned(),
            );
        }
        let most = ack.receive_maximum.map_or(self.window, usize::from);
        let longest = ack
            .maximum_packet
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Self {
            window: self.window.min(most).max(1),
            keep_alive: match ack.keep_alive {
                None => self.keep_alive,
                Some(0) => None,
                Some(seconds) => Some(Duration::from_secs(u64::from(seconds))),
            },
            longest,
            ..self
        })
    }
}

/// Both directions of a stream.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

pub(super) struct Session {
    reader: Reader,
    writer: Writer,
    inbox: Inbox,
    terms: Terms,
    aside: Vec<u8>,
    /// How many bytes of it are written.
    aside_written: usize,
    current: Option<Current>,
    in_flight: VecDeque<(u16, Owner)>,
    last_id: u16,
    /// The longest payload that was acknowledged.
    passed: usize,
    /// Whether the stream may hold bytes back.
    dirty: bool,
    times: Times,
}

/// Whose message waits for its acknowledgement.
enum Owner {
    /// A packet of the parcel.
    Parcel(usize),
    Answer(Answer),
    /// Nobody's any more, or the sink's own.
    Nobody,
}

struct Current {
    job: Job,
    /// Packets that may be written: those that have their identifiers.
    numbered: usize,
    /// Packets that are written whole.
    whole: usize,
    /// Bytes that are written.
    written: usize,
    acknowledged: usize,
}

struct Times {
    sent: Instant,
    received: Instant,
    pinged: Option<Instant>,
    /// Since when the broker takes nothing, or there is nothing to take.
    stuck: Instant,
    /// Since when it acknowledges nothing, or there is nothing to acknowledge.
    unacknowledged: Instant,
}

impl Current {
    fn new(job: Job) -> Self {
        Self {
            job,
            numbered: 0,
            whole: 0,
            written: 0,
            acknowledged: 0,
        }
    }

    fn end_of(&self, packets: usize) -> usize {
        let last = packets
            .checked_sub(1)
            .and_then(|last| self.job.parcel.packets.get(last));
        last.map_or(0, |packet| packet.end)
    }

    fn is_between_packets(&self) -> bool {
        self.written == self.end_of(self.whole)
    }

    /// What may be written now; only the rest of a packet if something else waits.
    fn next_bytes(&self, others_wait: bool) -> &[u8] {
        let up_to = match others_wait {
            true => self.end_of(self.numbered.min(self.whole + 1)),
            false => self.end_of(self.numbered),
        };
        self.job
            .parcel
            .bytes
            .get(self.written..up_to)
            .unwrap_or_default()
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        while self.whole < self.numbered && self.end_of(self.whole + 1) <= self.written {
            self.whole += 1;
        }
    }
}

impl Session {
    pub(super) fn new(reader: Reader, writer: Writer, inbox: Inbox, terms: Terms) -> Self {
        let now = Instant::now();
        Self {
            reader,
            writer,
            inbox,
            terms,
            aside: Vec::new(),
            aside_written: 0,
            current: None,
            in_flight: VecDeque::new(),
            last_id: 0,
            passed: 0,
            dirty: false,
            times: Times {
                sent: now,
                received: now,
                pinged: None,
                stuck: now,
                unacknowledged: now,
            },
        }
    }

    /// A retained message of the sink's own.
    pub(super) fn say(&mut self, topic: &str, payload: &str) {
        let id = self.number(Owner::Nobody);
        self.publish(topic, true, None, payload.as_bytes(), id);
    }

    pub(super) fn subscribe(&mut self, filter: &str) {
        let id = self.free_id();
        wire::subscribe(
            &mut self.aside,
            self.terms.version,
            id,
            filter,
            self.terms.qos,
        );
    }

    /// Runs until the connection ends, or until `stop` and all that was begun is said; `last` is said then.
    pub(super) async fn run(
        mut self,
        jobs: &mut mpsc::Receiver<Job>,
        mut desk: Option<&mut Desk>,
        stop: &CancellationToken,
        last: Option<(&str, &str)>,
        health: &Health,
    ) -> End {
        let mut is_stopping = false;
        let end = loop {
            let now = Instant::now();
            if !self.has_bytes() && !self.dirty {
                self.times.stuck = now;
            }
            if self.in_flight.is_empty() {
                self.times.unacknowledged = now;
            }
            if let Err(end) = self.read_all(desk.as_deref_mut(), health) {
                break end;
            }
            self.fill(desk.as_deref_mut(), health);
            if self.aside.len() - self.aside_written > MAX_ASIDE {
                break End::new("the broker sends, but takes nothing; see to the broker");
            }
            self.settle();
            if stop.is_cancelled() && !is_stopping && self.is_between_packets() {
                is_stopping = true;
                self.finish(Outcome::Broken(stopping()));
                if let Some((topic, payload)) = last {
                    self.say(topic, payload);
                }
                wire::disconnect(&mut self.aside);
            }
            if is_stopping && !self.has_bytes() && !self.dirty {
                // Whether it hears that is its own business.
                self.writer.shutdown().await.ok();
                break stopping();
            }
            let wake = match self.next_alarm() {
                Ok(wake) => wake,
                Err(end) => break end,
            };
            self.inbox.bytes.reserve(READ);
            let others_wait = self.aside_written < self.aside.len();
            let (is_aside, bytes) = match &self.current {
                Some(current) if !others_wait || !current.is_between_packets() => {
                    (false, current.next_bytes(others_wait))
                }
                _ => (
                    true,
                    self.aside.get(self.aside_written..).unwrap_or_default(),
                ),
            };
            let (has_bytes, has_job) = (!bytes.is_empty(), self.current.is_some());
            tokio::select! {
                read = self.reader.read_buf(&mut self.inbox.bytes) => match read {
                    Ok(0) if is_stopping => break stopping(),
                    Ok(0) => break self.hung_up("the broker hung up"),
                    Ok(_) => {
                        self.times.received = Instant::now();
                        self.times.pinged = None;
                    }
                    Err(error) => break self.broken(error),
                },
                written = push(&mut self.writer, bytes), if has_bytes || self.dirty => match written {
                    Ok(0) if has_bytes => break self.hung_up("the broker takes nothing more"),
                    Ok(0) => self.dirty = false,
                    Ok(count) => self.wrote(count, is_aside),
                    Err(error) => break self.broken(error),
                },
                Some(job) = jobs.recv(), if !has_job && !is_stopping => self.take(job),
                () = settled(desk.as_deref_mut()) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
                () = sleep_until(wake) => {}
            }
        };
        self.finish(Outcome::Broken(end.clone()));
        if let Some(desk) = desk {
            let unanswered = self.in_flight.drain(..).rev();
            for (_, owner) in unanswered {
                if let Owner::Answer(answer) = owner {
                    desk.give_back(answer);
                }
            }
        }
        end
    }

    fn take(&mut self, job: Job) {
        if self
            .terms
            .longest
            .is_some_and(|longest| job.parcel.longest() > longest)
        {
            // Whoever asked may have given up.
            job.done.send((job.parcel, Outcome::TooLong)).ok();
            return;
        }
        self.current = Some(Current::new(job));
    }

    /// Reads all packets that are there.
    fn read_all(&mut self, mut desk: Option<&mut Desk>, health: &Health) -> Result<(), End> {
        loop {
            match self.inbox.next(self.terms.version) {
                Ok(Some(packet)) => self.read(packet, desk.as_deref_mut(), health)?,
                Ok(None) => return Ok(()),
                Err(fault) => return Err(End::new(fault.to_string())),
            }
        }
    }

    fn read(
        &mut self,
        packet: Packet,
        desk: Option<&mut Desk>,
        health: &Health,
    ) -> Result<(), End> {
        match packet {
            Packet::PubAck { id, code, reason } => self.acknowledged(id, code, reason, health),
            Packet::Publish(message) => {
                if let Some(id) = message.id {
                    wire::puback(&mut self.aside, id);
                }
                if let Some(desk) = desk {
                    desk.take(message);
                }
            }
            Packet::SubAck { code } if reason::is_refusal(code) => {
                let filter = desk.map(|desk| desk.filter()).unwrap_or_default();
                let refused = reason::not_subscribed(code, &filter);
                tracing::warn!("{refused}");
                health.failed(&refused);
            }
            Packet::SubAck { .. } | Packet::PingResp => {}
            Packet::Disconnect { code, reason } => {
                return Err(End {
                    reason: reason::ended(code, reason.as_deref()),
                    code: Some(code),
                    suspect: None,
                });
            }
            Packet::ConnAck(_) => {
                return Err(End::new("the broker greets twice; see to the broker"));
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, id: u16, code: u8, reason: Option<String>, health: &Health) {
        let Some(at) = self.in_flight.iter().position(|(waits, _)| *waits == id) else {
            tracing::debug!(id, "an acknowledgement of nothing");
            return;
        };
        self.times.unacknowledged = Instant::now();
        match self.in_flight.remove(at) {
            Some((_, Owner::Parcel(packet))) if reason::is_refusal(code) => {
                self.finish(Outcome::Refused {
                    packet,
                    code,
                    reason,
                });
            }
            Some((_, Owner::Parcel(packet))) => {
                health.acknowledged();
                if let Some(current) = &mut self.current {
                    current.acknowledged += 1;
                    let passed = current.job.parcel.packets.get(packet);
                    self.passed = self.passed.max(passed.map_or(0, |packet| packet.payload));
                }
            }
            Some((_, Owner::Answer(answer))) if reason::is_refusal(code) => {
                let topic = crate::text::shown(&answer.topic, 200);
                tracing::warn!(%topic, "an answer is lost: {}", reason::not_taken(code, reason.as_deref()));
            }
            _ => {}
        }
    }

    /// Gives identifiers to as many messages as may be on their way.
    fn fill(&mut self, desk: Option<&mut Desk>, health: &Health) {
        if let Some(desk) = desk {
            while self.in_flight.len() < self.terms.window && self.aside.len() < MAX_ASIDE / 2 {
                let Some(answer) = desk.next_answer() else {
                    break;
                };
                // What it is beside its topic, its data and its text is far shorter.
                let length = answer.topic.len()
                    + answer.payload.len()
                    + answer.correlation.as_ref().map_or(0, |data| data.len())
                    + 64;
                if self.terms.longest.is_some_and(|longest| length > longest) {
                    tracing::warn!("an answer is dropped: it is longer than the broker takes");
                    continue;
                }
                let (topic, correlation, payload) = (
                    answer.topic.clone(),
                    answer.correlation.clone(),
                    answer.payload.clone(),
                );
                let id = self.number(Owner::Answer(answer));
                self.publish(&topic, false, correlation.as_deref(), &payload, id);
            }
        }
        let Some(mut current) = self.current.take() else {
            return;
        };
        while let Some(packet) = current.job.parcel.packets.get(current.numbered).copied() {
            if let Some(at) = packet.id_at {
                if self.in_flight.len() >= self.terms.window {
                    break;
                }
                let id = self.free_id();
                self.in_flight
                    .push_back((id, Owner::Parcel(current.numbered)));
                wire::number(&mut current.job.parcel.bytes, at, id);
            }
            health.sent();
            current.numbered += 1;
        }
        self.current = Some(current);
    }

    /// Says so if the parcel is done.
    fn settle(&mut self) {
        let is_done = self.current.as_ref().is_some_and(|current| {
            let packets = current.job.parcel.packets.len();
            match self.terms.qos {
                Qos::AtLeastOnce => current.acknowledged == packets,
                Qos::AtMostOnce => current.whole == packets && !self.dirty,
            }
        });
        if is_done {
            self.finish(Outcome::Done);
        }
    }

    /// Whatever is on its way for the parcel is nobody's from now on.
    fn finish(&mut self, outcome: Outcome) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        if !current.is_between_packets() {
            // A packet that was begun is written to its end.
            let rest = current
                .job
                .parcel
                .bytes
                .get(current.written..current.end_of(current.whole + 1));
            self.aside.splice(
                self.aside_written..self.aside_written,
                rest.unwrap_or_default().iter().copied(),
            );
        }
        let begun = current.whole + usize::from(!current.is_between_packets());
        self.in_flight.retain_mut(|(_, owner)| match owner {
            Owner::Parcel(packet) => {
                // One that was not even begun is never acknowledged.
                let is_begun = *packet < begun;
                *owner = Owner::Nobody;
                is_begun
            }
            _ => true,
        });
        let parcel = std::mem::take(&mut current.job.parcel);
        // Whoever asked may have given up.
        current.job.done.send((parcel, outcome)).ok();
    }

    fn is_between_packets(&self) -> bool {
        self.current
            .as_ref()
            .is_none_or(Current::is_between_packets)
    }

    fn publish(
        &mut self,
        topic: &str,
        retain: bool,
        correlation: Option<&[u8]>,
        payload: &[u8],
        id: u16,
    ) {
        let id_at = wire::publish(
            &mut self.aside,
            &wire::Publish {
                version: self.terms.version,
                qos: self.terms.qos,
                retain,
                topic,
                correlation,
                payload,
            },
        );
        if let Some(at) = id_at {
            wire::number(&mut self.aside, at, id);
        }
    }

    /// An identifier for a message, which waits for its acknowledgement from now on if there is to be one.
    fn number(&mut self, owner: Owner) -> u16 {
        let id = self.free_id();
        if self.terms.qos == Qos::AtLeastOnce {
            self.in_flight.push_back((id, owner));
        }
        id
    }

    /// Never zero, and none that is in use: there are far more of them than messages on their way.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|(id, _)| *id == self.last_id) {
                return self.last_id;
            }
        }
    }

    fn wrote(&mut self, count: usize, is_aside: bool) {
        let now = Instant::now();
        (self.times.sent, self.times.stuck) = (now, now);
        self.dirty = true;
        if is_aside {
            self.aside_written += count;
            if self.aside_written == self.aside.len() {
                self.aside.clear();
                self.aside_written = 0;
            }
        } else if let Some(current) = &mut self.current {
            current.wrote(count);
        }
    }

    /// Whether anything could be written now.
    fn has_bytes(&self) -> bool {
        let parcel = self
            .current
            .as_ref()
            .is_some_and(|current| !current.next_bytes(false).is_empty());
        parcel || self.aside_written < self.aside.len()
    }

    /// When to look again; or that the broker was silent for too long. Pings it before that [3.1.2.10].
    fn next_alarm(&mut self) -> Result<Instant, End> {
        let waits = self.has_bytes() || self.dirty;
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(3_600);
        let mut alarm = |since: Option<Instant>, what: &str| {
            let Some(since) = since else { return Ok(()) };
            wake = wake.min(since + PATIENCE);
            match now < since + PATIENCE {
                true => Ok(()),
                false => Err(End::new(what)),
            }
        };
        alarm(
            self.times.pinged,
            "the broker does not answer any more; see to the broker and the network",
        )?;
        alarm(
            waits.then_some(self.times.stuck),
            "the broker takes nothing any more; see to the broker and the network",
        )?;
        alarm(
            (!self.in_flight.is_empty()).then_some(self.times.unacknowledged),
            "the broker acknowledges nothing any more; see to the broker",
        )?;
        if let Some(keep_alive) = self.terms.keep_alive
            && self.times.pinged.is_none()
        {
            // Early enough for the ping to arrive in time. What is only sent into the void is noticed by it too.
            let due = self.times.sent.min(self.times.received) + keep_alive * 3 / 4;
            if due <= now {
                wire::ping(&mut self.aside);
                self.times.pinged = Some(now);
                wake = now;
            } else {
                wake = wake.min(due);
            }
        }
        Ok(wake)
    }

    fn broken(&self, error: io::Error) -> End {
        self.hung_up(&format!(
            "the connection to the broker broke ({})",
            crate::link::explained(error)
        ))
    }

    fn hung_up(&self, how: &str) -> End {
        End {
            suspect: self
                .current
                .as_ref()
                .and_then(|current| self.suspect(current)),
            ..End::new(format!("{how}; see to the broker and its log"))
        }
    }

    fn suspect(&self, current: &Current) -> Option<Suspect> {
        let begun = current.whole + usize::from(!current.is_between_packets());
        let packets = current.job.parcel.packets.get(..begun)?;
        let longest = match self.terms.qos {
            Qos::AtMostOnce => packets.iter().map(|packet| packet.payload).max(),
            Qos::AtLeastOnce => {
                let waiting = self.in_flight.iter().filter_map(|(_, owner)| match owner {
                    Owner::Parcel(packet) => packets.get(*packet),
                    _ => None,
                });
                waiting.map(|packet| packet.payload).max()
            }
        };
        longest.map(|payload| Suspect {
            payload,
            is_longest: payload > self.passed,
        })
    }
}

/// Writes some of the bytes and says how many; where there are none, whatever the stream holds back. May be dropped at any time.
async fn push(writer: &mut Writer, bytes: &[u8]) -> io::Result<usize> {
    match bytes {
        [] => writer.flush().await.map(|()| 0),
        bytes => writer.write(bytes).await,
    }
}

async fn settled(desk: Option<&mut Desk>) {
    match desk {
        Some(desk) => desk.settle().await,
        None => std::future::pending().await,
    }
}

fn stopping() -> End {
    End::new("the sink is closed; start the host again")
}
