//! One connection of a channel, as its actor holds it.
//!
//! The handle writes down what is wished on the desk that it shares with the task (`task.rs`), and never waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::desk::{Desk, Press, Told, Wish};
use super::grant::NotSent;
use super::journal::Journal;
use super::listen::CallerIds;
use super::mail::{LinkMail, StreamId};
use super::rate::DialRate;
use super::room::Room;
use super::state::LinkState;
use super::task::Task;
use super::window::WindowExceeded;
use crate::clock::Clock;
use crate::config::{Connect, Link, Transport};
use crate::event::MonotonicNs;
use crate::ids::{ChannelId, ConnectionId};

/// Bytes that may be on their way at once, where nothing else is said.
pub const DEFAULT_SEND_WINDOW: u32 = crate::limits::SEND_WINDOW;

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
    /// To which is told what happens on it.
    pub journal: Arc<Journal>,
    /// When a redial may begin.
    pub dials: DialRate,
}

/// The channel's handle on a connection. Dropping it ends the task and the stream at once.
#[derive(Debug)]
pub struct Connection {
    desk: Arc<Desk>,
    state: watch::Receiver<LinkState>,
    journal: Arc<Journal>,
    end_with_me: DropGuard,
}

/// A connection that outlives an incarnation, as `started` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Who is at the other end.
    pub peer: String,
    /// Whether TLS is on.
    pub secured: bool,
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
            Connect::Listen(ref listen) if listen.transport != Transport::Udp => 0,
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
        let journal = options.journal.clone();
        let task = Task::new(
            options,
            Arc::clone(&desk),
            mailbox,
            publish,
            tracker.clone(),
            &end,
        );
        // On the heap: each future around it would hold it twice, until it is first polled and from then on.
        let life = end.clone().run_until_cancelled_owned(Box::pin(task.run()));
        tracker.spawn(life.instrument(span));
        Connection {
            desk,
            state,
            journal,
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

    /// As [`Connection::send`], for one datagram; to the link's own address where no peer is named. One that may not be
    /// sent counts as sent.
    ///
    /// # Errors
    ///
    /// Outside: more bytes would be on their way than the send window holds. Inside: why it is not sent.
    pub fn send_to(
        &self,
        stream: StreamId,
        peer: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<Result<(), NotSent>, WindowExceeded> {
        self.desk.send_to(stream, peer, bytes)
    }

    /// How many more bytes `send` takes now. It becomes less by `send` only.
    pub fn window_left(&self, stream: StreamId) -> usize {
        self.desk.window_left(stream)
    }

    /// Drops the stream with all that is on its way, and dials at once, at most once a second. Nothing happens where
    /// the driver was not told of a stream, or was told that it is gone: then a dial is on its way already.
    pub fn reset(&self, stream: StreamId) {
        self.desk.wish_of(stream, Wish::Reset);
    }

    /// The driver's own heartbeat: a probe was sent, or answered after so long. From the first on a stream, one on which none is
    /// answered for `lost_after` is lost. Nothing happens where the driver was not told of a stream.
    pub fn probe(&self, stream: StreamId, now: MonotonicNs, answered: Option<Duration>) {
        if self.desk.probe(stream, now, answered.is_some()) {
            self.journal.probed(&self.desk, answered);
        }
    }

    /// Drops the stream, if there is one, and dials at once, with all attempts: the operator's word.
    pub fn reconnect(&self) {
        self.desk.wish(Wish::Press(Press::Reconnect));
    }

    /// Begins TLS on the stream that is up, after what is queued has left: it ends, without a word, and `Opened` tells of
    /// the one under TLS. Nothing happens where the driver was not told of a stream.
    pub fn start_tls(&self, stream: StreamId) {
        self.desk.wish_of(stream, Wish::StartTls);
    }

    /// Ends the connection for good, after what is queued has left (at most 2 s): `Closed` as ended, with
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
        let (told, send_window) = self.desk.survive(incarnation)?;
        let Told {
            stream,
            peer,
            secured,
        } = told;
        Some(Survivor {
            peer,
            secured,
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
        let (publish, state) = watch::channel(LinkState::Connecting);
        let end = CancellationToken::new();
        let options = OpenOptions {
            id,
            ..self.options.clone()
        };
        let (mailbox, tracker) = (self.mailbox.clone(), self.tracker.clone());
        let task = Task::new(options, Arc::clone(&desk), mailbox, publish, tracker, &end);
        let connected = LinkState::Connected {
            peer: peer.to_owned(),
            since: self.options.clock.monotonic(),
        };
        task.show(connected, &format!("{peer} called in"));
        let connection = Connection {
            desk,
            state,
            journal: task.options.journal.clone(),
            end_with_me: end.clone().drop_guard(),
        };
        (connection, task, end)
    }
}
