//! `udp://host:port`, `listen = "udp://..."`, and datagrams within dial ranges.
//!
//! A datagram goes and comes whole: what was sent in one piece leaves in one piece, or not at all. Whom the driver may
//! write to is decided when it does so (`grant::Recipients`), before it is queued; whom it hears is decided here, by the
//! same permit, for each datagram. What is not granted is left out and counted.
//!
//! A socket lasts, and what a name leads to does not: while nothing comes, the name is looked up again now and then, and where it
//! leads elsewhere the socket is given up and dialled anew, like a stream that broke. One that is answered is left alone.
//!
//! A datagram has no window: where the driver is slow, the kernel's buffer fills and drops, as the network does.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};

use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout};

use super::desk::Wish;
use super::error::DialError;
use super::grant::{self, Permit, Recipients, UdpPermit};
use super::mail::{CloseReason, LinkEvent, LinkMail, StreamId};
use super::pump::{MAX_RECEIVED, Pumps, Stopped};
use super::task::{End, FLUSH_LIMIT, Task, broken};
use crate::config::Connect;
use crate::event::MonotonicNs;

/// A socket for datagrams, and who may be at its other end.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    permit: UdpPermit,
    peer: String,
    /// When somebody was heard last.
    heard: AtomicU64,
}

impl Socket {
    /// Who is at the other end; where it listens, if it has no single one.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// The address of this machine that datagrams go through, where it is always the same.
    pub(super) fn local(&self) -> Option<IpAddr> {
        let local = self.socket.local_addr().ok()?.ip().to_canonical();
        (!local.is_unspecified()).then_some(local)
    }

    /// Whom the driver may write to.
    pub(super) fn recipients(&self) -> Recipients {
        self.permit.recipients(self.is_ipv6())
    }

    /// Waits until the system says that nobody listens at the other end, or that there is no way there. Whoever waits to
    /// receive is not woken by that.
    async fn broken(&self) -> io::Error {
        if self.permit.only_peer().is_none() {
            // A fault of one peer among many belongs to nobody.
            return std::future::pending().await;
        }
        let ask = || match self.socket.take_error()? {
            Some(cause) => Ok(cause),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        let asked = self.socket.async_io(Interest::ERROR, ask).await;
        asked.unwrap_or_else(|cause| cause)
    }

    fn is_ipv6(&self) -> bool {
        self.socket.local_addr().is_ok_and(|at| at.is_ipv6())
    }
}

/// Makes the socket that the permit allows. Nothing is sent yet.
pub(super) async fn open(permit: UdpPermit) -> Result<Socket, DialError> {
    let at = permit.at();
    let cannot_listen = |cause| DialError::CannotListen { address: at, cause };
    let socket = UdpSocket::bind(at).await.map_err(cannot_listen)?;
    let peer = match permit.only_peer() {
        Some(address) => {
            socket
                .connect(address)
                .await
                .map_err(|cause| DialError::Failed { address, cause })?;
            address.to_string()
        }
        None => socket.local_addr().map_err(cannot_listen)?.to_string(),
    };
    Ok(Socket {
        socket,
        permit,
        peer,
        heard: AtomicU64::new(0),
    })
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    /// Moves datagrams until the socket breaks, or the driver wants no more.
    pub(super) async fn serve_datagrams(&self, id: StreamId, socket: &Socket) -> End {
        let pumps = self.pumps(id);
        let mut write = pin!(pumps.write_datagrams(socket));
        let wish = tokio::select! {
            biased;
            wish = self.desk.wish_made() => wish,
            stopped = pumps.read_datagrams(socket) => return stopped.into(),
            cause = socket.broken() => return broken(cause),
            cause = self.moved(socket) => return End::Lost(CloseReason::Unreachable, Some(cause)),
            stopped = pumps.credit() => return stopped.into(),
            () = self.desk.silent(self.options.link.heartbeat.lost_after, self.options.clock) => {
                self.options.journal.silent(&self.desk);
                return End::Lost(CloseReason::HeartbeatLost, None);
            }
            written = &mut write => return written.map_or_else(broken, |()| End::Closed(CloseReason::Requested)),
        };
        match wish {
            Wish::Close => {}
            Wish::Reset | Wish::StartTls => return End::Reset,
            Wish::Press(press) => return End::Pressed(press),
        }
        match timeout(FLUSH_LIMIT, write).await {
            Ok(Err(cause)) => End::Closed(super::error::broken_reason(&cause)),
            Ok(Ok(())) => End::Closed(CloseReason::Requested),
            Err(_elapsed) => End::Closed(CloseReason::TimedOut),
        }
    }
}

impl<M: From<LinkMail> + Send + 'static> Task<M> {
    /// Waits until the link's name leads to somebody else while nobody speaks. It is looked up after each `heartbeat.interval` of
    /// silence.
    async fn moved(&self, socket: &Socket) -> io::Error {
        let Connect::Udp { host, .. } = &self.options.link.connect else {
            return std::future::pending().await;
        };
        if self.options.target.is_some() || host.parse::<IpAddr>().is_ok() {
            return std::future::pending().await;
        }
        // On the heap: few links have such a name.
        Box::pin(self.leads_elsewhere(host, socket)).await
    }

    async fn leads_elsewhere(&self, host: &str, socket: &Socket) -> io::Error {
        let options = &self.options;
        let (clock, every) = (options.clock, options.link.heartbeat.interval);
        let mut asked = clock.monotonic();
        // A server may give one of several addresses at a time: once is no move.
        let mut missing = false;
        loop {
            let heard = MonotonicNs(socket.heard.load(Ordering::Relaxed));
            let due = asked.max(heard).after(every);
            if due > clock.monotonic() {
                sleep_until(clock.instant(due)).await;
                continue;
            }
            asked = clock.monotonic();
            let until = Instant::now() + options.link.connect_timeout;
            match grant::permit(&options.channel, &options.link, None, until).await {
                Ok(Permit::Udp(later)) if !socket.permit.still_leads(&later) && !missing => {
                    missing = true;
                }
                Ok(Permit::Udp(later)) if !socket.permit.still_leads(&later) => {
                    let silence = asked.since(heard.max(self.up_since));
                    return io::Error::other(format!(
                        "nothing was heard for {silence:.1?}, and {host} leads elsewhere now"
                    ));
                }
                Ok(_) => missing = false,
                // Nobody knows better: the device may be where it was.
                Err(error) => tracing::debug!(%error, "a silent device's name was looked up again"),
            }
        }
    }
}

impl<M: From<LinkMail>> Pumps<'_, M> {
    /// From the socket into the mailbox, until it breaks.
    async fn read_datagrams(&self, socket: &Socket) -> Stopped {
        let mut paused = self.desk.paused();
        let mut left_out = Count::default();
        loop {
            if paused.wait_for(|paused| !paused).await.is_err() {
                return Stopped::MailboxGone;
            }
            let (bytes, from) = tokio::select! {
                biased;
                _ = paused.wait_for(|paused| *paused) => continue,
                read = receive(&socket.socket) => match read {
                    Ok(read) => read,
                    Err(cause) => return Stopped::Broken(cause),
                },
            };
            if !socket.permit.hears(from) {
                if let Some(count) = left_out.one_more() {
                    tracing::warn!(%from, count, "a datagram of somebody who is not granted is left out");
                }
                continue;
            }
            socket
                .heard
                .store(self.clock.monotonic().0, Ordering::Relaxed);
            self.desk.heard(from);
            let from = Box::new(canonical(from));
            let event = |stream, bytes| LinkEvent::Datagram {
                stream,
                from,
                bytes,
            };
            if let Err(stopped) = self.deliver(bytes, event).await {
                return stopped;
            }
        }
    }

    /// From the desk into the socket, until it breaks. `Ok` when the end was asked for and all has left.
    async fn write_datagrams(&self, socket: &Socket) -> io::Result<()> {
        let mut lost = Count::default();
        while let Some((recipient, bytes)) = self.desk.next_datagram().await {
            let sent = match recipient.address() {
                None => socket.socket.send(&bytes).await,
                Some(address) => socket.socket.send_to(&bytes, address).await,
            };
            match sent {
                Ok(_) => self.journal.sent(bytes.len()),
                // One peer that cannot be reached is no fault of the others' socket; one datagram that is too long for the
                // way there is none of the next.
                Err(cause) if recipient.address().is_some() || is_too_long(&cause) => {
                    if let Some(count) = lost.one_more() {
                        tracing::warn!(%recipient, bytes = bytes.len(), count, %cause, "a datagram was not sent");
                    }
                }
                Err(cause) => return Err(cause),
            }
            self.desk.wrote(bytes.len());
        }
        Ok(())
    }
}

/// EMSGSIZE, which std has no word for.
fn is_too_long(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// One datagram. The buffer is on the stack only while the socket is asked.
async fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    poll_fn(|context| {
        let mut space = [const { MaybeUninit::uninit() }; MAX_RECEIVED];
        let mut buffer = ReadBuf::uninit(&mut space);
        let from = ready!(socket.poll_recv_from(context, &mut buffer))?;
        Poll::Ready(Ok((buffer.filled().to_vec(), from)))
    })
    .await
}

/// IPv4 in IPv6's clothes, as people write it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Counts, and says when to speak of it: the first time, and then each time that it has doubled.
#[derive(Default)]
struct Count(u64);

impl Count {
    fn one_more(&mut self) -> Option<u64> {
        self.0 += 1;
        self.0.is_power_of_two().then_some(self.0)
    }
}
