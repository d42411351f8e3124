//! Between a stream that is up and the channel: one pump reads, one writes, one tells of credits.
//!
//! A full mailbox stops the reader, so that a slow driver is felt by the peer through TCP's own window. The writer
//! waits for nobody but the peer. None of them holds a buffer while nothing happens.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::desk::Desk;
use super::mail::{LinkEvent, LinkMail, StreamId};
use super::transport::{Reader, Writer};
use crate::clock::Clock;
use crate::ids::ConnectionId;

/// The most bytes in one `Received`.
pub(super) const MAX_RECEIVED: usize = 64 * 1024;

const SENDER_LIVES: &str = "the desk holds the sender, and is borrowed here";

/// Why a pump stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The peer ended the stream.
    AtEnd,
    /// The stream broke.
    Broken(io::Error),
    /// The channel has dropped its mailbox.
    MailboxGone,
}

/// What the pumps of one stream need.
pub(super) struct Pumps<'a, M> {
    pub(super) desk: &'a Desk,
    pub(super) mailbox: &'a Sender<M>,
    pub(super) clock: Clock,
    pub(super) connection: ConnectionId,
    pub(super) stream: StreamId,
}

impl<M: From<LinkMail>> Pumps<'_, M> {
    /// From the stream into the mailbox, until the stream ends.
    pub(super) async fn read(&self, reader: &mut Reader) -> Stopped {
        let mut paused = self.desk.paused();
        loop {
            paused.wait_for(|paused| !paused).await.expect(SENDER_LIVES);
            let bytes = tokio::select! {
                biased;
                _ = paused.wait_for(|paused| *paused) => continue,
                read = read_some(reader) => match read {
                    Ok(bytes) if bytes.is_empty() => return Stopped::AtEnd,
                    Ok(bytes) => bytes,
                    Err(cause) => return Stopped::Broken(cause),
                },
            };
            let (at, reader_of) = (self.clock.monotonic(), self.desk.incarnation());
            let Ok(place) = self.mailbox.reserve().await else {
                return Stopped::MailboxGone;
            };
            let incarnation = self.desk.incarnation();
            // Undelivered bytes die with their incarnation: the next one would take them for the answer to
            // its own question.
            if incarnation == reader_of {
                let event = LinkEvent::Received {
                    stream: self.stream,
                    bytes,
                };
                let connection = self.connection;
                place.send(M::from(LinkMail {
                    connection,
                    incarnation,
                    at,
                    event,
                }));
            }
        }
    }

    /// From the desk into the stream, until it breaks. `Ok` when the end was asked for and all has left.
    pub(super) async fn write(&self, writer: &mut Writer) -> io::Result<()> {
        while let Some(bytes) = self.desk.next_bytes().await {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let written = writer.write(rest).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[written..];
                self.desk.wrote(written);
            }
            writer.flush().await?;
        }
        writer.shutdown().await
    }

    /// Credits into the mailbox. Returns when that is gone.
    pub(super) async fn credit(&self) -> Stopped {
        loop {
            self.desk.credit_due().await;
            let Ok(place) = self.mailbox.reserve().await else {
                return Stopped::MailboxGone;
            };
            if let Some((incarnation, bytes)) = self.desk.credit() {
                let (connection, at) = (self.connection, self.clock.monotonic());
                let event = LinkEvent::Sent {
                    stream: self.stream,
                    bytes,
                };
                place.send(M::from(LinkMail {
                    connection,
                    incarnation,
                    at,
                    event,
                }));
            }
        }
    }
}

/// Throws away what still arrives, until the peer ends the stream too or the time is over: a socket that is closed
/// with bytes unread makes TCP reset the connection, and what was sent last may be lost with it (RFC 9293, 3.6.1).
pub(super) async fn drain(reader: &mut Reader, at_most: Duration) {
    let to_the_end =
        async { while read_some(reader).await.is_ok_and(|bytes| !bytes.is_empty()) {} };
    // Either way the stream is done with.
    timeout(at_most, to_the_end).await.ok();
}

/// Reads what is there, empty at the end of the stream. The buffer is on the stack only while the stream is asked,
/// so a connection that waits holds none, and the bytes that came are allocated at their size.
async fn read_some(reader: &mut Reader) -> io::Result<Vec<u8>> {
    poll_fn(|context| {
        let mut space = [const { MaybeUninit::uninit() }; MAX_RECEIVED];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().to_vec()))
    })
    .await
}
