//! The task that keeps a stream under a connection.
//!
//! ```text
//!            +---------------- delay over ----------------+
//!            v                                            |
//!   open -> dial --- failed --------------------------> wait      attempts spent --> rest
//!            |                                            ^
//!            +--- up --> serve --- lost, or reset --------+        close, from anywhere --> end
//! ```
//!
//! One task does all of it, one thing after the other, so a connection never has two streams. What follows upon what is
//! decided by [`Machine`]. What the driver is told goes through the mailbox and waits for room there; a stream that broke is
//! dropped before that, and redialled after.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::OpenOptions;
use super::desk::{Desk, Press, Told, Wish};
use super::error::{DialError, broken_reason};
use super::grant::{self, Recipients};
use super::journal::Line;
use super::mail::{CloseReason, LinkEvent, LinkMail, Outlook, StreamId};
use super::pump::{Pumps, Stopped, drain};
use super::room::Held;
use super::state::LinkState;
use super::tls::{self, explained};
use super::transport::{self, Dialled, Stream};
use crate::config::Connect;
use crate::event::MonotonicNs;
use crate::reconnection::{Effect, Event, Machine, State, Step};

/// How long `close` waits for the bytes that are queued.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How long it then waits for the peer to end its side.
const LINGER: Duration = Duration::from_millis(250);

/// Streams in a row that did not hold before their comings and goings are logged for debugging only.
const FLAPS_LOGGED: u32 = 3;

/// The channel is gone, and nobody wants to know.
pub(super) struct MailboxGone;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// It broke, or the peer ended it.
    Lost(CloseReason, Option<io::Error>),
    /// The driver wants a fresh one.
    Reset,
    /// Somebody else wants a fresh one.
    Pressed(Press),
    /// The driver wants TLS on it.
    StartTls(Stream),
    /// The driver wants no more; the reason tells whether all bytes left.
    Closed(CloseReason),
    /// The channel is gone.
    MailboxGone,
}

/// What the task learned while it had no stream.
enum News {
    Up(Dialled),
    Failed(DialError),
    Due,
    Wished(Wish),
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
    machine: Machine,
    random: fastrand::Rng,
    streams: u64,
    pub(super) up_since: MonotonicNs,
    /// Streams in a row that did not hold.
    flaps: u32,
    /// What the driver was told last, while it is down.
    told: Option<(CloseReason, Outlook)>,
    /// Whether the next dial is one of those that the host spreads.
    spread: bool,
    /// When it is its turn, where one was given out that was not used yet.
    turn: Option<MonotonicNs>,
    _line: Line,
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    pub(super) fn new(
        options: OpenOptions,
        desk: Arc<Desk>,
        mailbox: mpsc::Sender<M>,
        state: watch::Sender<LinkState>,
        tracker: TaskTracker,
        end: &CancellationToken,
    ) -> Self {
        let places = match &options.link.connect {
            Connect::Listen(listen) => usize::from(listen.max_connections),
            _ => 0,
        };
        Self {
            _line: Line::new(&options, &desk, end),
            tracker,
            places: Arc::new(Semaphore::new(places)),
            machine: Machine::new(options.link.redial),
            random: fastrand::Rng::with_seed(options.seed),
            options,
            desk,
            mailbox,
            state,
            streams: 0,
            up_since: MonotonicNs(0),
            flaps: 0,
            told: None,
            spread: false,
            turn: None,
        }
    }

    pub(super) async fn run(mut self) {
        if let Err(MailboxGone) = self.keep_alive().await {
            tracing::debug!("the channel is gone; the connection ends");
        }
    }

    async fn keep_alive(&mut self) -> Result<(), MailboxGone> {
        // What an earlier life has left may still say its last: many devices take one connection only.
        let left = self.options.journal.left(&self.options.target, &self.desk);
        timeout(FLUSH_LIMIT + LINGER, left).await.ok();
        let mut step = self.step(Event::Open);
        loop {
            let news = match step.effect {
                Effect::Dial => self.dial().await,
                Effect::Wait => self.wait(step.delay).await,
                // A stream is served where it came up; nothing else is left than to wait for somebody.
                Effect::GiveUp | Effect::Nothing | Effect::Serve => {
                    News::Wished(self.desk.pressed().await)
                }
                Effect::Finish => return self.finish(CloseReason::Requested).await,
            };
            step = match news {
                News::Due => self.step(Event::Due),
                News::Wished(Wish::Press(Press::PathBack)) => self.hurried(
                    Event::PathBack,
                    "this machine got an address or an interface",
                ),
                News::Wished(Wish::Press(Press::Reconnect)) => {
                    self.hurried(Event::Reconnect, "asked for by the operator")
                }
                News::Wished(Wish::Press(Press::PathGone)) => self.step(Event::PathGone),
                News::Wished(Wish::Reset | Wish::StartTls) => self.step(Event::Reset),
                News::Wished(Wish::Close) => self.step(Event::Close),
                News::Failed(error) if error.reason() == CloseReason::Denied => {
                    tracing::warn!(%error, "not dialled");
                    self.desk.note_trouble(Some(error.to_string()));
                    self.step(Event::Refused);
                    return self.finish(CloseReason::Denied).await;
                }
                News::Failed(error) => {
                    let reason = error.reason();
                    self.desk.note_trouble(Some(error.to_string()));
                    let step = self.step(Event::DialFailed);
                    self.log_failed(&error, &step);
                    self.options.journal.unanswered();
                    self.down(reason, &error.to_string(), &step).await?;
                    step
                }
                News::Up(dialled) => {
                    self.step(Event::Up);
                    self.desk.arrived(dialled.local());
                    let ends = (dialled.peer(), dialled.is_secured());
                    let id = self.opened(ends, dialled.recipients()).await?;
                    let end = match dialled {
                        Dialled::Stream(stream) => match self.serve(id, stream).await {
                            End::StartTls(stream) => self.go_on_under_tls(stream).await?,
                            end => end,
                        },
                        Dialled::Datagrams(socket) => self.serve_datagrams(id, &socket).await,
                        Dialled::Listener(listener) => self.listen(listener).await,
                    };
                    self.desk.ended();
                    let (reason, cause, event) = match end {
                        End::Lost(reason, cause) => (reason, cause, Event::Lost),
                        End::Reset => (CloseReason::Requested, None, Event::Reset),
                        End::StartTls(_) => (CloseReason::TlsFailed, None, Event::Lost),
                        End::Pressed(press) => {
                            let event = match press {
                                Press::PathGone => Event::PathGone,
                                Press::Reconnect | Press::PathBack => Event::Reconnect,
                            };
                            (press.reason(), None, event)
                        }
                        End::Closed(reason) => {
                            self.step(Event::Close);
                            return self.finish(reason).await;
                        }
                        End::MailboxGone => return Err(MailboxGone),
                    };
                    let why = cause.as_ref().map(ToString::to_string);
                    let told = match &why {
                        Some(why) => format!("{} ({why})", reason.sentence()),
                        None => reason.sentence().to_owned(),
                    };
                    self.desk.note_trouble(why);
                    let step = self.step(event);
                    self.log_lost(reason, cause, &step);
                    self.down(reason, &told, &step).await?;
                    step
                }
            };
        }
    }

    /// Lets it be known how the connection stands, and why.
    pub(super) fn show(&self, state: LinkState, cause: &str) {
        self.state.send_replace(state.clone());
        self.options.journal.changed(&self.desk, state, cause);
    }

    /// Somebody did not wait for the delay, or asked where none would have followed.
    fn hurried(&mut self, event: Event, cause: &str) -> Step {
        let step = self.step(event);
        if step.before == State::Failed && step.next == State::Reconnecting {
            let reason = self
                .told
                .map_or(CloseReason::Unreachable, |(reason, _)| reason);
            let state = LinkState::Reconnecting {
                attempt: self.machine.attempts(),
                until: self.options.clock.monotonic(),
                reason,
            };
            self.show(state, cause);
        }
        step
    }

    fn step(&mut self, event: Event) -> Step {
        self.spread = match event {
            Event::DialFailed | Event::Lost | Event::PathGone | Event::PathBack => true,
            Event::Open | Event::Reset | Event::Reconnect => false,
            Event::Up | Event::Due | Event::Refused | Event::Close => self.spread,
        };
        let now = self.options.clock.monotonic();
        let state = self.machine.state();
        self.machine
            .step(event, now, self.random.u64(..))
            .unwrap_or_else(|denied| {
                tracing::error!(%denied, ?event, "a step of a connection that the table does not have");
                Step {
                    before: state,
                    next: state,
                    effect: Effect::Finish,
                    delay: Duration::ZERO,
                }
            })
    }

    /// Dials when it is its turn, unless somebody wishes something else.
    async fn dial(&mut self) -> News {
        if self.spread {
            let now = self.options.clock.monotonic();
            // One that was given out is kept: others are in line behind it.
            let turn = self.turn.unwrap_or_else(|| self.options.dials.place(now));
            if turn > now {
                self.turn = Some(turn);
                tokio::select! {
                    biased;
                    wish = self.desk.pressed_while_dialling() => return News::Wished(wish),
                    () = sleep_until(self.options.clock.instant(turn)) => {}
                }
            }
            self.turn = None;
        }
        self.options.journal.dialled();
        tokio::select! {
            biased;
            wish = self.desk.pressed_while_dialling() => News::Wished(wish),
            dialled = self.connect() => dialled.map_or_else(News::Failed, News::Up),
        }
    }

    /// Checks the grant, resolves the name and connects.
    async fn connect(&self) -> Result<Dialled, DialError> {
        let OpenOptions {
            channel,
            link,
            target,
            ..
        } = &self.options;
        let deadline = Instant::now() + link.connect_timeout;
        let permit = grant::permit(channel, link, target.as_deref(), deadline).await?;
        let began = Instant::now();
        let dialled = transport::dial(permit, link.heartbeat, deadline).await?;
        self.options.journal.answered(began.elapsed());
        Ok(dialled)
    }

    async fn wait(&self, delay: Duration) -> News {
        let until = self.options.clock.monotonic().after(delay);
        tokio::select! {
            biased;
            wish = self.desk.pressed() => News::Wished(wish),
            () = sleep_until(self.options.clock.instant(until)) => News::Due,
        }
    }

    /// Tells of a stream that is up.
    async fn opened(
        &mut self,
        (peer, secured): (String, bool),
        recipients: Option<Recipients>,
    ) -> Result<StreamId, MailboxGone> {
        let since = self.options.clock.monotonic();
        self.up_since = since;
        self.streams += 1;
        let id = StreamId(self.streams);
        let state = LinkState::Connected {
            peer: peer.clone(),
            since,
        };
        self.show(state, &format!("with {peer}"));
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
        let told = Told {
            stream: id,
            peer: peer.clone(),
            secured,
        };
        let incarnation = self.desk.opened_for(told, recipients);
        self.told = None;
        let send_window = self.desk.send_window();
        let event = LinkEvent::Opened {
            secured,
            peer,
            send_window,
            stream: id,
        };
        place.send(self.mail(incarnation, since, event));
        Ok(id)
    }

    /// Shakes hands on a stream that is up, and serves what comes of it.
    async fn go_on_under_tls(&mut self, stream: Stream) -> Result<End, MailboxGone> {
        let OpenOptions { link, target, .. } = &self.options;
        let deadline = Instant::now() + link.connect_timeout;
        let begun = tokio::select! {
            biased;
            wish = self.desk.pressed() => return Ok(match wish {
                Wish::Press(press) => End::Pressed(press),
                Wish::Close | Wish::Reset | Wish::StartTls => End::Closed(CloseReason::Requested),
            }),
            begun = tls::begin(link, target.as_deref(), stream, deadline) => begun,
        };
        match begun {
            Ok(stream) => {
                let ends = (stream.peer.clone(), stream.secured);
                let id = self.opened(ends, None).await?;
                Ok(match self.serve(id, stream).await {
                    // Not twice: it is what it was.
                    End::StartTls(_) => End::Lost(CloseReason::TlsFailed, None),
                    end => end,
                })
            }
            Err(error) => Ok(End::Lost(
                error.reason(),
                Some(io::Error::other(error.to_string())),
            )),
        }
    }

    /// Moves bytes until the stream ends, one way or another. It is gone when this returns.
    pub(super) async fn serve(&self, id: StreamId, stream: Stream) -> End {
        let Stream {
            mut reader,
            mut writer,
            peer,
            local,
            secured,
        } = stream;
        let pumps = self.pumps(id);
        let deadline;
        let (wish, flushed) = {
            let mut write = pin!(pumps.write(&mut writer));
            let (wish, written) = tokio::select! {
                biased;
                wish = self.desk.wish_made() => (wish, None),
                // Before the writer: what the peer said last is heard before a failed send ends the stream.
                stopped = pumps.read(&mut reader) => return stopped.into(),
                stopped = pumps.credit() => return stopped.into(),
                () = self.desk.silent(self.options.link.heartbeat.lost_after, self.options.clock) => {
                    self.options.journal.silent(&self.desk);
                    return End::Lost(CloseReason::HeartbeatLost, None);
                }
                written = &mut write => match written {
                    Ok(()) => (self.desk.wish_made().await, Some(())),
                    Err(cause) => return broken(cause),
                },
            };
            match wish {
                Wish::Close | Wish::StartTls => {}
                Wish::Reset => return End::Reset,
                Wish::Press(press) => return End::Pressed(press),
            }
            deadline = Instant::now() + FLUSH_LIMIT;
            match written {
                Some(()) => (wish, Ok(Ok(()))),
                None => (wish, timeout_at(deadline, write).await),
            }
        };
        if wish == Wish::StartTls {
            return match flushed {
                Ok(Ok(())) => End::StartTls(Stream {
                    reader,
                    writer,
                    peer,
                    local,
                    secured,
                }),
                Ok(Err(cause)) => broken(cause),
                Err(_elapsed) => End::Lost(CloseReason::TimedOut, None),
            };
        }
        let ended = match flushed {
            Ok(Ok(())) => timeout_at(deadline, writer.shutdown()).await,
            other => other,
        };
        match ended {
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

    pub(super) fn pumps(&self, stream: StreamId) -> Pumps<'_, M> {
        Pumps {
            desk: &self.desk,
            mailbox: &self.mailbox,
            clock: self.options.clock,
            connection: self.options.id,
            stream,
            room: &self.options.room,
            journal: &self.options.journal,
        }
    }

    /// A dial led to nothing.
    fn log_failed(&self, error: &DialError, step: &Step) {
        let (reason, delay, attempt) = (error.reason(), step.delay, self.machine.attempts());
        if step.effect == Effect::GiveUp {
            tracing::error!(%error, %reason, attempt, "not connected, and the attempts are spent; ask for another with `bulkhead link reconnect`");
        } else if self.told == Some((reason, Outlook::Redialling)) || self.flaps >= FLAPS_LOGGED {
            tracing::debug!(%error, %reason, attempt, ?delay, "still not connected");
        } else {
            tracing::info!(%error, %reason, attempt, ?delay, "not connected; dialling on");
        }
    }

    /// A stream ended.
    fn log_lost(&mut self, reason: CloseReason, cause: Option<io::Error>, step: &Step) {
        let now = self.options.clock.monotonic();
        let held = now.since(self.up_since) >= self.options.link.redial.steady_after;
        self.flaps = if held {
            1
        } else {
            self.flaps.saturating_add(1)
        };
        let (cause, delay) = (cause.map(tracing::field::display), step.delay);
        if step.effect == Effect::GiveUp {
            tracing::error!(%reason, cause, "disconnected, and the attempts are spent; ask for another with `bulkhead link reconnect`");
        } else if self.flaps < FLAPS_LOGGED {
            tracing::info!(%reason, cause, ?delay, "disconnected; dialling on");
        } else if self.flaps == FLAPS_LOGGED {
            tracing::info!(%reason, cause, ?delay, "disconnected again; no more of this is logged until it holds");
        } else {
            tracing::debug!(%reason, cause, ?delay, "disconnected; dialling on");
        }
    }

    /// Lets it be known that the connection is down, the driver unless it knows that, for the same reason and with the same outlook.
    /// That the attempts are spent is news in any case.
    async fn down(
        &mut self,
        reason: CloseReason,
        cause: &str,
        step: &Step,
    ) -> Result<(), MailboxGone> {
        let (state, outlook) = match step.effect {
            Effect::GiveUp => (LinkState::Failed { reason }, Outlook::GivenUp),
            _ => {
                let state = LinkState::Reconnecting {
                    attempt: self.machine.attempts(),
                    until: self.options.clock.monotonic().after(step.delay),
                    reason,
                };
                (state, Outlook::Redialling)
            }
        };
        self.show(state, cause);
        if self.told == Some((reason, outlook)) && outlook != Outlook::GivenUp {
            return Ok(());
        }
        self.told = Some((reason, outlook));
        self.tell_closed(reason, outlook).await
    }

    /// The end for good.
    pub(super) async fn finish(&self, reason: CloseReason) -> Result<(), MailboxGone> {
        self.show(LinkState::Disconnected(reason), reason.sentence());
        tracing::info!(%reason, "closed");
        self.tell_closed(reason, Outlook::Ended).await
    }

    async fn tell_closed(&self, reason: CloseReason, outlook: Outlook) -> Result<(), MailboxGone> {
        let at = self.options.clock.monotonic();
        let place = self
            .mailbox
            .reserve()
            .await
            .map_err(|_closed| MailboxGone)?;
        let incarnation = self.desk.closed();
        place.send(self.mail(incarnation, at, LinkEvent::Closed { reason, outlook }));
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
