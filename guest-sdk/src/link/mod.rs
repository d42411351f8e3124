//! Links, connections and streams.
//!
//! - A [`Link`] is a way out (or in) that the operator granted, by name.
//! - A [`Connection`] is the wish to have it open. The host dials, and goes on dialling, until the last clone is dropped.
//! - A [`Stream`] is one life of a connection: from `opened` to `closed`. After a redial there is a *new* stream. Bytes
//!   are read from and written to a stream, never to a connection, so a reply that belongs to the old stream cannot be
//!   taken for one on the new: every call on the old one answers [`Closed`](crate::Closed), even where the redial
//!   came in the same turn.
//! - A [`Listener`] is a link on which devices call in; each that does is a connection with one life.
//!
//! On a datagram link the stream is one life of a socket: [`Stream::send`] and [`Stream::receive`] move whole datagrams.

mod connection;
mod stream;
mod table;

pub use connection::{Connection, Listener};
pub use stream::{Datagram, MAX_READ, Stream};
pub(crate) use table::Connections;

use std::rc::Rc;

use crate::abi::{self, LinkId};
use crate::shared::Shared;

/// A link that the operator granted.
#[derive(Clone)]
pub struct Link {
    shared: Rc<Shared>,
    grant: Rc<abi::Link>,
}

impl Link {
    pub(crate) fn new(shared: Rc<Shared>, grant: abi::Link) -> Self {
        Self {
            shared,
            grant: Rc::new(grant),
        }
    }

    /// Its id.
    pub fn id(&self) -> LinkId {
        self.grant.id
    }

    /// Its name in the operator's file.
    pub fn name(&self) -> &str {
        &self.grant.name
    }

    /// `tcp`, `tls`, `udp`, `unix` or `serial`.
    pub fn kind(&self) -> &str {
        &self.grant.kind
    }

    /// Whether devices call in here, rather than being called.
    pub fn listens(&self) -> bool {
        self.grant.listens
    }

    /// Asks the host to open the link and to keep it open, until the last clone of the connection is dropped.
    ///
    /// Returns at once; [`Connection::opened`] waits. Each call is a connection of its own. One
    /// that outlived a reload or a restart is taken over, if it is claimed in `configure`, or in `start` before its first await.
    pub fn open(&self) -> Connection {
        Connection::open(self.shared.clone(), self.grant.id, None)
    }

    /// As [`open`](Self::open), to an address within the range that the operator granted, such as `10.0.0.17:502`.
    pub fn open_to(&self, target: impl Into<String>) -> Connection {
        Connection::open(self.shared.clone(), self.grant.id, Some(target.into()))
    }

    /// Asks the host to let devices call in on a listening link, until the listener is dropped.
    pub fn listen(&self) -> Listener {
        Listener::new(self.open())
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Link").field(&self.grant).finish()
    }
}
