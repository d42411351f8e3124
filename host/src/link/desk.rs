//! The desk between a connection's handle and its task: wishes one way, the truth as the driver knows it the other.
//!
//! Every method takes the lock, changes a little and lets go; nothing waits under it. What the driver was *told* is
//! kept here beside the stamp of its incarnation, so that a change of incarnation and a change of the stream cannot
//! cross: one of them is first, and the other sees it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use super::grant::{NotSent, Recipient, Recipients};
use super::mail::{CloseReason, StreamId};
use super::window::{SendWindow, WindowExceeded};
use crate::clock::Clock;
use crate::event::MonotonicNs;
use crate::network::Change;

/// Datagrams that may wait to be written; they go as fast as the system takes them.
const MAX_DATAGRAMS: usize = 1_024;
/// The most bytes in one datagram: what UDP over IPv4 can carry (RFC 768, RFC 791).
const MAX_DATAGRAM: usize = 65_507;

/// What may be asked of a connection besides sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The driver wants a fresh stream.
    Reset,
    /// The driver wants TLS on the stream that is up.
    StartTls,
    /// The driver wants the end.
    Close,
    /// Somebody else wants a fresh stream, or a dial at once.
    Press(Press),
}

/// Why somebody other than the driver presses for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Press {
    /// The operator asked for it.
    Reconnect,
    /// The machine lost what the stream goes through. For a stream that is up only.
    PathGone,
    /// The machine got an address or an interface. For what is down only.
    PathBack,
}

/// The stream that the driver believes to be up.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) stream: StreamId,
    pub(super) peer: String,
    /// Whether TLS is on.
    pub(super) secured: bool,
}

impl Press {
    /// Why a stream that is up ends by it.
    pub(super) fn reason(self) -> CloseReason {
        match self {
            Press::Reconnect | Press::PathBack => CloseReason::ByOperator,
            Press::PathGone => CloseReason::PathGone,
        }
    }
}

/// What handle and task share.
#[derive(Debug)]
pub(super) struct Desk {
    inner: Mutex<Inner>,
    /// There is something to write, or the end was asked for: wakes the writer.
    to_write: Notify,
    /// A wish was made: wakes the task.
    wished: Notify,
    /// A credit is due: wakes whoever tells of it.
    creditable: Notify,
    /// The driver's heartbeat has begun: wakes whoever watches it.
    probing: Notify,
    paused: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    incarnation: u64,
    told: Option<Told>,
    /// The stream that there is, which the driver may not have been told of yet; what goes may not have been told either.
    stream: Option<Through>,
    window: SendWindow,
    reset: bool,
    close: bool,
    /// TLS was asked for; nothing more is sent in plain.
    start_tls: bool,
    /// What was wrong when it was last down, in words.
    trouble: Option<Arc<str>>,
    press: Option<Press>,
    /// Where datagrams are sent, rather than a stream.
    datagrams: Option<Box<Datagrams>>,
    /// When the driver's heartbeat was answered last, or began on this stream.
    probed: Option<MonotonicNs>,
}

/// What a stream goes through.
#[derive(Clone, Copy, Debug)]
struct Through {
    /// The address of this machine, where it goes through one.
    local: Option<IpAddr>,
}

/// What waits to be written, whole, and whom it may go to.
#[derive(Debug)]
struct Datagrams {
    recipients: Recipients,
    queue: VecDeque<(Recipient, Vec<u8>)>,
}

impl Desk {
    pub(super) fn new(incarnation: u64, send_window: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                incarnation,
                told: None,
                stream: None,
                window: SendWindow::new(send_window),
                reset: false,
                close: false,
                start_tls: false,
                trouble: None,
                press: None,
                datagrams: None,
                probed: None,
            }),
            to_write: Notify::new(),
            wished: Notify::new(),
            creditable: Notify::new(),
            probing: Notify::new(),
            paused: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The handle's side.

    pub(super) fn send(&self, stream: StreamId, bytes: Vec<u8>) -> Result<(), WindowExceeded> {
        let mut inner = self.lock();
        if inner.is_for(stream) && !inner.close && !inner.start_tls {
            inner.window.push(bytes)?;
            drop(inner);
            self.to_write.notify_one();
        }
        Ok(())
    }

    /// As `send`, for one datagram. One that may not be sent counts as sent: the driver has counted it too.
    pub(super) fn send_to(
        &self,
        stream: StreamId,
        peer: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<Result<(), NotSent>, WindowExceeded> {
        let mut inner = self.lock();
        if !inner.is_for(stream) || inner.close {
            return Ok(Ok(()));
        }
        let length = bytes.len();
        inner.window.count(length)?;
        let queued = match &mut inner.datagrams {
            None => Err(NotSent::NoDatagrams),
            Some(_) if length > MAX_DATAGRAM => Err(NotSent::TooLong),
            Some(datagrams) if datagrams.queue.len() >= MAX_DATAGRAMS => Err(NotSent::TooMany),
            Some(datagrams) => datagrams
                .recipients
                .check(peer)
                .map(|recipient| datagrams.queue.push_back((recipient, bytes))),
        };
        let credit_due = queued.is_err() && inner.window.wrote(length);
        drop(inner);
        if credit_due {
            self.creditable.notify_one();
        }
        self.to_write.notify_one();
        Ok(queued)
    }

    pub(super) fn window_left(&self, stream: StreamId) -> usize {
        let inner = self.lock();
        if inner.is_for(stream) {
            inner.window.left()
        } else {
            inner.window.size() as usize
        }
    }

    /// The driver wants this of a stream that it was told of; by now it may have another.
    pub(super) fn wish_of(&self, stream: StreamId, wish: Wish) {
        let is_another = !self.lock().is_for(stream);
        if !is_another {
            self.wish(wish);
        }
    }

    pub(super) fn wish(&self, wish: Wish) {
        let mut inner = self.lock();
        match wish {
            // What is down is being dialled already, at the operator's pace.
            Wish::Reset => inner.reset |= inner.told.is_some(),
            Wish::StartTls => inner.start_tls |= inner.told.is_some(),
            Wish::Close => inner.close = true,
            Wish::Press(Press::Reconnect) => inner.press = Some(Press::Reconnect),
            // An operator's word stands before what the machine's network makes of it.
            Wish::Press(Press::PathGone) if inner.stream.is_none() => {}
            Wish::Press(Press::PathBack) if inner.stream.is_some() => {}
            Wish::Press(press) => inner.press = inner.press.or(Some(press)),
        }
        drop(inner);
        self.wished.notify_one();
        self.to_write.notify_one();
    }

    /// This machine's network has changed: a stream that went through what is gone is dropped, and what is down is dialled where
    /// there is something new.
    pub(super) fn network_changed(&self, change: &Change) {
        let gone = |through: &Through| {
            through
                .local
                .is_some_and(|local| change.gone.contains(&local))
        };
        let stream = self.lock().stream;
        match stream {
            Some(through) if gone(&through) => self.wish(Wish::Press(Press::PathGone)),
            None if !change.new.is_empty() => self.wish(Wish::Press(Press::PathBack)),
            Some(_) | None => {}
        }
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        self.lock().trouble.clone()
    }

    /// The driver's heartbeat beat: a probe was sent, or answered. Gives whether it is about a stream that is up.
    pub(super) fn probe(&self, stream: StreamId, now: MonotonicNs, answered: bool) -> bool {
        let mut inner = self.lock();
        if !inner.is_for(stream) {
            return false;
        }
        let begins = inner.probed.is_none();
        if begins || answered {
            inner.probed = Some(now);
        }
        drop(inner);
        if begins {
            self.probing.notify_one();
        }
        true
    }

    pub(super) fn pause(&self, on: bool) {
        self.paused
            .send_if_modified(|paused| std::mem::replace(paused, on) != on);
    }

    /// Hands the stream to a new incarnation, with the size of its send window.
    pub(super) fn survive(&self, incarnation: u64) -> Option<(Told, u32)> {
        let mut inner = self.lock();
        if inner.close || inner.reset || inner.start_tls || inner.press.is_some() {
            return None;
        }
        let told = inner.told.clone()?;
        if !inner.window.hand_over() {
            return None;
        }
        inner.incarnation = incarnation;
        // The new life's heartbeat is its own.
        inner.probed = None;
        self.pause(false);
        Some((told, inner.window.size()))
    }

    // The task's side.

    /// How many bytes may be on their way at once.
    pub(super) fn send_window(&self) -> u32 {
        self.lock().window.size()
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.lock().incarnation
    }

    /// Why it is down, for whoever asks.
    pub(super) fn note_trouble(&self, why: Option<String>) {
        self.lock().trouble = why.map(Arc::from);
    }

    /// There is a stream, through this address of this machine. What was pressed for is there.
    pub(super) fn arrived(&self, local: Option<IpAddr>) {
        let mut inner = self.lock();
        inner.stream = Some(Through { local });
        inner.press = None;
    }

    /// There is none any more. What was pressed for while it was up has been heeded.
    pub(super) fn ended(&self) {
        let mut inner = self.lock();
        inner.stream = None;
        inner.press = None;
    }

    /// Whether its end was asked for.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().close
    }

    /// From now on the driver counts this stream as up. Gives the stamp for the mail that says so.
    pub(super) fn opened(&self, told: Told) -> u64 {
        self.opened_for(told, None)
    }

    /// The same for a socket of datagrams, and those that may be written to.
    pub(super) fn opened_for(&self, told: Told, recipients: Option<Recipients>) -> u64 {
        let mut inner = self.lock();
        inner.datagrams = recipients.map(|recipients| {
            Box::new(Datagrams {
                recipients,
                queue: VecDeque::new(),
            })
        });
        inner.window = SendWindow::new(inner.window.size());
        inner.told = Some(told);
        inner.start_tls = false;
        inner.probed = None;
        inner.incarnation
    }

    /// From now on the driver counts the connection as down. Gives the stamp for the mail that says so.
    pub(super) fn closed(&self) -> u64 {
        let mut inner = self.lock();
        inner.window = SendWindow::new(inner.window.size());
        inner.told = None;
        inner.datagrams = None;
        inner.reset = false;
        inner.start_tls = false;
        inner.incarnation
    }

    /// Waits for a wish. For one task at a time.
    pub(super) async fn wish_made(&self) -> Wish {
        loop {
            if let Some(wish) = self.lock().wish() {
                return wish;
            }
            self.wished.notified().await;
        }
    }

    /// Waits, while there is no stream, for the wish to end or to dial at once. For one task at a time.
    pub(super) async fn pressed(&self) -> Wish {
        loop {
            if let Some(wish) = self.lock().take_press() {
                return wish;
            }
            self.wished.notified().await;
        }
    }

    /// As [`Desk::pressed`], while a dial is on its way: that there is a path again is heeded after it, if it fails.
    pub(super) async fn pressed_while_dialling(&self) -> Wish {
        loop {
            {
                let mut inner = self.lock();
                if (inner.close || inner.press.is_some_and(|press| press != Press::PathBack))
                    && let Some(wish) = inner.take_press()
                {
                    return wish;
                }
            }
            self.wished.notified().await;
        }
    }

    /// Waits for bytes to write. `None` when all is written and the end of the stream, or of its plain part, was asked
    /// for. For one task at a time.
    pub(super) async fn next_bytes(&self) -> Option<Vec<u8>> {
        loop {
            let (bytes, close) = self.lock().take();
            match (bytes.is_empty(), close) {
                (false, _) => return Some(bytes),
                (true, true) => return None,
                (true, false) => self.to_write.notified().await,
            }
        }
    }

    /// Waits for a datagram to write. `None` when all is written and the end was asked for. For one task at a time.
    pub(super) async fn next_datagram(&self) -> Option<(Recipient, Vec<u8>)> {
        loop {
            let (datagram, close) = {
                let mut inner = self.lock();
                let next = inner
                    .datagrams
                    .as_mut()
                    .and_then(|all| all.queue.pop_front());
                (next, inner.close)
            };
            match (datagram, close) {
                (Some(datagram), _) => return Some(datagram),
                (None, true) => return None,
                (None, false) => self.to_write.notified().await,
            }
        }
    }

    /// Somebody spoke on the socket, and may be answered.
    pub(super) fn heard(&self, peer: SocketAddr) {
        if let Some(datagrams) = &mut self.lock().datagrams {
            datagrams.recipients.heard(peer);
        }
    }

    /// So many of the bytes that were taken have left.
    pub(super) fn wrote(&self, bytes: usize) {
        if self.lock().window.wrote(bytes) {
            self.creditable.notify_one();
        }
    }

    /// Waits until there is something to credit. May be wrong: [`Desk::credit`] has the last word.
    pub(super) async fn credit_due(&self) {
        self.creditable.notified().await;
    }

    /// The credit that is due, with the stamp for the mail that tells of it.
    pub(super) fn credit(&self) -> Option<(u64, u32)> {
        let mut inner = self.lock();
        let credit = inner.window.credit()?;
        Some((inner.incarnation, credit))
    }

    /// Waits until no probe was answered for so long, where the driver probes. For one task at a time.
    pub(super) async fn silent(&self, limit: Duration, clock: Clock) {
        loop {
            let probed = self.lock().probed;
            match probed {
                None => self.probing.notified().await,
                Some(last) if clock.monotonic().since(last) >= limit => return,
                // On the heap, so that connections without a heartbeat hold no timer.
                Some(last) => Box::pin(sleep_until(clock.instant(last.after(limit)))).await,
            }
        }
    }

    /// Whether reading is paused, and the changes of that.
    pub(super) fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }
}

impl Inner {
    fn is_for(&self, stream: StreamId) -> bool {
        self.told.as_ref().is_some_and(|told| told.stream == stream)
    }

    fn wish(&self) -> Option<Wish> {
        match (self.close, self.press, self.reset, self.start_tls) {
            (true, ..) => Some(Wish::Close),
            (false, Some(press), ..) => Some(Wish::Press(press)),
            (false, None, true, _) => Some(Wish::Reset),
            (false, None, false, true) => Some(Wish::StartTls),
            (false, None, false, false) => None,
        }
    }

    /// The wish of somebody who would not wait for a delay.
    fn take_press(&mut self) -> Option<Wish> {
        match (self.close, self.press.take()) {
            (true, _) => Some(Wish::Close),
            (false, press) => press.map(Wish::Press),
        }
    }

    /// What waits to be written, and whether anything may follow it.
    fn take(&mut self) -> (Vec<u8>, bool) {
        (self.window.take(), self.close || self.start_tls)
    }
}
