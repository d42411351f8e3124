//! A TCP stream whose bytes are acknowledged to the peer at once.
//!
//! A broker acknowledges each message with a few bytes. Many (mosquitto unless it is told otherwise) send the first of them and keep
//! back the next until TCP has acknowledged it (Nagle's algorithm), which the kernel on this side puts off by up to 40 ms
//! unless there is something to send. With a full window there is not: every window would take 40 ms. So the delay is
//! switched off, after each read again, since the kernel switches it on by itself (tcp(7), TCP_QUICKACK).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(super) struct Prompt(TcpStream);

impl Prompt {
    /// Small packets are not held back in either direction from now on.
    pub(super) fn new(stream: TcpStream) -> Self {
        let this = Self(stream);
        // Without it everything is slower and nothing wrong.
        if let Err(error) = this.0.set_nodelay(true) {
            tracing::debug!(%error, "small packets may be late");
        }
        this.acknowledge_at_once();
        this
    }

    fn acknowledge_at_once(&self) {
        // As above.
        SockRef::from(&self.0).set_tcp_quickack(true).ok();
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.0).poll_read(context, into);
        if read.is_ready() {
            this.acknowledge_at_once();
        }
        read
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
