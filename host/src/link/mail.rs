//! What a connection tells its channel.

use std::net::SocketAddr;

use super::connection::Connection;
use super::room::Held;
use crate::event::MonotonicNs;
use crate::ids::ConnectionId;

/// Something that happened on a connection. Every one goes through the channel's mailbox, in the order in which
/// it happened.
#[derive(Debug)]
pub struct LinkMail {
    /// Where.
    pub connection: ConnectionId,
    /// The incarnation that the connection belonged to when this was put into the mailbox. Mail for one that
    /// has ended is to be ignored.
    pub incarnation: u64,
    /// When the host saw it.
    pub at: MonotonicNs,
    /// What.
    pub event: LinkEvent,
    /// The room that it takes up while it waits.
    pub held: Held,
}

/// What may happen on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A stream is up: the first one, or a new one after a `Closed` that was not the end.
    Opened {
        /// Whether TLS is on.
        secured: bool,
        /// Who is at the other end, in words.
        peer: String,
        /// How many bytes may be on their way at once.
        send_window: u32,
        /// Which of the connection's streams.
        stream: StreamId,
    },
    /// The stream is down, or a dial failed. Failed dials in a row are told only where the reason changes, so a
    /// device that is away for a week is one event.
    Closed {
        /// Why.
        reason: CloseReason,
        /// What becomes of it.
        outlook: Outlook,
    },
    /// Bytes arrived: any piece of the stream.
    Received {
        /// From which of the connection's streams.
        stream: StreamId,
        /// At least one byte, at most 64 KiB.
        bytes: Vec<u8>,
    },
    /// A datagram arrived.
    Datagram {
        /// On which of the connection's sockets.
        stream: StreamId,
        /// Who sent it.
        from: Box<SocketAddr>,
        /// At most 64 KiB; may be empty.
        bytes: Vec<u8>,
    },
    /// Bytes were handed to the operating system, so that as many more may be sent. Gathered: at least half
    /// of the send window at a time.
    Sent {
        /// On which of the connection's streams.
        stream: StreamId,
        /// How many.
        bytes: u32,
    },
    /// A device called in on this connection, which listens.
    Accepted(Box<Accepted>),
}

/// A device that called in.
#[derive(Debug)]
pub struct Accepted {
    /// Its number, from 2^31 up.
    pub connection: ConnectionId,
    /// Who it is.
    pub peer: String,
    /// How many bytes may be on their way to it at once.
    pub send_window: u32,
    /// The only stream that its connection will have.
    pub stream: StreamId,
    /// The channel's handle on it. Its first mail follows this one.
    pub handle: Connection,
}

impl PartialEq for Accepted {
    fn eq(&self, other: &Self) -> bool {
        self.connection == other.connection
    }
}

impl Eq for Accepted {}

/// Counts the physical streams of a connection, from 1. Bytes that were meant for one never reach another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u64);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a connection that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is dialled again.
    Redialling,
    /// The attempts are spent: an operator, or another network of the machine, brings the next.
    GivenUp,
    /// Nothing follows.
    Ended,
}

/// Why a connection is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The driver asked for it.
    Requested,
    /// The peer ended the stream in order.
    ByPeer,
    /// The stream broke.
    Reset,
    /// Nobody listens there.
    Refused,
    /// No answer within the connect time-out, or none to TCP's own repetitions.
    TimedOut,
    /// No way there, or the name is unknown.
    Unreachable,
    /// The operator did not grant this.
    Denied,
    /// The TLS handshake failed.
    TlsFailed,
    /// The peer stopped answering the heartbeat.
    HeartbeatLost,
    /// The host stops.
    HostStopping,
    /// The operator asked for a fresh stream.
    ByOperator,
    /// The machine lost the address or the interface that the stream goes through.
    PathGone,
}

impl CloseReason {
    /// As logs and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Requested => "requested",
            CloseReason::ByPeer => "by-peer",
            CloseReason::Reset => "reset",
            CloseReason::Refused => "refused",
            CloseReason::TimedOut => "timed-out",
            CloseReason::Unreachable => "unreachable",
            CloseReason::Denied => "denied",
            CloseReason::TlsFailed => "tls-failed",
            CloseReason::HeartbeatLost => "heartbeat-lost",
            CloseReason::HostStopping => "host-stopping",
            CloseReason::ByOperator => "by-operator",
            CloseReason::PathGone => "path-gone",
        }
    }

    /// As operators read it: the rest of a sentence that begins with the link.
    pub fn sentence(self) -> &'static str {
        match self {
            CloseReason::Requested => "reset by the driver",
            CloseReason::ByPeer => "closed by the peer",
            CloseReason::Reset => "the connection broke",
            CloseReason::Refused => "nobody listens there (connection refused)",
            CloseReason::TimedOut => "no answer in time",
            CloseReason::Unreachable => "no way there, or the name is unknown",
            CloseReason::Denied => "the operator's file does not grant this address",
            CloseReason::TlsFailed => "the TLS handshake failed",
            CloseReason::HeartbeatLost => "the peer stopped answering the heartbeat",
            CloseReason::HostStopping => "the host stops",
            CloseReason::ByOperator => "reset by the operator",
            CloseReason::PathGone => {
                "this machine lost the address or interface that it went through"
            }
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
