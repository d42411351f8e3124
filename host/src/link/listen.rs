//! `listen = "tcp://..."`: devices call in.
//!
//! The listening socket is to its connection what a stream is elsewhere: it is bound again when it is lost. Each device
//! that calls becomes a connection with a task of its own and one life; nobody dials it. Whoever the grant does not let
//! in, or comes when there is no place left, is hung up on at once, and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use tracing::Instrument;

use super::desk::{Desk, Told, Wish};
use super::error::DialError;
use super::grant::ListenPermit;
use super::mail::{Accepted, CloseReason, LinkEvent, LinkMail, StreamId};
use super::task::{End, Task, broken};
use super::tcp;
use crate::ids::ConnectionId;

/// The first connection id that the host gives.
const FIRST_CALLER: u32 = 1 << 31;
/// Devices that may wait in the kernel until they are let in.
const BACKLOG: u32 = 64;
/// After an `accept` that failed, and how many of those in a row mean that the socket is lost.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const ACCEPT_TRIES: u32 = 10;
/// Each stream of a caller is its first and last.
const ONLY_STREAM: StreamId = StreamId(1);

/// Numbers for the devices that call in on a channel's links, none of them given twice. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CallerIds(Arc<AtomicU32>);

impl CallerIds {
    fn next(&self) -> Option<ConnectionId> {
        let next = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1));
        next.ok().map(ConnectionId)
    }
}

impl Default for CallerIds {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(FIRST_CALLER)))
    }
}

/// A socket that listens, and whom it lets in.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    permit: ListenPermit,
    at: SocketAddr,
}

impl Listener {
    /// Where it listens.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }
}

/// Binds the socket that the permit allows.
pub(super) fn bind(permit: ListenPermit) -> Result<Listener, DialError> {
    let address = permit.at();
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // Else a restart would wait for the last connections' TIME-WAIT (RFC 9293, 3.6.1).
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let at = socket.local_addr()?;
        Ok((socket, at))
    };
    let (socket, at) = bind().map_err(|cause| DialError::CannotListen { address, cause })?;
    Ok(Listener { socket, permit, at })
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    /// Lets devices in until the socket is lost, or the driver wants no more.
    pub(super) async fn listen(&self, listener: Listener) -> End {
        tokio::select! {
            biased;
            wish = self.desk.wish_made() => match wish {
                Wish::Reset | Wish::StartTls => End::Reset,
                Wish::Close => End::Closed(CloseReason::Requested),
                Wish::Press(press) => End::Pressed(press),
            },
            end = self.let_in(&listener) => end,
        }
    }

    async fn let_in(&self, listener: &Listener) -> End {
        let mut paused = self.desk.paused();
        let (mut failures, mut turned_away) = (0, 0_u64);
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return End::MailboxGone;
            }
            let accepted = tokio::select! {
                biased;
                _ = paused.wait_for(|paused| *paused) => continue,
                accepted = listener.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    failures += 1;
                    if failures >= ACCEPT_TRIES {
                        return broken(cause);
                    }
                    tracing::debug!(%cause, "nobody could be let in");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            failures = 0;
            let place = if listener.permit.lets_in(peer.ip()) {
                Arc::clone(&self.places).try_acquire_owned().ok()
            } else {
                None
            };
            let Some(place) = place else {
                drop(stream);
                turned_away += 1;
                // The first, and then each time that it has doubled.
                if turned_away.is_power_of_two() {
                    let granted = listener.permit.lets_in(peer.ip());
                    let why = if granted {
                        "as many are connected as `max_connections` says"
                    } else {
                        "`from` does not let it in"
                    };
                    tracing::warn!(%peer, turned_away, "turned away a device that called in: {why}");
                }
                continue;
            };
            if let Err(end) = self.welcome(stream, peer, place).await {
                return end;
            }
        }
    }

    /// Tells of a device that has called, and gives its stream a task.
    async fn welcome(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<(), End> {
        if let Err(cause) = tcp::set_up(&stream, self.options.link.heartbeat) {
            tracing::debug!(%peer, %cause, "a device that called in has gone already");
            return Ok(());
        }
        let Some(id) = self.options.callers.next() else {
            tracing::error!(%peer, "no numbers are left for devices that call in; restart the host");
            return Ok(());
        };
        let mail_place = self
            .mailbox
            .reserve()
            .await
            .map_err(|_closed| End::MailboxGone)?;
        let incarnation = self.desk.incarnation();
        let told = Told {
            stream: ONLY_STREAM,
            peer: peer.to_string(),
            secured: false,
        };
        let desk = Arc::new(Desk::new(incarnation, self.options.send_window));
        desk.arrived(tcp::local(&stream));
        desk.opened(told.clone());
        let (connection, caller, end) = self.caller(id, desk, &told.peer);
        tracing::info!(%peer, connection = %id, "a device has called in");
        let event = LinkEvent::Accepted(Box::new(Accepted {
            connection: id,
            peer: told.peer,
            send_window: self.options.send_window,
            stream: ONLY_STREAM,
            handle: connection,
        }));
        mail_place.send(self.mail(incarnation, self.options.clock.monotonic(), event));
        let span = tracing::info_span!(
            parent: None,
            "link",
            channel = %self.options.channel,
            link = %self.options.link.name,
            connection = %id,
        );
        let served = Box::pin(caller.serve_caller(tcp::into_stream(stream, peer), place));
        let life = end.run_until_cancelled_owned(served);
        self.tracker.spawn(life.instrument(span));
        Ok(())
    }

    /// The one life of a device that called in.
    async fn serve_caller(self, stream: super::transport::Stream, _place: OwnedSemaphorePermit) {
        let reason = match self.serve(ONLY_STREAM, stream).await {
            End::Lost(reason, cause) => {
                let cause = cause.map(tracing::field::display);
                tracing::info!(%reason, cause, "a device that had called in is gone");
                reason
            }
            End::Reset => CloseReason::Requested,
            End::Pressed(press) => press.reason(),
            // Who calls in is the client; it is not for us to begin.
            End::StartTls(_) => CloseReason::TlsFailed,
            End::Closed(reason) => reason,
            End::MailboxGone => return,
        };
        // Nobody is left to be told.
        self.finish(reason).await.ok();
    }
}
