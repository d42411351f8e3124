//! The connection, with one request on the way at a time.
//!
//! Many gateways and devices handle one request after the other whatever the protocol allows, so nothing is gained by
//! sending more, and much is lost: with one request on the way it is always known what the next bytes must be.
//! Between requests the lock is free, and a write that waits goes before all polls.
//!
//! # What comes too late
//!
//! The answer to a request that timed out may still come, and must not be taken for the next one's. A gateway with
//! several units behind it answers late as a rule where one unit is dead, and resetting the connection each time
//! would make the living units pay for it. So the transaction of a request that timed out is remembered, and a frame
//! that carries it, and is in every byte an answer to that very request, is read whole and thrown away, once.
//!
//! Everything else that is not the answer (another transaction, protocol, unit, function, length or count; a frame that
//! stops in the middle) resets the connection: a stream that is out of step once can look right by chance later. So do
//! three time-outs of one unit without a single frame of any unit between them, since the peer may be gone without a
//! word.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bulkhead_sdk::{
    CloseReason, Closed, Connection, Context, Instant, LinkError, Priority, RequestGuard,
    RequestLock, Stream,
};

use crate::exception::Exception;
use crate::failure::Failure;
use crate::frame::{Answer, Ask, Header, Malformed};

/// How many requests that timed out are remembered; a later answer to an older one resets the connection.
const MOST_LATE: usize = 16;
/// After so many time-outs of one unit without a frame of any the connection is reset.
const MOST_UNANSWERED: u8 = 3;

/// The way to all units of a channel.
#[derive(Debug)]
pub struct Line {
    context: Context,
    connection: Connection,
    /// How long to leave the units in peace after each answer.
    pause: Duration,
    wire: RequestLock<Wire>,
}

/// The line, while it is ours.
pub struct Exchange<'a> {
    line: &'a Line,
    wire: RequestGuard<'a, Wire>,
}

/// The right answer to a request.
#[derive(Debug)]
pub struct Reply {
    pdu: Vec<u8>,
    /// From the request to the answer.
    pub round_trip: Duration,
}

/// What is known of the stream.
#[derive(Debug, Default)]
struct Wire {
    /// The one that the rest is about. A new stream begins with nothing known.
    stream: Option<Stream>,
    /// The last transaction used.
    transaction: u16,
    /// The request on the way. Still there when the next begins only if whoever sent it was dropped.
    asked: Option<Question>,
    /// Those that timed out, the oldest first.
    late: VecDeque<Question>,
    /// How many timed out since the last frame, by unit.
    unanswered: BTreeMap<u8, u8>,
    /// When the next request may be sent.
    quiet_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Question {
    transaction: u16,
    unit: u8,
    ask: Ask,
}

impl Question {
    /// Whether the frame is in every byte an answer to this.
    fn check<'a>(&self, header: Header, pdu: &'a [u8]) -> Result<Answer<'a>, Malformed> {
        if header.transaction != self.transaction {
            return Err(Malformed::Transaction {
                got: header.transaction,
                asked: self.transaction,
            });
        }
        if header.unit != self.unit {
            return Err(Malformed::Unit {
                got: header.unit,
                asked: self.unit,
            });
        }
        self.ask.answer(pdu)
    }
}

impl Reply {
    /// The bytes read; empty where the request was a write.
    pub fn data(&self) -> &[u8] {
        self.pdu.get(2..).unwrap_or_default()
    }
}

impl Reply {
    /// Everything behind the function.
    pub fn body(&self) -> &[u8] {
        self.pdu.get(1..).unwrap_or_default()
    }
}

impl Line {
    /// A line over a connection that nobody else uses.
    pub fn new(context: Context, connection: Connection, pause: Duration) -> Self {
        Self {
            context,
            connection,
            pause,
            wire: RequestLock::default(),
        }
    }

    /// Drops a stream that another incarnation or configuration opened: answers to its requests may be on the way, and
    /// nothing is known of them here.
    pub fn begin_anew(&self) {
        self.connection.reset();
    }

    /// Waits for the line. It is ours until the exchange is dropped; hold it for one request, or for those that belong
    /// together.
    pub async fn exchange(&self, priority: Priority) -> Exchange<'_> {
        Exchange {
            line: self,
            wire: self.wire.lock(priority).await,
        }
    }
}

impl Exchange<'_> {
    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, unit: u8, timeout: Duration, ask: Ask) -> Result<Reply, Failure> {
        if let Some(moment) = self.wire.quiet_until.take() {
            self.line.context.sleep_until(moment).await;
        }
        let stream = self.stream(timeout).await?;
        self.wire.transaction = self.wire.transaction.wrapping_add(1);
        let question = Question {
            transaction: self.wire.transaction,
            unit,
            ask,
        };
        self.wire.asked = Some(question.clone());

        let context = &self.line.context;
        let sent = context.now();
        let mut begun = false;
        let answer = self.wire.send_and_receive(&stream, &question, &mut begun);
        let outcome = match context.deadline(sent + timeout, answer).await {
            Ok(Ok(pdu)) => Ok(Reply {
                pdu,
                round_trip: context.now() - sent,
            }),
            Ok(Err(failure)) => Err(failure),
            Err(_) if begun => Err(Failure::CutShort),
            Err(_) => Err(Failure::Timeout(timeout)),
        };
        self.settle(&stream, question, outcome.as_ref().err());
        outcome
    }

    /// The stream, once there is one. After our own reset and at the very first the host is dialling right now, so it is worth
    /// waiting; in all other cases the device is away, and who asks is told at once.
    async fn stream(&mut self, timeout: Duration) -> Result<Stream, Failure> {
        let Line {
            context,
            connection,
            ..
        } = self.line;
        let dialling =
            |closed: Closed| matches!(closed.reason, None | Some(CloseReason::Requested));
        let stream = match connection.stream() {
            Ok(stream) => stream,
            Err(closed) if dialling(closed) => {
                match context.timeout(timeout, connection.opened()).await {
                    Ok(opened) => opened?,
                    Err(_) => connection.stream()?,
                }
            }
            Err(closed) => return Err(closed.into()),
        };
        let wire = &mut *self.wire;
        let same = wire.stream.as_ref().is_some_and(Stream::is_open);
        if same && wire.asked.take().is_some() {
            // Whoever asked was dropped, perhaps in the middle of a frame.
            stream.reset();
            return Err(Closed {
                reason: Some(CloseReason::Requested),
            }
            .into());
        }
        if !same {
            wire.asked = None;
            wire.late.clear();
            wire.unanswered.clear();
            wire.stream = Some(stream.clone());
        }
        Ok(stream)
    }

    /// What an exchange leaves behind for the next one.
    fn settle(&mut self, stream: &Stream, question: Question, failure: Option<&Failure>) {
        let wire = &mut *self.wire;
        wire.asked = None;
        if !self.line.pause.is_zero() {
            wire.quiet_until = Some(self.line.context.now() + self.line.pause);
        }
        match failure {
            None | Some(Failure::Exception(_) | Failure::NotConnected(_) | Failure::Overdue) => {}
            Some(Failure::Timeout(_)) => {
                let unanswered = wire.unanswered.entry(question.unit).or_default();
                *unanswered += 1;
                if *unanswered >= MOST_UNANSWERED {
                    self.line.context.warn(format!(
                        "unit {}: {MOST_UNANSWERED} requests without any answer: dialling anew",
                        question.unit
                    ));
                    stream.reset();
                }
                if wire.late.len() == MOST_LATE {
                    wire.late.pop_front();
                }
                wire.late.push_back(question);
            }
            Some(failure @ (Failure::CutShort | Failure::Malformed(_))) => {
                self.line
                    .context
                    .warn(format!("unit {}: {failure}: dialling anew", question.unit));
                stream.reset();
            }
        }
    }
}

impl Wire {
    /// Sends the request and waits for its answer, past those that come too late. `begun` tells whether a frame, in either
    /// direction, has begun that has not ended.
    async fn send_and_receive(
        &mut self,
        stream: &Stream,
        question: &Question,
        begun: &mut bool,
    ) -> Result<Vec<u8>, Failure> {
        *begun = true;
        let frame = question.ask.encode(question.transaction, question.unit);
        stream.write_all(&frame).await?;
        *begun = false;
        loop {
            let [t0] = stream.read_array().await.map_err(closed)?;
            *begun = true;
            let [t1, p0, p1, l0, l1, unit] = stream.read_array().await.map_err(closed)?;
            let header = Header::decode([t0, t1, p0, p1, l0, l1, unit])?;
            let pdu = stream.read_exact(header.length).await.map_err(closed)?;
            *begun = false;
            self.unanswered.clear();
            if self.was_late(header, &pdu) {
                continue;
            }
            return match question.check(header, &pdu)? {
                Answer::Exception(code) => Err(Failure::Exception(Exception(code))),
                Answer::Data(_) | Answer::Written => Ok(pdu),
            };
        }
    }

    /// Whether the frame answers a request that timed out; if so, that one is answered now.
    fn was_late(&mut self, header: Header, pdu: &[u8]) -> bool {
        let place = self
            .late
            .iter()
            .position(|late| late.check(header, pdu).is_ok());
        place.is_some_and(|place| self.late.remove(place).is_some())
    }
}

/// Frames are far shorter than what the stream takes, so a read fails only with the stream.
fn closed(error: LinkError) -> Failure {
    match error {
        LinkError::Closed(closed) => Failure::NotConnected(closed),
        LinkError::TooLong { .. } => Failure::CutShort,
    }
}
