//! One connection of a channel: a handle for the actor, and the task that keeps a stream under it.
//!
//! ```text
//!            +---------------- delay over ----------------+
//!            v                                            |
//!   open -> dial --- failed --------------------------> wait
//!            |                                            ^
//!            +--- up --> serve --- lost, or reset --------+        close, from anywhere --> end
//! ```
//!
//! One task does all of it, one thing after the other, so a connection never has two streams. What the driver is told
//! goes through the mailbox and waits for room there; a stream that broke is dropped before that, and redialled after.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::desk::{Desk, Told, Wish};
use super::error::{DialError, broken_reason};
use super::grant;
use super::listen::CallerIds;
use super::mail::{CloseReason, LinkEvent, LinkMail, StreamId};
use super::pump::{Pumps, Stopped, drain};
use super::room::{Held, Room};
use super::state::LinkState;
use super::tls::explained;
use super::transport::{self, Dialled, Stream};
use super::window::WindowExceeded;
use crate::backoff::{Backoff, Policy, STEADY_AFTER};
use crate::clock::Clock;
use crate::config::{Connect, Link};
use crate::event::MonotonicNs;
use crate::ids::{ChannelId, ConnectionId};

/// Bytes that may be on their way at once, where nothing else is said.
pub const DEFAULT_SEND_WINDOW: u32 = crate::limits::SEND_WINDOW;

/// How long `close` waits for the bytes that are queued.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How long it then waits for the peer to end its side.
const LINGER: Duration = Duration::from_millis(250);

/// Streams in a row that did not hold before their comings and goings are logged for debugging only.
const FLAPS_LOGGED: u32 = 3;

/// What a connection is opened with.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whose it is.
    pub channel: ChannelId,
    /// Its number within the channel.
    pub id: ConnectionId,
    /// The grant, the time-outs and the delays.
    pub link: Arc<Link>,
    /// Where to, as the driver asked; `None` for the link's own address. Untrusted: checked before every dial.
    pub target: Option<String>,
    /// For times in mail and state.
    pub clock: Clock,
    /// Which incarnation it belongs to.
    pub incarnation: u64,
    /// Where the jitter of the delays comes from.
    pub seed: u64,
    /// Bytes that may be on their way at once, at least 1. See [`DEFAULT_SEND_WINDOW`].
    pub send_window: u32,
    /// Where received bytes have room until the channel takes them.
    pub room: Room,
    /// Where devices that call in get their numbers.
    pub callers: CallerIds,
}

/// The channel's handle on a connection. Dropping it ends the task and the stream at once.
#[derive(Debug)]
pub struct Connection {
    desk: Arc<Desk>,
    state: watch::Receiver<LinkState>,
    end_with_me: DropGuard,
}

/// A connection that outlives an incarnation, as `started` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Who is at the other end.
    pub peer: String,
    /// The stream that is up.
    pub stream: StreamId,
    /// Bytes that may be on their way at once, none of which is used.
    pub send_window: u32,
}

impl Connection {
    /// Starts a task that dials, and dials again whenever the stream is lost, until [`Connection::close`] or drop. What
    /// happens comes by mail, and the task waits where the mailbox is full. Must be called within a tokio runtime.
    pub fn open<M>(
        options: OpenOptions,
        mailbox: mpsc::Sender<M>,
        tracker: &TaskTracker,
    ) -> Connection
    where
        M: From<LinkMail> + Send + 'static,
    {
        // There is nobody at the other end of a listening socket.
        let send_window = match options.link.connect {
            Connect::Listen(_) => 0,
            _ => options.send_window,
        };
        let desk = Arc::new(Desk::new(options.incarnation, send_window));
        let (publish, state) = watch::channel(LinkState::Connecting);
        let end = CancellationToken::new();
        // No child of the incarnation's span, which it may outlive.
        let span = tracing::info_span!(
            parent: None,
            "link",
            channel = %options.channel,
            link = %options.link.name,
            connection = %options.id,
        );
        let task = Task::new(
            options,
            Arc::clone(&desk),
            mailbox,
            publish,
            tracker.clone(),
        );
        let life = end.clone().run_until_cancelled_owned(task.run());
        tracker.spawn(life.instrument(span));
        Connection {
            desk,
            state,
            end_with_me: end.drop_guard(),
        }
    }

    /// Queues bytes for a stream that the driver was told of. Bytes for one that is gone, or after `close`, are
    /// dropped: its `Closed` is in the mailbox. Never waits.
    ///
    /// # Errors
    ///
    /// More bytes would be on their way than the send window holds; then none is queued.
    pub fn send(&self, stream: StreamId, bytes: Vec<u8>) -> Result<(), WindowExceeded> {
        self.desk.send(stream, bytes)
    }

    /// How many more bytes `send` takes now. It becomes less by `send` only.
    pub fn window_left(&self, stream: StreamId) -> usize {
        self.desk.window_left(stream)
    }

    /// Drops the stream with all that is on its way, and dials at once, at most once a second. Nothing happens where
    /// the driver was not told of a stream, or was told that it is gone: then a dial is on its way already.
    pub fn reset(&self) {
        self.desk.wish(Wish::Reset);
    }

    /// Ends the connection for good, after what is queued has left (at most 2 s): `Closed` without `retrying`, with
    /// `requested`, or with another reason where bytes were lost. Nothing more is received.
    pub fn close(&self) {
        self.desk.wish(Wish::Close);
    }

    /// As [`Connection::close`], and lets go of the handle: the task ends by itself once it has done so.
    pub fn release(self) {
        self.close();
        drop(self.end_with_me.disarm());
    }

    /// Stops or resumes receiving, over redials too. The peer feels it; what is in the mailbox already still comes.
    /// While paused, the end of the stream is not seen, unless a send shows it.
    pub fn pause(&self, on: bool) {
        self.desk.pause(on);
    }

    /// What was wrong when it was last down, in words and with the remedy, where more is known than the reason says.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.desk.trouble()
    }

    /// How it stands, now and whenever that changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Hands the stream to the next incarnation: mail is stamped with that one from now on, the whole send window is
    /// free, and receiving is not paused. `None`, and then it is to be dropped, if it is down at this moment,
    /// about to end, or stalled (more than half a window of the old incarnation's bytes waits to be written).
    pub fn survive(&self, incarnation: u64) -> Option<Survivor> {
        let (Told { stream, peer }, send_window) = self.desk.survive(incarnation)?;
        Some(Survivor {
            peer,
            stream,
            send_window,
        })
    }
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    /// A connection for a device that called in on this one, with its task, which is not spawned yet.
    pub(super) fn caller(
        &self,
        id: ConnectionId,
        desk: Arc<Desk>,
        peer: &str,
    ) -> (Connection, Self, CancellationToken) {
        let (publish, state) = watch::channel(LinkState::Connected {
            peer: peer.to_owned(),
            since: self.options.clock.monotonic(),
        });
        let end = CancellationToken::new();
        let options = OpenOptions {
            id,
            ..self.options.clone()
        };
        let (mailbox, tracker) = (self.mailbox.clone(), self.tracker.clone());
        let task = Task::new(options, Arc::clone(&desk), mailbox, publish, tracker);
        let connection = Connection {
            desk,
            state,
            end_with_me: end.clone().drop_guard(),
        };
        (connection, task, end)
    }
}

/// The channel is gone, and nobody wants to know.
pub(super) struct MailboxGone;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// It broke, or the peer ended it.
    Lost(CloseReason, Option<io::Error>),
    /// The driver wants a fresh one.
    Reset,
    /// The driver wants no more; the reason tells whether all bytes left.
    Closed(CloseReason),
    /// The channel is gone.
    MailboxGone,
}

/// The task that keeps a stream under a connection.
pub(super) struct Task<M> {
    pub(super) options: OpenOptions,
    pub(super) desk: Arc<Desk>,
    pub(super) mailbox: mpsc::Sender<M>,
    pub(super) tracker: TaskTracker,
    /// For devices that call in, where the link listens.
    pub(super) places: Arc<Semaphore>,
    state: watch::Sender<LinkState>,
    backoff: Backoff,
    random: fastrand::Rng,
    streams: u64,
    up_since: MonotonicNs,
    /// Streams in a row that did not hold.
    flaps: u32,
    /// What the driver was told last, while it is down.
    told_reason: Option<CloseReason>,
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    pub(super) fn new(
        options: OpenOptions,
        desk: Arc<Desk>,
        mailbox: mpsc::Sender<M>,
        state: watch::Sender<LinkState>,
        tracker: TaskTracker,
    ) -> Self {
        let places = match &options.link.connect {
            Connect::Listen(listen) => usize::from(listen.max_connections),
            _ => 0,
        };
        let policy = Policy {
            base: options.link.base_delay,
            max: options.link.max_delay,
        };
        Self {
            backoff: Backoff::new(policy),
            random: fastrand::Rng::with_seed(options.seed),
            options,
            desk,
            mailbox,
            tracker,
            places: Arc::new(Semaphore::new(places)),
            state,
            streams: 0,
            up_since: MonotonicNs(0),
            flaps: 0,
            told_reason: None,
        }
    }

    async fn run(mut self) {
        if let Err(MailboxGone) = self.keep_alive().await {
            tracing::debug!("the channel is gone; the connection ends");
        }
    }

    async fn keep_alive(&mut self) -> Result<(), MailboxGone> {
        loop {
            let dialled = tokio::select! {
                biased;
                () = self.desk.close_asked() => return self.finish(CloseReason::Requested).await,
                dialled = self.dial() => dialled,
            };
            let (reason, delay) = match dialled {
                Err(error) if error.reason() == CloseReason::Denied => {
                    tracing::warn!(%error, "not dialled");
                    self.desk.note_trouble(Some(error.to_string()));
                    return self.finish(CloseReason::Denied).await;
                }
                Err(error) => self.failed(&error),
                Ok(dialled) => {
                    let id = self.opened(dialled.peer()).await?;
                    let end = match dialled {
                        Dialled::Stream(stream) => self.serve(id, stream).await,
                        Dialled::Listener(listener) => self.listen(listener).await,
                    };
                    match self.ended(end) {
                        Next::Redial(reason, delay) => (reason, delay),
                        Next::Finish(reason) => return self.finish(reason).await,
                        Next::Vanish => return Err(MailboxGone),
                    }
                }
            };
            let until = self.options.clock.monotonic().after(delay);
            let attempt = self.backoff.attempts();
            self.state.send_replace(LinkState::Waiting {
                attempt,
                until,
                reason,
            });
            self.tell_down(reason).await?;
            tokio::select! {
                biased;
                () = self.desk.close_asked() => return self.finish(CloseReason::Requested).await,
                () = sleep_until(self.options.clock.instant(until)) => {}
            }
        }
    }

    /// Checks the grant, resolves the name and connects.
    async fn dial(&self) -> Result<Dialled, DialError> {
        self.state.send_replace(LinkState::Connecting);
        let OpenOptions {
            channel,
            link,
            target,
            ..
        } = &self.options;
        let deadline = Instant::now() + link.connect_timeout;
        let permit = grant::permit(channel, link, target.as_deref(), deadline).await?;
        transport::dial(permit, deadline).await
    }

    /// A dial led to nothing.
    fn failed(&mut self, error: &DialError) -> (CloseReason, Duration) {
        let reason = error.reason();
        self.desk.note_trouble(Some(error.to_string()));
        let now = self.options.clock.monotonic();
        let delay = self.backoff.lost(now, self.random.u64(..));
        let attempt = self.backoff.attempts();
        if self.told_reason == Some(reason) || self.flaps >= FLAPS_LOGGED {
            tracing::debug!(%error, %reason, attempt, ?delay, "still not connected");
        } else {
            tracing::info!(%error, %reason, attempt, ?delay, "not connected; dialling on");
        }
        (reason, delay)
    }

    /// Tells of a stream that is up.
    async fn opened(&mut self, peer: String) -> Result<StreamId, MailboxGone> {
        let since = self.options.clock.monotonic();
        self.backoff.opened(since);
        self.up_since = since;
        self.streams += 1;
        let id = StreamId(self.streams);
        self.state.send_replace(LinkState::Connected {
            peer: peer.clone(),
            since,
        });
        if self.flaps < FLAPS_LOGGED {
            tracing::info!(%peer, stream = %id, "connected");
        } else {
            tracing::debug!(%peer, stream = %id, "connected");
        }
        let place = self
            .mailbox
            .reserve()
            .await
            .map_err(|_closed| MailboxGone)?;
        let incarnation = self.desk.opened(Told {
            stream: id,
            peer: peer.clone(),
        });
        self.told_reason = None;
        let send_window = self.desk.send_window();
        let event = LinkEvent::Opened {
            peer,
            send_window,
            stream: id,
        };
        place.send(self.mail(incarnation, since, event));
        Ok(id)
    }

    /// Moves bytes until the stream ends, one way or another. It is gone when this returns.
    pub(super) async fn serve(&self, id: StreamId, stream: Stream) -> End {
        let Stream {
            mut reader,
            mut writer,
            ..
        } = stream;
        let pumps = Pumps {
            desk: &self.desk,
            mailbox: &self.mailbox,
            clock: self.options.clock,
            connection: self.options.id,
            stream: id,
            room: &self.options.room,
        };
        let mut write = pin!(pumps.write(&mut writer));
        let wish = tokio::select! {
            biased;
            wish = self.desk.wish_made() => wish,
            // Before the writer: what the peer said last is heard before a failed send ends the stream.
            stopped = pumps.read(&mut reader) => return stopped.into(),
            stopped = pumps.credit() => return stopped.into(),
            written = &mut write => return written.map_or_else(broken, |()| End::Closed(CloseReason::Requested)),
        };
        if wish == Wish::Reset {
            return End::Reset;
        }
        match timeout(FLUSH_LIMIT, write).await {
            Ok(Ok(())) => {
                drain(&mut reader, LINGER).await;
                End::Closed(CloseReason::Requested)
            }
            Ok(Err(cause)) => {
                tracing::warn!(%cause, "closed with bytes unsent: the stream broke");
                End::Closed(broken_reason(&cause))
            }
            Err(_elapsed) => {
                tracing::warn!(limit = ?FLUSH_LIMIT, "closed with bytes unsent: the peer does not take them");
                End::Closed(CloseReason::TimedOut)
            }
        }
    }

    /// What follows the end of a stream.
    fn ended(&mut self, end: End) -> Next {
        let now = self.options.clock.monotonic();
        let (reason, cause, delay) = match end {
            End::Lost(reason, cause) => {
                (reason, cause, self.backoff.lost(now, self.random.u64(..)))
            }
            End::Reset => (CloseReason::Requested, None, self.backoff.reset(now)),
            End::Closed(reason) => return Next::Finish(reason),
            End::MailboxGone => return Next::Vanish,
        };
        self.desk
            .note_trouble(cause.as_ref().map(ToString::to_string));
        let held = now.since(self.up_since) >= STEADY_AFTER;
        self.flaps = if held {
            1
        } else {
            self.flaps.saturating_add(1)
        };
        let cause = cause.map(tracing::field::display);
        if self.flaps < FLAPS_LOGGED {
            tracing::info!(%reason, cause, ?delay, "disconnected; dialling on");
        } else if self.flaps == FLAPS_LOGGED {
            tracing::info!(%reason, cause, ?delay, "disconnected again; no more of this is logged until it holds");
        } else {
            tracing::debug!(%reason, cause, ?delay, "disconnected; dialling on");
        }
        Next::Redial(reason, delay)
    }

    /// Tells that the connection is down, unless the driver knows it, for the same reason.
    async fn tell_down(&mut self, reason: CloseReason) -> Result<(), MailboxGone> {
        if self.told_reason == Some(reason) {
            return Ok(());
        }
        self.told_reason = Some(reason);
        self.tell_closed(reason, true).await
    }

    /// The end for good.
    pub(super) async fn finish(&self, reason: CloseReason) -> Result<(), MailboxGone> {
        self.state.send_replace(LinkState::Closed(reason));
        tracing::info!(%reason, "closed");
        self.tell_closed(reason, false).await
    }

    async fn tell_closed(&self, reason: CloseReason, retrying: bool) -> Result<(), MailboxGone> {
        let at = self.options.clock.monotonic();
        let place = self
            .mailbox
            .reserve()
            .await
            .map_err(|_closed| MailboxGone)?;
        let incarnation = self.desk.closed();
        place.send(self.mail(incarnation, at, LinkEvent::Closed { reason, retrying }));
        Ok(())
    }

    pub(super) fn mail(&self, incarnation: u64, at: MonotonicNs, event: LinkEvent) -> M {
        M::from(LinkMail {
            connection: self.options.id,
            incarnation,
            at,
            event,
            held: Held::default(),
        })
    }
}

/// What follows the end of a stream.
enum Next {
    Redial(CloseReason, Duration),
    Finish(CloseReason),
    Vanish,
}

/// The stream broke.
pub(super) fn broken(cause: io::Error) -> End {
    End::Lost(broken_reason(&cause), Some(explained(cause)))
}

impl From<Stopped> for End {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::AtEnd => End::Lost(CloseReason::ByPeer, None),
            Stopped::Broken(cause) => broken(cause),
            Stopped::MailboxGone => End::MailboxGone,
        }
    }
}
