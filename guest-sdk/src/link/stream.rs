//! One life of a connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::table::FIRST_ACCEPTED;
use crate::abi::{Action, CloseReason, ConnectionId, Pause, Probe, Send};
use crate::error::{Closed, LinkError};
use crate::lock::{Priority, RequestLock};
use crate::shared::Shared;
use crate::time;
use crate::wakers::Wakers;

/// The most that one read takes, in bytes.
///
/// A stream that holds more than this unread is paused, so that the peer feels it, and resumed at half of it. What the host had
/// received before it heard of the pause still arrives.
pub const MAX_READ: usize = 1024 * 1024;

/// Datagrams that may wait to be taken before receiving is paused.
const MAX_DATAGRAMS: usize = 1024;

/// The most that one `send` takes, in bytes.
const MAX_SEND: usize = 1024 * 1024;

/// What came in one piece over a datagram link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it, as an address with a port.
    pub peer: String,
    /// May be empty.
    pub bytes: Vec<u8>,
}

/// What the streams of one life share with the table.
pub(super) struct Life {
    id: ConnectionId,
    peer: String,
    /// Whether TLS is on.
    secured: bool,
    /// Whether an incarnation before has used it.
    inherited: bool,
    /// Why it ended, if it has.
    ended: Cell<Option<Closed>>,
    input: RefCell<Input>,
    /// On a datagram link, in place of `input`.
    datagrams: RefCell<VecDeque<Datagram>>,
    /// How many bytes the host takes right now.
    credit: Cell<u32>,
    /// Who writes; others wait in line, so that no two messages mix.
    writer: RequestLock<()>,
    /// The driver wants to receive nothing.
    paused: Cell<bool>,
    /// The host was last told to receive nothing.
    pause_told: Cell<bool>,
    changed: Wakers,
}

/// Bytes that have arrived and were not read.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    /// How many of them were read after all.
    start: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn append(&mut self, bytes: Vec<u8>) {
        if self.start == self.bytes.len() {
            self.bytes = bytes;
        } else {
            self.bytes.drain(..self.start);
            self.bytes.extend_from_slice(&bytes);
        }
        self.start = 0;
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread()[..count].to_vec();
        self.start += count;
        taken
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// A stream that has come up.
pub(super) struct Up {
    pub(super) id: ConnectionId,
    pub(super) peer: String,
    pub(super) secured: bool,
    pub(super) window: u32,
    pub(super) inherited: bool,
}

impl Life {
    pub(super) fn new(up: Up) -> Rc<Self> {
        let Up {
            id,
            peer,
            secured,
            window,
            inherited,
        } = up;
        Rc::new(Self {
            id,
            peer,
            secured,
            inherited,
            ended: Cell::new(None),
            input: RefCell::default(),
            datagrams: RefCell::default(),
            credit: Cell::new(window),
            writer: RequestLock::new(()),
            paused: Cell::new(false),
            pause_told: Cell::new(false),
            changed: Wakers::default(),
        })
    }

    /// What the stream goes on as after all, of which nothing more was to be read.
    pub(super) fn revived(&self) -> Rc<Self> {
        let life = Self::new(Up {
            id: self.id,
            peer: self.peer.clone(),
            secured: self.secured,
            window: self.credit.get(),
            inherited: self.inherited,
        });
        life.paused.set(self.paused.get());
        life.pause_told.set(self.pause_told.get());
        life
    }

    pub(super) fn ended(&self) -> Option<Closed> {
        self.ended.get()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(super) fn end(&self, closed: Closed) {
        if self.ended.get().is_none() {
            self.ended.set(Some(closed));
            self.changed.wake();
        }
    }

    /// Nothing more is read from it, so that what somebody has slipped in before is not taken for what came under TLS.
    pub(super) fn start_tls(&self, shared: &Shared) {
        self.input.borrow_mut().clear();
        self.end(Closed::redialling(CloseReason::Requested));
        shared.push(Action::StartTls(self.id));
    }

    pub(super) fn reset(&self, shared: &Shared) {
        if !self.has_ended() {
            self.input.borrow_mut().clear();
            self.datagrams.borrow_mut().clear();
            // A device that called in is not called back.
            let closed = match self.id < FIRST_ACCEPTED {
                true => Closed::redialling(CloseReason::Requested),
                false => Closed::ended(CloseReason::Requested),
            };
            self.end(closed);
            shared.push(Action::Reset(self.id));
        }
    }

    pub(super) fn received(&self, shared: &Shared, bytes: Vec<u8>) {
        if !self.has_ended() {
            self.input.borrow_mut().append(bytes);
            self.tell_pause(shared);
            self.changed.wake();
        }
    }

    pub(super) fn received_datagram(&self, shared: &Shared, datagram: Datagram) {
        if !self.has_ended() {
            self.datagrams.borrow_mut().push_back(datagram);
            self.tell_pause(shared);
            self.changed.wake();
        }
    }

    pub(super) fn credited(&self, bytes: u32) {
        self.credit.set(self.credit.get().saturating_add(bytes));
        self.changed.wake();
    }

    /// A new life begins under the same id: a pause that this one asked for must not outlive it.
    pub(super) fn tell_resume(&self, shared: &Shared) {
        if self.pause_told.replace(false) {
            shared.push(Action::Pause(Pause {
                connection: self.id,
                on: false,
            }));
        }
    }

    /// Tells the host to pause or to resume, where that has changed.
    pub(super) fn tell_pause(&self, shared: &Shared) {
        if self.has_ended() {
            return;
        }
        let unread = self.input.borrow().unread().len();
        let told = self.pause_told.get();
        let full = unread > if told { MAX_READ / 2 } else { MAX_READ };
        let datagrams = self.datagrams.borrow().len();
        let crowded = datagrams
            >= if told {
                MAX_DATAGRAMS / 2
            } else {
                MAX_DATAGRAMS
            };
        let wanted = self.paused.get() || full || crowded;
        if wanted != told {
            self.pause_told.set(wanted);
            shared.push(Action::Pause(Pause {
                connection: self.id,
                on: wanted,
            }));
        }
    }
}

/// One life of a [`Connection`](super::Connection), from the moment that it is up to the moment that it is down. Clones are
/// handles to the same one.
///
/// When it has ended, what had arrived before can still be read; after that every call answers [`Closed`].
/// Only [`reset`](Self::reset) throws unread bytes away.
#[derive(Clone)]
pub struct Stream {
    shared: Rc<Shared>,
    life: Rc<Life>,
}

impl Stream {
    pub(super) fn new(shared: Rc<Shared>, life: Rc<Life>) -> Self {
        Self { shared, life }
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        !self.life.has_ended()
    }

    /// Who is at the other end, in words.
    pub fn peer(&self) -> &str {
        &self.life.peer
    }

    /// Whether TLS is on: the link is a `tls` one, or it was begun by [`Connection::start_tls`](super::Connection::start_tls), perhaps
    /// in an incarnation before.
    pub fn is_secured(&self) -> bool {
        self.life.secured
    }

    /// Whether the two are handles to the same life.
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.life, &other.life)
    }

    /// How many bytes have arrived and were not read.
    pub fn unread(&self) -> usize {
        self.life.input.borrow().unread().len()
    }

    /// Whether an incarnation before has used this stream, on a link that the operator keeps over restarts. Answers
    /// to requests that are forgotten may be on the way; a protocol that cannot tell begins with a [`reset`](Self::reset).
    pub fn is_inherited(&self) -> bool {
        self.life.inherited
    }

    /// Waits for exactly `count` bytes.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`] when the stream ends before they are there; [`LinkError::TooLong`] for more than [`MAX_READ`].
    pub async fn read_exact(&self, count: usize) -> Result<Vec<u8>, LinkError> {
        self.read(|input| {
            if count > MAX_READ {
                return Err(LinkError::TooLong { max: MAX_READ });
            }
            Ok((input.unread().len() >= count).then(|| input.take(count)))
        })
        .await
    }

    /// Waits for exactly `N` bytes, such as a header.
    ///
    /// # Errors
    ///
    /// As [`read_exact`](Self::read_exact).
    pub async fn read_array<const N: usize>(&self) -> Result<[u8; N], LinkError> {
        self.read(|input| {
            let Some(array) = input.unread().first_chunk::<N>().copied() else {
                return if N > MAX_READ {
                    Err(LinkError::TooLong { max: MAX_READ })
                } else {
                    Ok(None)
                };
            };
            input.start += N;
            Ok(Some(array))
        })
        .await
    }

    /// Waits until there is anything, and takes at most `max` bytes of it. Never empty, unless `max` is 0.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`] when the stream ends with nothing unread.
    pub async fn read_some(&self, max: usize) -> Result<Vec<u8>, LinkError> {
        self.read(|input| {
            let count = input.unread().len().min(max);
            Ok((count > 0 || max == 0).then(|| input.take(count)))
        })
        .await
    }

    /// Waits for `delimiter`, and takes everything up to and with it: at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`LinkError::TooLong`] when there is none within `max` bytes (nothing is taken then); [`LinkError::Closed`] when the
    /// stream ends before it.
    pub async fn read_until(&self, delimiter: u8, max: usize) -> Result<Vec<u8>, LinkError> {
        let max = max.min(MAX_READ);
        self.read(|input| {
            let unread = input.unread();
            let window = &unread[..unread.len().min(max)];
            match window.iter().position(|byte| *byte == delimiter) {
                Some(index) => Ok(Some(input.take(index + 1))),
                None if window.len() == max => Err(LinkError::TooLong { max }),
                None => Ok(None),
            }
        })
        .await
    }

    /// Hands all of `bytes` to the host, within the send window, after whoever began before.
    ///
    /// Returns when the last byte was handed over, not when it has left; the peer's answer is the only proof of that. A
    /// task that has sent anything is no longer cancelled, since the device may have acted: it answers with its result.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the stream ends first; some of the bytes may have left.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), Closed> {
        let _turn = self.life.writer.lock(Priority::Poll).await;
        let mut rest = bytes;
        while !rest.is_empty() {
            let credit = poll_fn(|cx| {
                if let Some(closed) = self.life.ended.get() {
                    return Poll::Ready(Err(closed));
                }
                match self.life.credit.get() {
                    0 => {
                        self.life.changed.register(cx.waker());
                        Poll::Pending
                    }
                    credit => Poll::Ready(Ok(credit)),
                }
            })
            .await?;
            let count = rest.len().min(credit as usize).min(MAX_SEND);
            let (now, later) = rest.split_at(count);
            self.life.credit.set(credit - count as u32);
            self.shared.executor.commit_current();
            self.shared.push(Action::Send(Send {
                connection: self.life.id,
                peer: None,
                bytes: now.to_vec(),
            }));
            rest = later;
        }
        Ok(())
    }

    /// Waits for the next datagram, on a datagram link.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the link goes down with none waiting.
    pub async fn receive(&self) -> Result<Datagram, Closed> {
        poll_fn(|cx| {
            if let Some(datagram) = self.life.datagrams.borrow_mut().pop_front() {
                return Poll::Ready(Ok(datagram));
            }
            if let Some(closed) = self.life.ended.get() {
                return Poll::Ready(Err(closed));
            }
            self.life.changed.register(cx.waker());
            Poll::Pending
        })
        .await
        .inspect(|_| self.life.tell_pause(&self.shared))
    }

    /// Sends one datagram, whole: to the link's own address, or to a peer within what the operator granted, such as
    /// `10.0.0.17:47808`. Waits for room in the send window. One that is not granted is left out, and the host's log says so.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`] when the link goes down first; [`LinkError::TooLong`] for more than 65,507 bytes.
    pub async fn send(&self, peer: Option<&str>, bytes: &[u8]) -> Result<(), LinkError> {
        const MAX: usize = 65_507;
        if bytes.len() > MAX {
            return Err(LinkError::TooLong { max: MAX });
        }
        let _turn = self.life.writer.lock(Priority::Poll).await;
        poll_fn(|cx| {
            if let Some(closed) = self.life.ended.get() {
                return Poll::Ready(Err(closed));
            }
            if bytes.len() <= self.life.credit.get() as usize {
                return Poll::Ready(Ok(()));
            }
            self.life.changed.register(cx.waker());
            Poll::Pending
        })
        .await?;
        self.life
            .credit
            .set(self.life.credit.get() - bytes.len() as u32);
        self.shared.executor.commit_current();
        self.shared.push(Action::Send(Send {
            connection: self.life.id,
            peer: peer.map(str::to_owned),
            bytes: bytes.to_vec(),
        }));
        Ok(())
    }

    /// Throws away what has arrived and was not read.
    pub fn clear_input(&self) {
        self.life.datagrams.borrow_mut().clear();
        self.life.input.borrow_mut().clear();
        self.life.tell_pause(&self.shared);
    }

    /// Stops or resumes receiving; the peer feels it.
    pub fn pause(&self, on: bool) {
        self.life.paused.set(on);
        self.life.tell_pause(&self.shared);
    }

    /// Drops the stream at once, with whatever is on the way, and has the host redial at once (at most once a second). For a
    /// peer that has lost its framing, or a reply that is overdue. Nothing happens where it has ended.
    pub fn reset(&self) {
        self.life.reset(&self.shared);
    }

    /// Tells the host that a probe was sent: the driver's own heartbeat. From the first on the host redials where none is answered
    /// for as long as the operator allows.
    pub fn probe_sent(&self) {
        self.tell_probe(None);
    }

    /// Tells the host that the peer answered a probe after `round_trip`.
    pub fn probe(&self, round_trip: Duration) {
        self.tell_probe(Some(time::nanos(round_trip)));
    }

    fn tell_probe(&self, round_trip_ns: Option<u64>) {
        if self.is_open() {
            self.shared.push(Action::Probe(Probe {
                connection: self.life.id,
                round_trip_ns,
            }));
        }
    }

    /// Waits until `take` finds what it wants in the input.
    async fn read<T>(
        &self,
        mut take: impl FnMut(&mut Input) -> Result<Option<T>, LinkError>,
    ) -> Result<T, LinkError> {
        poll_fn(|cx| {
            let found = take(&mut self.life.input.borrow_mut());
            if let Some(result) = found.transpose() {
                self.life.tell_pause(&self.shared);
                return Poll::Ready(result);
            }
            if let Some(closed) = self.life.ended.get() {
                return Poll::Ready(Err(closed.into()));
            }
            self.life.changed.register(cx.waker());
            Poll::Pending
        })
        .await
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("connection", &self.life.id)
            .field("ended", &self.life.ended.get())
            .finish_non_exhaustive()
    }
}
