//! A socket that takes back what has not left, when it is given up.
//!
//! The kernel goes on to send what it was handed after the socket is closed, for minutes if need be. Of a link that was given
//! up, for nobody answered, that would be requests that people were told had failed: they would reach the device after those
//! of the next connection, and a write would be overtaken by one that was made later. So a socket that is dropped before its end
//! was sent in order is given a user timeout (RFC 5482) of next to nothing: what is not acknowledged by the time when it would be
//! sent again is dropped. What has arrived has arrived, and a peer that is there sees an ordinary end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// The least that the kernel takes.
const AT_ONCE: Duration = Duration::from_millis(1);

/// A socket, or its half that is written to.
pub(super) trait Tcp {
    /// The socket.
    fn socket(&self) -> SockRef<'_>;
}

impl Tcp for TcpStream {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl Tcp for OwnedWriteHalf {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self.as_ref())
    }
}

/// A socket that takes back what has not left, unless its end was sent.
pub(super) struct TakesBack<S: Tcp> {
    socket: S,
    ended: bool,
}

impl<S: Tcp> TakesBack<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            ended: false,
        }
    }
}

impl<S: Tcp> Drop for TakesBack<S> {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only where the socket is broken, and then nothing is sent any more.
            self.socket
                .socket()
                .set_tcp_user_timeout(Some(AT_ONCE))
                .ok();
        }
    }
}

impl<S: Tcp + AsyncWrite + Unpin> AsyncWrite for TakesBack<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S: Tcp + AsyncRead + Unpin> AsyncRead for TakesBack<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, bytes)
    }
}
