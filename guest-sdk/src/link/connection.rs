//! The wish to have a link open, and devices that call in.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::stream::Stream;
use super::table::Entry;
use crate::abi::{CloseReason, LinkId};
use crate::error::{Closed, StartTlsError};
use crate::shared::Shared;

/// The wish to have a link open: the host dials, and goes on dialling, until the last clone is dropped.
///
/// Bytes are not its business: each time that it comes up there is a new [`Stream`]. When the host has given up for good (it was
/// closed, or the operator's grant does not cover it) it stays down; open another.
#[derive(Clone)]
pub struct Connection {
    handle: Rc<Handle>,
}

/// Closes the connection when the last clone is gone.
struct Handle {
    shared: Rc<Shared>,
    entry: Rc<Entry>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.connections.let_go(&self.shared, &self.entry);
    }
}

impl Connection {
    pub(super) fn open(shared: Rc<Shared>, link: LinkId, target: Option<String>) -> Self {
        let entry = Entry::new(link, target);
        shared.connections.open(&shared, entry.clone());
        Self {
            handle: Rc::new(Handle { shared, entry }),
        }
    }

    /// Whether there is a stream right now.
    pub fn is_open(&self) -> bool {
        self.stream().is_ok()
    }

    /// The stream, if there is one right now; else why there is none.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the reason of the last failure, or without one while the first dial is under way.
    pub fn stream(&self) -> Result<Stream, Closed> {
        let entry = &self.handle.entry;
        match &*entry.life.borrow() {
            Some(life) if !life.has_ended() => {
                Ok(Stream::new(self.handle.shared.clone(), life.clone()))
            }
            _ => Err(entry.closed()),
        }
    }

    /// Waits until there is a stream, through as many dials as the host makes, and for an operator where the attempts are spent
    /// ([`Closed::outlook`]). Put a timeout around it.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the host has given up for good.
    pub async fn opened(&self) -> Result<Stream, Closed> {
        poll_fn(|cx| match self.stream() {
            Ok(stream) => Poll::Ready(Ok(stream)),
            Err(closed) if self.handle.entry.dead.get() => Poll::Ready(Err(closed)),
            Err(_) => {
                self.handle.entry.changed.register(cx.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Waits for how the dial under way ends, if there is one: at the very first, and after a reset, ours or the operator's. In all other
    /// cases, such as between two dials, it answers at once what [`Connection::stream`] does. Put a timeout around it.
    ///
    /// # Errors
    ///
    /// Why there is no stream.
    pub async fn dialled(&self) -> Result<Stream, Closed> {
        poll_fn(|cx| match self.stream() {
            Err(closed) if closed.is_dialling() && !self.handle.entry.dead.get() => {
                self.handle.entry.changed.register(cx.waker());
                Poll::Pending
            }
            ended => Poll::Ready(ended),
        })
        .await
    }

    /// Begins TLS, for a protocol that agrees on it first, where the operator allows it (`start_tls`), and waits for the stream under
    /// it. Where TLS is on already, such as on a stream that outlived its incarnation, that is the stream.
    ///
    /// The plain stream ends with it, and nothing more is read from it, so that what somebody has slipped in before is not taken for
    /// what came under TLS. If the handshake fails the link is redialled, and is plain again.
    ///
    /// # Errors
    ///
    /// Why there is no stream under TLS. Where the host declined, the plain one goes on, without what was unread.
    pub async fn start_tls(&self) -> Result<Stream, StartTlsError> {
        let Handle { shared, entry } = &*self.handle;
        let plain = self.stream()?;
        if plain.is_secured() {
            return Ok(plain);
        }
        entry.start_tls(shared);
        poll_fn(|cx| {
            if let Some(why) = entry.tls_declined.take() {
                return Poll::Ready(Err(StartTlsError::Declined { why }));
            }
            if let Some(closed) = entry.down.get() {
                return Poll::Ready(Err(closed.into()));
            }
            match self.stream() {
                Ok(stream) if stream.is_secured() => Poll::Ready(Ok(stream)),
                // Another came up meanwhile, and is none of this.
                Ok(_) => Poll::Ready(Err(Closed::redialling(CloseReason::TlsFailed).into())),
                Err(_) => {
                    entry.changed.register(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Drops the stream at once, whatever is on the way, and has the host redial at once. Nothing happens where
    /// there is no stream.
    pub fn reset(&self) {
        if let Ok(stream) = self.stream() {
            stream.reset();
        }
    }

    /// Ends the connection for good, for all its clones, after what was sent has left.
    pub fn close(self) {
        let Handle { shared, entry } = &*self.handle;
        shared.connections.close(shared, entry);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("id", &self.handle.entry.id.get())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// A link on which devices call in. Made by [`Link::listen`](super::Link::listen).
#[derive(Debug)]
pub struct Listener {
    connection: Connection,
}

impl Listener {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Waits for the next device that calls in. Its connection has one life: when it ends, nobody redials.
    ///
    /// At most 64 wait to be accepted; further ones are turned away.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the host has given up listening for good.
    pub async fn accept(&self) -> Result<Connection, Closed> {
        let Handle { shared, entry } = &*self.connection.handle;
        let caller = poll_fn(|cx| {
            if let Some(caller) = entry.callers.borrow_mut().pop_front() {
                return Poll::Ready(Ok(caller));
            }
            if entry.dead.get() {
                return Poll::Ready(Err(entry.closed()));
            }
            entry.changed.register(cx.waker());
            Poll::Pending
        })
        .await?;
        Ok(Connection {
            handle: Rc::new(Handle {
                shared: shared.clone(),
                entry: caller,
            }),
        })
    }
}
