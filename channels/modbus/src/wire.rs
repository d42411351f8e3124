//! What is known of the bytes on one stream: what was asked and not answered, and whether it is clean.
//!
//! # What comes too late
//!
//! The answer to a request that timed out may still come, and must not be taken for the next one's. A gateway with
//! several units behind it answers late as a rule where one unit is dead, and resetting the connection each time
//! would make the living units pay for it. So a request that timed out is remembered, and a frame that is in every byte
//! an answer to that very request is read whole and thrown away, once.
//!
//! Modbus TCP numbers its requests, so that this is safe at any time. RTU does not: a late answer to a request looks like
//! the answer to the next one of the same unit and function. The unit is then *in doubt*, and what could be mistaken is not asked before
//! the doubt is gone:
//!
//! - On a stream it goes with the stream, which is dialled anew. It also goes by itself, where an answer to a later
//!   request has overtaken the late one (streams keep their order) and the unit has had its time-out once more.
//! - On a serial line nothing but the unit itself can be late, so it goes with that time; and the line is ours while it passes.
//! - In both cases an answer of that unit to another function ends it, since a unit handles one request after the other.
//!
//! # What is not the answer
//!
//! A stream that is out of step once can look right by chance later. So everything that is not the answer (another
//! transaction, unit, function, length, count or checksum; a frame that stops in the middle) leaves the wire *unclean*. A stream is then
//! dropped; a serial line is drained until it falls silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bulkhead_sdk::{Context, Instant, LinkError, Stream};

use crate::exception::Exception;
use crate::failure::Failure;
use crate::framing::{Framing, Rtu};
use crate::mbap::{self, Header};
use crate::pdu::{Answer, Ask, Malformed};
use crate::rtu;
use crate::settings::MOST_AT_ONCE;

/// How many requests are remembered whose answers nobody waits for.
const MOST_CALLED: usize = 256;
/// How many requests that timed out are remembered, besides those that were under way at once.
const MOST_LATE: usize = 16;
/// After so many times in a row that several requests at once were all lost, or took the stream with them, it was no coincidence.
const MOST_AT_ONCE_LOST: u8 = 2;
/// A line that was out of step is clean after so much silence: several times what separates two frames on the slowest lines,
/// and what USB adapters gather before they hand it on.
const SILENCE_AFTER_FAULT: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The one that the rest is about. A new stream begins with nothing known.
    stream: Option<Stream>,
    /// The last transaction used.
    transaction: u16,
    /// The requests on the way. Still there when the next begins only if whoever sent them was dropped.
    asked: Vec<Question>,
    /// Those that timed out, the oldest first.
    late: VecDeque<Late>,
    /// How many timed out since the last frame, by unit.
    unanswered: BTreeMap<u8, u8>,
    /// Transactions and units of requests whose answers nobody waits for, the oldest first.
    called: VecDeque<(u16, u8)>,
    /// Whether one that answers did not while such a request was under way: behind this stream they take turns.
    calls_hurt: bool,
    /// Units that have answered a request that was alone on its way, and so may be asked for several things at once.
    proved: BTreeSet<u8>,
    /// How often requests that were under way at once were all left unanswered, since the last that were all answered.
    mute_at_once: u8,
    /// How many streams in a row have ended or gone wrong with several requests under way. Outlives them.
    broken_at_once: u8,
    /// Whether one request follows the other behind this stream, since several at once have come to nothing.
    one_by_one: bool,
    /// Units that have answered on this stream.
    spoke: BTreeSet<u8>,
    /// Units that have answered what nobody waited for any more, until somebody asks who they are.
    heard: BTreeSet<u8>,
    /// When the next request may be sent.
    pub(crate) quiet_until: Option<Instant>,
    /// A serial line on which bytes may come that nobody asked for.
    unclean: bool,
}

/// Requests without an answer since the last frame of any unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// Of one unit.
    pub(crate) of_unit: u8,
    /// Of all together that have answered on this stream before.
    pub(crate) of_living: u8,
}

/// A request, and whom it is for.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) transaction: u16,
    pub(crate) unit: u8,
    ask: Ask,
}

#[derive(Debug)]
struct Late {
    question: Question,
    /// From then on the unit itself cannot answer it any more.
    until: Instant,
    /// A later request was answered.
    overtaken: bool,
}

impl Question {
    /// Whether the frame is in every byte an answer to this.
    fn check<'a>(
        &self,
        transaction: u16,
        unit: u8,
        pdu: &'a [u8],
    ) -> Result<Answer<'a>, Malformed> {
        if transaction != self.transaction {
            return Err(Malformed::Transaction {
                got: transaction,
                asked: self.transaction,
            });
        }
        if unit != self.unit {
            return Err(Malformed::Unit {
                got: unit,
                asked: self.unit,
            });
        }
        self.ask.answer(pdu)
    }

    fn frame(&self, framing: Framing) -> Vec<u8> {
        match framing {
            Framing::Tcp => mbap::frame(self.transaction, self.unit, &self.ask),
            Framing::Rtu(_) => rtu::frame(self.unit, &self.ask),
        }
    }
}

impl Wire {
    /// Whether the stream is the one that all this is about, and still up.
    ///
    /// Two streams are up at once where units call in, and the newer caller has just replaced the older.
    pub(crate) fn is_over(&self, stream: &Stream) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|known| known.is_same(stream) && known.is_open())
    }

    /// Begins with a stream of which nothing is known.
    pub(crate) fn begin(&mut self, stream: Stream, framing: Framing) {
        self.asked.clear();
        self.late.clear();
        self.unanswered.clear();
        self.spoke.clear();
        self.called.clear();
        self.calls_hurt = false;
        self.proved.clear();
        self.mute_at_once = 0;
        self.one_by_one = self.broken_at_once >= MOST_AT_ONCE_LOST;
        self.unclean = framing.is_serial();
        self.stream = Some(stream);
    }

    /// What was asked last, where whoever asked was dropped, perhaps in the middle of a frame.
    pub(crate) fn abandoned(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.asked)
    }

    /// Whether nothing may still come that was asked for, and nothing has come that was not.
    pub(crate) fn is_clean(&self) -> bool {
        let unread = self.stream.as_ref().map_or(0, Stream::unread);
        self.asked.is_empty()
            && self.late.is_empty()
            && self.called.is_empty()
            && self.unanswered.is_empty()
            && !self.unclean
            && unread == 0
    }

    /// A serial line must fall silent before the next request.
    pub(crate) fn soil(&mut self) {
        self.unclean = true;
    }

    /// A request of its own number, which no other has that may still be answered.
    pub(crate) fn question(&mut self, framing: Framing, unit: u8, ask: Ask) -> Question {
        if framing == Framing::Tcp {
            self.transaction = self.transaction.wrapping_add(1);
            while self.may_come(self.transaction) {
                self.transaction = self.transaction.wrapping_add(1);
            }
        }
        Question {
            transaction: self.transaction,
            unit,
            ask,
        }
    }

    /// Whether the answer to a request of this number that nobody waits for may still come.
    fn may_come(&self, transaction: u16) -> bool {
        self.called.iter().any(|(called, _)| *called == transaction)
            || (self.late.iter()).any(|late| late.question.transaction == transaction)
    }

    /// Until when a late answer could be taken for the answer to this, if one could. What is in doubt no more is forgotten.
    pub(crate) fn in_doubt_until(
        &mut self,
        rtu: Rtu,
        now: Instant,
        question: &Question,
    ) -> Option<Instant> {
        self.late
            .retain(|late| now < late.until || !(late.overtaken || rtu.serial));
        let doubtful = |late: &&Late| {
            late.question.unit == question.unit
                && late.question.ask.function() == question.ask.function()
        };
        let doubtful = self.late.iter().filter(doubtful);
        doubtful.map(|late| late.until).max()
    }

    /// Throws away what has come unasked. Answers that come too late are answered by it.
    pub(crate) async fn sift(&mut self, stream: &Stream) -> Result<(), Failure> {
        while stream.unread() > 0 {
            let bytes = stream.read_some(usize::MAX).await.map_err(closed)?;
            self.unclean |= !self.were_late(&bytes);
        }
        Ok(())
    }

    /// On a serial line more may follow of what has come unasked, so that one is drained until it is silent.
    pub(crate) async fn drain(
        &mut self,
        context: &Context,
        stream: &Stream,
        rtu: Rtu,
        patience: Duration,
    ) -> Result<(), Failure> {
        if !self.unclean || !rtu.serial {
            self.unclean = false;
            return Ok(());
        }
        let silence = rtu.silence.max(SILENCE_AFTER_FAULT);
        let drained = async {
            loop {
                match context.timeout(silence, stream.read_some(usize::MAX)).await {
                    Err(_silent) => return Ok::<(), Failure>(()),
                    Ok(read) => read.map(drop).map_err(closed)?,
                }
            }
        };
        match context.timeout(patience.max(2 * silence), drained).await {
            Ok(drained) => drained?,
            Err(_) => return Err(Failure::Noise),
        }
        self.unclean = false;
        Ok(())
    }

    /// Whether the bytes are whole answers to requests that timed out, which are answered now.
    fn were_late(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let mut length = 0;
            while let Some(begun) = bytes.get(..length) {
                match rtu::missing(begun) {
                    Ok(0) => break,
                    Ok(missing) => length += missing,
                    Err(_) => return false,
                }
            }
            let Some((frame, rest)) = bytes.split_at_checked(length) else {
                return false;
            };
            match rtu::open(frame) {
                Ok((unit, pdu)) if self.was_late(0, unit, pdu) => bytes = rest,
                _ => return false,
            }
        }
        true
    }

    /// Sends the request and waits for its answer, past those that come too late. `begun` tells whether a frame, in either
    /// direction, has begun that has not ended.
    pub(crate) async fn exchange(
        &mut self,
        stream: &Stream,
        framing: Framing,
        question: &Question,
        begun: &mut bool,
    ) -> Result<Vec<u8>, Failure> {
        self.asked = vec![question.clone()];
        if framing == Framing::Tcp {
            // What is here before the question is no answer to it, whatever number it has.
            self.listen(stream, begun).await?;
        }
        let request = question.frame(framing);
        *begun = true;
        stream.write_all(&request).await?;
        *begun = false;
        if let Framing::Rtu(Rtu { echo: true, .. }) = framing {
            *begun = true;
            let echo = stream.read_exact(request.len()).await.map_err(closed)?;
            *begun = false;
            if echo != request {
                return Err(Malformed::NoLineEcho.into());
            }
        }
        loop {
            let (transaction, unit, pdu) = match framing {
                Framing::Tcp => mbap_frame(stream, begun).await?,
                Framing::Rtu(_) => self.rtu_frame(stream, question, &request, begun).await?,
            };
            *begun = false;
            self.unanswered.clear();
            if self.was_late(transaction, unit, &pdu) {
                continue;
            }
            return match question.check(transaction, unit, &pdu)? {
                Answer::Exception(code) => Err(Failure::Exception(Exception(code))),
                Answer::Data(_) | Answer::Written => Ok(pdu),
            };
        }
    }

    /// Sends requests in one go. Their answers come in any order, each known by its number; see [`Wire::next_answer`].
    pub(crate) async fn ask_at_once(
        &mut self,
        stream: &Stream,
        questions: &[Question],
        begun: &mut bool,
    ) -> Result<(), Failure> {
        self.asked = questions.to_vec();
        // What is here before the questions is no answer to them, whatever number it has.
        self.listen(stream, begun).await?;
        let frames: Vec<u8> = questions
            .iter()
            .flat_map(|question| question.frame(Framing::Tcp))
            .collect();
        *begun = true;
        stream.write_all(&frames).await?;
        *begun = false;
        Ok(())
    }

    /// Waits for the answer to any of the requests on the way, past those that come too late. Says to which transaction.
    pub(crate) async fn next_answer(
        &mut self,
        stream: &Stream,
        begun: &mut bool,
    ) -> Result<(u16, Result<Vec<u8>, Exception>), Failure> {
        loop {
            let (transaction, unit, pdu) = mbap_frame(stream, begun).await?;
            *begun = false;
            self.unanswered.clear();
            if self.was_late(transaction, unit, &pdu) {
                continue;
            }
            let mut asked = self.asked.iter();
            let Some(place) = asked.position(|asked| asked.transaction == transaction) else {
                return Err(Malformed::Transaction {
                    got: transaction,
                    asked: self.transaction,
                }
                .into());
            };
            let answer = match self.asked[place].check(transaction, unit, &pdu)? {
                Answer::Exception(code) => Err(Exception(code)),
                Answer::Data(_) | Answer::Written => Ok(pdu),
            };
            self.asked.remove(place);
            if !matches!(answer, Err(exception) if exception.unit_is_away()) {
                self.spoke.insert(unit);
            }
            return Ok((transaction, answer));
        }
    }

    /// Whether a unit may be asked for several things at once: one that has answered one request on this stream.
    pub(crate) fn takes_at_once(&self, unit: u8) -> bool {
        self.proved.contains(&unit) && !self.one_by_one
    }

    /// Several requests to a unit have all been answered.
    pub(crate) fn took_at_once(&mut self) {
        self.mute_at_once = 0;
        self.broken_at_once = 0;
    }

    /// A unit must answer one request alone before it is asked for several things at once again.
    pub(crate) fn prove_again(&mut self, unit: u8) {
        self.proved.remove(&unit);
    }

    /// One follows the other from now on. Says whether that is new.
    pub(crate) fn ask_one_by_one(&mut self) -> bool {
        !std::mem::replace(&mut self.one_by_one, true)
    }

    /// Several requests at once were all left unanswered, as by a unit that is away. Says whether it can be that no more.
    pub(crate) fn was_mute_at_once(&mut self, unit: u8) -> bool {
        self.prove_again(unit);
        self.mute_at_once = self.mute_at_once.saturating_add(1);
        self.mute_at_once >= MOST_AT_ONCE_LOST
    }

    /// The stream ended or went wrong while several requests were under way. Says whether that has become a habit.
    pub(crate) fn broke_at_once(&mut self) -> bool {
        self.broken_at_once = self.broken_at_once.saturating_add(1);
        self.broken_at_once == MOST_AT_ONCE_LOST
    }

    /// Sends a request whose answer nobody waits for. It may come at any time until the stream ends, and is known by its number.
    pub(crate) async fn call(
        &mut self,
        stream: &Stream,
        framing: Framing,
        question: Question,
    ) -> Result<(), Failure> {
        self.asked = vec![question.clone()];
        stream.write_all(&question.frame(framing)).await?;
        self.asked.clear();
        if self.called.len() == MOST_CALLED {
            self.called.pop_front();
        }
        self.called.push_back((question.transaction, question.unit));
        Ok(())
    }

    /// Reads the frames that have come, each of which must answer something that was asked.
    pub(crate) async fn listen(
        &mut self,
        stream: &Stream,
        begun: &mut bool,
    ) -> Result<(), Failure> {
        while stream.unread() > 0 {
            let (transaction, unit, pdu) = mbap_frame(stream, begun).await?;
            *begun = false;
            self.unanswered.clear();
            if !self.was_late(transaction, unit, &pdu) {
                return Err(Malformed::Transaction {
                    got: transaction,
                    asked: self.transaction,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Sends to all units. Nobody answers.
    pub(crate) async fn broadcast(
        &mut self,
        stream: &Stream,
        framing: Framing,
        question: &Question,
        begun: &mut bool,
    ) -> Result<(), Failure> {
        self.asked = vec![question.clone()];
        let request = question.frame(framing);
        *begun = true;
        stream.write_all(&request).await?;
        if let Framing::Rtu(Rtu { echo: true, .. }) = framing {
            let echo = stream.read_exact(request.len()).await.map_err(closed)?;
            if echo != request {
                return Err(Malformed::NoLineEcho.into());
            }
        }
        *begun = false;
        Ok(())
    }

    async fn rtu_frame(
        &self,
        stream: &Stream,
        question: &Question,
        request: &[u8],
        begun: &mut bool,
    ) -> Result<(u16, u8, Vec<u8>), Failure> {
        let mut frame = Vec::with_capacity(16);
        let whole = loop {
            let missing = match rtu::missing(&frame).and_then(|missing| {
                self.expects(&frame, question)?;
                Ok(missing)
            }) {
                Ok(0) => break rtu::open(&frame),
                Ok(missing) => missing,
                Err(malformed) => break Err(malformed),
            };
            frame.extend(stream.read_exact(missing).await.map_err(closed)?);
            *begun = true;
        };
        match whole {
            Ok((unit, pdu)) => Ok((0, unit, pdu.to_vec())),
            Err(malformed) => {
                if stream.unread() > 0 {
                    frame.extend(stream.read_some(usize::MAX).await.map_err(closed)?);
                }
                if frame.starts_with(request) {
                    return Err(Malformed::LineEcho.into());
                }
                Err(malformed.into())
            }
        }
    }

    /// Whether anybody that was asked would begin an answer like this. What nobody would need not be read to its supposed end, which
    /// may never come.
    fn expects(&self, begun: &[u8], question: &Question) -> Result<(), Malformed> {
        let late = || self.late.iter().map(|late| &late.question);
        let Some((&unit, rest)) = begun.split_first() else {
            return Ok(());
        };
        if unit != question.unit && late().all(|late| late.unit != unit) {
            return Err(Malformed::Unit {
                got: unit,
                asked: question.unit,
            });
        }
        let Some(function) = rest.first().map(|function| function & 0x7f) else {
            return Ok(());
        };
        let fits = |asked: &Question| asked.unit == unit && asked.ask.function() == function;
        if !fits(question) && !late().any(fits) {
            return Err(Malformed::Function {
                got: rest[0],
                asked: question.ask.function(),
            });
        }
        Ok(())
    }

    /// Whether the frame answers a request that timed out, or one that nobody waits for; if so, that one is answered now.
    fn was_late(&mut self, transaction: u16, unit: u8, pdu: &[u8]) -> bool {
        let mut called = self.called.iter();
        // Its number and its unit say whose it is; what it says does not matter any more.
        let by_gateway = if let Some(place) = called.position(|known| *known == (transaction, unit))
        {
            self.called.remove(place);
            matches!(pdu, [function, code, ..] if function & 0x80 != 0 && Exception(*code).unit_is_away())
        } else {
            let answer = |late: &Late| late.question.check(transaction, unit, pdu).ok();
            let mut found = self.late.iter().enumerate();
            let Some((place, answer)) =
                found.find_map(|(place, late)| Some((place, answer(late)?)))
            else {
                return false;
            };
            let by_gateway =
                matches!(answer, Answer::Exception(code) if Exception(code).unit_is_away());
            self.late.remove(place);
            by_gateway
        };
        // A gateway that speaks in the place of a unit says that the unit does not.
        if !by_gateway {
            self.spoke.insert(unit);
            self.heard.insert(unit);
        }
        true
    }

    /// Whether requests whose answers nobody waits for cost the units that answer nothing, as far as is known.
    pub(crate) fn may_call(&self) -> bool {
        !self.calls_hurt
    }

    /// The units that have answered what nobody waited for any more, since this was last asked.
    pub(crate) fn take_heard(&mut self) -> BTreeSet<u8> {
        std::mem::take(&mut self.heard)
    }

    /// The requests that are still on the way, of which nothing more is to be expected in time.
    pub(crate) fn take_asked(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.asked)
    }

    /// The request on the way was answered: by the unit itself, or by a gateway in its place.
    pub(crate) fn answered(&mut self, framing: Framing, unit: u8, by_itself: bool) {
        self.asked.clear();
        if by_itself {
            self.spoke.insert(unit);
            self.proved.insert(unit);
        }
        if framing != Framing::Tcp {
            self.late
                .retain(|late| !by_itself || late.question.unit != unit);
            for late in &mut self.late {
                late.overtaken = true;
            }
        }
    }

    /// Nothing more is to be expected of the request on the way.
    pub(crate) fn gave_up(&mut self) {
        self.asked.clear();
    }

    /// The requests on the way, all of one unit, were not answered in time, which counts once. Answers how often that was so of
    /// this unit without a frame of any.
    pub(crate) fn timed_out(
        &mut self,
        unit: u8,
        questions: impl IntoIterator<Item = Question>,
        until: Instant,
    ) -> Unanswered {
        self.asked.clear();
        self.calls_hurt |= !self.called.is_empty() && self.spoke.contains(&unit);
        let unanswered = self.unanswered.entry(unit).or_default();
        *unanswered = unanswered.saturating_add(1);
        let unanswered = Unanswered {
            of_unit: *unanswered,
            of_living: (self.unanswered.iter())
                .filter(|(unit, _)| self.spoke.contains(unit))
                .fold(0, |sum, (_, more)| sum.saturating_add(*more)),
        };
        for question in questions {
            self.remember(question, until);
        }
        unanswered
    }

    /// An answer to this may still come.
    fn remember(&mut self, question: Question, until: Instant) {
        if self.late.len() == MOST_LATE + usize::from(MOST_AT_ONCE) {
            self.late.pop_front();
        }
        self.late.push_back(Late {
            question,
            until,
            overtaken: false,
        });
    }

    /// Whether one more would make the oldest late request forgotten.
    pub(crate) fn is_full(&self) -> bool {
        self.late.len() >= MOST_LATE
    }
}

async fn mbap_frame(stream: &Stream, begun: &mut bool) -> Result<(u16, u8, Vec<u8>), Failure> {
    let [t0] = stream.read_array().await.map_err(closed)?;
    *begun = true;
    let [t1, p0, p1, l0, l1, unit] = stream.read_array().await.map_err(closed)?;
    let header = Header::decode([t0, t1, p0, p1, l0, l1, unit])?;
    let pdu = stream.read_exact(header.length).await.map_err(closed)?;
    Ok((header.transaction, header.unit, pdu))
}

/// Frames are far shorter than what the stream takes, so a read fails only with the stream.
fn closed(error: LinkError) -> Failure {
    match error {
        LinkError::Closed(closed) => Failure::NotConnected(closed),
        LinkError::TooLong { .. } => Failure::CutShort,
    }
}
