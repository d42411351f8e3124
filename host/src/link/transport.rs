//! What all transports have in common: leave to dial in, a stream out.
//!
//! A new transport is a file of its own beside `tcp.rs`, a variant of `config::Connect`, one of
//! [`Permit`], and a line in [`dial`]. Streams are trait objects in two halves, so that the rest
//! of the room knows no transport; the price is one indirect call for each read and write, next to a system call.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::error::DialError;
use super::grant::{Permit, Recipients};
use super::listen::Listener;
use super::udp::Socket;
use super::{listen, serial, tcp, tls, udp, unix};
use crate::config::Heartbeat;

/// The half of a stream that is read.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The half of a stream that is written to.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A stream that is up. It ends when both halves are dropped.
pub(super) struct Stream {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// Who is at the other end, in words.
    pub(super) peer: String,
    /// The address of this machine that it goes through, where it goes through one.
    pub(super) local: Option<IpAddr>,
    /// Whether TLS is on.
    pub(super) secured: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What a dial leads to.
pub(super) enum Dialled {
    Stream(Stream),
    /// Not a stream, but datagrams.
    Datagrams(Socket),
    /// Not a way to a device, but a door for devices.
    Listener(Listener),
}

impl Dialled {
    /// Who is at the other end, in words; where it listens, if it does.
    pub(super) fn peer(&self) -> String {
        match self {
            Dialled::Stream(stream) => stream.peer.clone(),
            Dialled::Datagrams(socket) => socket.peer().to_owned(),
            Dialled::Listener(listener) => listener.at().to_string(),
        }
    }

    /// The address of this machine that it goes through. A door stays where it is.
    pub(super) fn local(&self) -> Option<IpAddr> {
        match self {
            Dialled::Stream(stream) => stream.local,
            Dialled::Datagrams(socket) => socket.local(),
            Dialled::Listener(_) => None,
        }
    }

    /// Whether TLS is on.
    pub(super) fn is_secured(&self) -> bool {
        match self {
            Dialled::Stream(stream) => stream.secured,
            Dialled::Datagrams(_) | Dialled::Listener(_) => false,
        }
    }

    /// Whom the driver may write datagrams to, where there are any.
    pub(super) fn recipients(&self) -> Option<Recipients> {
        match self {
            Dialled::Datagrams(socket) => Some(socket.recipients()),
            Dialled::Stream(_) | Dialled::Listener(_) => None,
        }
    }
}

/// Dials what the permit allows, until the deadline.
pub(super) async fn dial(
    permit: Permit,
    heartbeat: Heartbeat,
    deadline: Instant,
) -> Result<Dialled, DialError> {
    let stream = match permit {
        Permit::Tcp(permit) => tcp::dial(&permit, heartbeat, deadline).await?,
        Permit::Tls(permit) => tls::dial(permit, heartbeat, deadline).await?,
        Permit::Udp(permit) => return udp::open(permit).await.map(Dialled::Datagrams),
        Permit::Unix(permit) => unix::dial(&permit, deadline).await?,
        Permit::Serial(permit) => serial::dial(permit, deadline).await?,
        Permit::Listen(permit) => return listen::bind(permit).map(Dialled::Listener),
    };
    Ok(Dialled::Stream(stream))
}
