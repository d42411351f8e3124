//! The connection, with one request on the way at a time, unless the operator says more.
//!
//! Many gateways and devices handle one request after the other whatever the protocol allows, so nothing is gained by
//! sending more, and much is lost: with one request on the way it is always known what the next bytes must be.
//! Between requests the lock is free, and a write that waits goes before all polls.
//!
//! Where the operator knows that a unit takes several (`requests_at_once`), reads of it are sent in one go, once it has answered
//! one alone on this stream. Where some of them are left unanswered, or the unit is busy, one follows the other until the stream ends, for all
//! units: the answers may have been lost between. Where none is answered the unit may be away, and where the stream ends it may be
//! the network: only the second time in a row is it taken for what it looks like, and in the second case it stays with one by one.
//!
//! `wire` says what becomes of answers that come too late, and of bytes that are no answer. A stream on which three requests to
//! one unit time out without a single frame of any unit between them is dialled anew, since the peer may be gone without a
//! word; a serial line has no peer that could.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use bulkhead_sdk::{
    CloseReason, Closed, Connection, Context, Priority, RequestGuard, RequestLock, Stream,
};

use crate::exception::Exception;
use crate::failure::Failure;
use crate::framing::Framing;
use crate::pdu::Ask;
use crate::wire::{Question, Wire};

/// After so many time-outs of one unit without a frame of any the connection is reset.
const MOST_UNANSWERED: u8 = 3;
/// The same, of units together that have answered on this stream before: where those fall silent, it is the stream.
const MOST_UNANSWERED_OF_LIVING: u8 = 3;

/// The way to some units.
#[derive(Debug)]
pub struct Line {
    context: Context,
    way: Way,
    framing: Framing,
    /// How long to leave the units in peace after each answer.
    pause: Duration,
    wire: RequestLock<Wire>,
}

/// Where its streams come from.
#[derive(Debug)]
pub enum Way {
    /// The host dials, and goes on dialling.
    Dialled(Connection),
    /// The units call in; the newest caller that was found to be theirs.
    CalledIn(RefCell<Option<Connection>>),
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
    /// A line over streams that nobody else uses.
    pub fn new(context: Context, way: Way, framing: Framing, pause: Duration) -> Self {
        let pause = match framing {
            Framing::Tcp => pause,
            Framing::Rtu(rtu) => pause.max(rtu.silence),
        };
        Self {
            context,
            way,
            framing,
            pause,
            wire: RequestLock::default(),
        }
    }

    /// Drops a stream that another incarnation or configuration opened: answers to its requests may be on the way, and
    /// nothing is known of them here.
    pub fn begin_anew(&self) {
        if let Ok(connection) = self.connection() {
            connection.reset();
        }
    }

    /// Leaves a stream behind on which nothing may still come: where anything may, it is dropped.
    pub fn leave(&self) {
        let is_clean = self
            .wire
            .try_lock(Priority::Poll)
            .is_some_and(|wire| wire.is_clean());
        if !is_clean {
            self.begin_anew();
        }
    }

    /// How requests and answers travel.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Waits for the line. It is ours until the exchange is dropped; hold it for one request, or for those that belong
    /// together.
    pub async fn exchange(&self, priority: Priority) -> Exchange<'_> {
        Exchange {
            line: self,
            wire: self.wire.lock(priority).await,
        }
    }

    /// From now on these units are reached over this caller, and over no other before it.
    pub fn take(&self, caller: Connection) {
        if let Way::CalledIn(now) = &self.way {
            now.replace(Some(caller));
        }
    }

    /// Whether there is a stream right now.
    pub fn is_up(&self) -> bool {
        self.connection()
            .is_ok_and(|connection| connection.is_open())
    }

    /// A unit that several requests were under way to at once did not answer all: one follows the other from now on.
    fn slow_down(&self, wire: &mut Wire, unit: u8, why: &str) {
        if wire.ask_one_by_one() {
            self.context.warn(format!(
                "unit {unit} {why} of several requests that were under way at once: asking one by one; lower requests_at_once"
            ));
        }
    }

    fn connection(&self) -> Result<Connection, Failure> {
        match &self.way {
            Way::Dialled(connection) => Ok(connection.clone()),
            Way::CalledIn(caller) => caller.borrow().clone().ok_or(Failure::NobodyCalled),
        }
    }
}

impl Exchange<'_> {
    /// Asks, and waits for the answer.
    ///
    /// To a broadcast there is none: the reply is empty once the units have had the time to act on it.
    pub async fn ask(&mut self, unit: u8, timeout: Duration, ask: Ask) -> Result<Reply, Failure> {
        let Line {
            context, framing, ..
        } = self.line;
        let broadcast = framing.is_broadcast(unit);
        if broadcast && ask.has_data() {
            return Err(Failure::Broadcast);
        }
        if let Some(moment) = self.wire.quiet_until.take() {
            context.sleep_until(moment).await;
        }
        let mut stream = self.stream(timeout).await?;
        let question = self.wire.question(*framing, unit, ask);
        if let Framing::Rtu(rtu) = *framing {
            self.wire.sift(&stream).await?;
            while let Some(moment) = self.wire.in_doubt_until(rtu, context.now(), &question) {
                if rtu.serial {
                    context.sleep_until(moment).await;
                } else {
                    context.debug(format!(
                        "unit {unit}: an answer may still come: dialling anew"
                    ));
                    stream.reset();
                }
                stream = self.stream(timeout).await?;
                self.wire.sift(&stream).await?;
            }
            self.wire.drain(context, &stream, rtu, timeout).await?;
        }

        let sent = context.now();
        let mut begun = false;
        let answer = async {
            if broadcast {
                self.wire
                    .broadcast(&stream, *framing, &question, &mut begun)
                    .await?;
                return Ok(Vec::new());
            }
            self.wire
                .exchange(&stream, *framing, &question, &mut begun)
                .await
        };
        let outcome = match context.deadline(sent + timeout, answer).await {
            Ok(Ok(pdu)) => Ok(Reply {
                pdu,
                round_trip: context.now() - sent,
            }),
            Ok(Err(failure)) => Err(failure),
            Err(_) if begun => Err(Failure::CutShort),
            Err(_) => Err(Failure::Timeout(timeout)),
        };
        self.settle(&stream, unit, [question], timeout, outcome.as_ref().err());
        outcome
    }

    /// Whether a unit may be asked for several things at once right now.
    pub fn takes_at_once(&self, unit: u8) -> bool {
        let stream = self.line.connection().map(|connection| connection.stream());
        let is_same = matches!(stream, Ok(Ok(stream)) if self.wire.is_over(&stream));
        self.line.framing == Framing::Tcp && is_same && self.wire.takes_at_once(unit)
    }

    /// Asks for several things at once. `take` gets each answer when it comes, with the place of what it answers. The time-out
    /// begins anew with each; round trips count from when all were sent. For units of which [`Exchange::takes_at_once`] is true,
    /// on lines without pauses, which the configuration sees to.
    ///
    /// # Errors
    ///
    /// Why those that `take` was not called for were not answered.
    pub async fn ask_at_once(
        &mut self,
        unit: u8,
        timeout: Duration,
        asks: impl IntoIterator<Item = Ask>,
        mut take: impl FnMut(usize, Result<Reply, Exception>),
    ) -> Result<(), Failure> {
        let line = self.line;
        let context = &line.context;
        let stream = self.stream(timeout).await?;
        let wire = &mut *self.wire;
        let questions: Vec<Question> = asks
            .into_iter()
            .map(|ask| wire.question(line.framing, unit, ask))
            .collect();
        let sent = context.now();
        let mut begun = false;
        let asking = wire.ask_at_once(&stream, &questions, &mut begun);
        let mut outcome = context.deadline(sent + timeout, asking).await;
        let mut open = questions.len();
        while open > 0 && matches!(outcome, Ok(Ok(()))) {
            let answer = wire.next_answer(&stream, &mut begun);
            outcome = match context.timeout(timeout, answer).await {
                Ok(Ok((transaction, answer))) => {
                    open -= 1;
                    match answer {
                        Err(Exception::BUSY) => line.slow_down(wire, unit, "was too busy for one"),
                        // Whoever speaks in its place may have waited for it each time.
                        Err(exception) if exception.unit_is_away() => wire.prove_again(unit),
                        _ => {}
                    }
                    let reply = answer.map(|pdu| Reply {
                        pdu,
                        round_trip: context.now() - sent,
                    });
                    let mut asked = questions.iter();
                    if let Some(place) = asked.position(|known| known.transaction == transaction) {
                        take(place, reply);
                    }
                    Ok(Ok(()))
                }
                Ok(Err(failure)) => Ok(Err(failure)),
                Err(elapsed) => Err(elapsed),
            };
        }
        let failure = match outcome {
            Ok(Ok(())) => {
                wire.took_at_once();
                return Ok(());
            }
            Ok(Err(failure)) => failure,
            Err(_) if begun => Failure::CutShort,
            Err(_) => Failure::Timeout(timeout),
        };
        match failure {
            Failure::Timeout(_) if open < questions.len() => {
                line.slow_down(wire, unit, "left one unanswered");
            }
            Failure::Timeout(_) if wire.was_mute_at_once(unit) => {
                line.slow_down(wire, unit, "answered none");
            }
            Failure::Timeout(_) => {}
            _ if wire.broke_at_once() => line.slow_down(wire, unit, "lost the connection to all"),
            _ => {}
        }
        let open = wire.take_asked();
        self.settle(&stream, unit, open, timeout, Some(&failure));
        Err(failure)
    }

    /// Asks without waiting for the answer: who asks next over this line learns whether the unit has answered. For Modbus TCP, whose
    /// answers say what they are answers to.
    pub async fn call(&mut self, unit: u8, timeout: Duration, ask: Ask) -> Result<(), Failure> {
        let Line {
            context, framing, ..
        } = self.line;
        if let Some(moment) = self.wire.quiet_until.take() {
            context.sleep_until(moment).await;
        }
        let stream = self.stream(timeout).await?;
        let question = self.wire.question(*framing, unit, ask);
        let until = context.now() + timeout;
        let called = async {
            // So that what came of earlier ones is known, and makes room.
            self.wire.listen(&stream, &mut false).await?;
            self.wire.call(&stream, *framing, question).await
        };
        let called = match context.deadline(until, called).await {
            Ok(called) => called,
            Err(_) => Err(Failure::CutShort),
        };
        if called.is_err() {
            stream.reset();
        }
        if !self.line.pause.is_zero() {
            self.wire.quiet_until = Some(context.now() + self.line.pause);
        }
        called
    }

    /// Whether units can be called without harm to those that answer, as far as is known of this stream.
    pub fn may_call(&self) -> bool {
        self.wire.may_call()
    }

    /// Takes in what has come by itself: answers that nobody waited for.
    pub async fn listen(&mut self, patience: Duration) -> Result<(), Failure> {
        let context = &self.line.context;
        let stream = self.line.connection()?.stream()?;
        if !self.wire.is_over(&stream) {
            return Ok(());
        }
        let until = context.now() + patience;
        let listened = context
            .deadline(until, self.wire.listen(&stream, &mut false))
            .await;
        let outcome = listened.unwrap_or(Err(Failure::CutShort));
        if outcome.is_err() {
            stream.reset();
        }
        outcome
    }

    /// Units that have answered what nobody waited for any more, since this was last asked.
    pub fn take_heard(&mut self) -> BTreeSet<u8> {
        self.wire.take_heard()
    }

    /// The stream, once there is one. Where the host is dialling right now it is worth waiting for how that ends; in all other
    /// cases the device is away or given up, and who asks is told at once.
    async fn stream(&mut self, timeout: Duration) -> Result<Stream, Failure> {
        let Line {
            context, framing, ..
        } = self.line;
        let connection = self.line.connection()?;
        let stream = match connection.stream() {
            Ok(stream) => stream,
            Err(closed) if closed.is_dialling() => {
                match context.timeout(timeout, connection.dialled()).await {
                    Ok(dialled) => dialled?,
                    Err(_) => connection.stream()?,
                }
            }
            Err(closed) => return Err(closed.into()),
        };
        let wire = &mut *self.wire;
        if !wire.is_over(&stream) {
            wire.begin(stream.clone(), *framing);
            return Ok(stream);
        }
        let abandoned = wire.abandoned();
        if let Some(first) = abandoned.first() {
            if !framing.is_serial() {
                stream.reset();
                return Err(Closed::redialling(CloseReason::Requested).into());
            }
            wire.soil();
            wire.timed_out(first.unit, abandoned, context.now() + timeout);
        }
        Ok(stream)
    }

    /// What an exchange leaves behind for the next one.
    fn settle(
        &mut self,
        stream: &Stream,
        unit: u8,
        questions: impl IntoIterator<Item = Question>,
        timeout: Duration,
        failure: Option<&Failure>,
    ) {
        let Line {
            context, framing, ..
        } = self.line;
        let wire = &mut *self.wire;
        let pause = match framing {
            Framing::Rtu(rtu) if framing.is_broadcast(unit) => self.line.pause.max(rtu.turnaround),
            _ => self.line.pause,
        };
        if !pause.is_zero() {
            wire.quiet_until = Some(context.now() + pause);
        }
        match failure {
            None => wire.answered(*framing, unit, !framing.is_broadcast(unit)),
            Some(Failure::Exception(exception)) => {
                wire.answered(*framing, unit, !exception.unit_is_away());
            }
            Some(Failure::Timeout(_)) => {
                let crowded = wire.is_full() && *framing != Framing::Tcp;
                let unanswered = wire.timed_out(unit, questions, context.now() + timeout);
                let is_lost = unanswered.of_unit >= MOST_UNANSWERED
                    || unanswered.of_living >= MOST_UNANSWERED_OF_LIVING;
                if (is_lost || crowded) && !framing.is_serial() {
                    let count = unanswered.of_unit.max(unanswered.of_living);
                    context.warn(format!(
                        "unit {unit}: {count} requests without any answer: dialling anew"
                    ));
                    stream.reset();
                }
            }
            Some(failure @ (Failure::CutShort | Failure::Malformed(_))) => {
                wire.gave_up();
                if framing.is_serial() {
                    context.warn(format!("unit {unit}: {failure}: waiting for silence"));
                    wire.soil();
                } else {
                    context.warn(format!("unit {unit}: {failure}: dialling anew"));
                    stream.reset();
                }
            }
            Some(_) => wire.gave_up(),
        }
    }
}
