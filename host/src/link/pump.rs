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
use super::journal::Journal;
use super::mail::{LinkEvent, LinkMail, StreamId};
use super::room::{Held, Room};
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
    pub(super) room: &'a Room,
    pub(super) journal: &'a Journal,
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
            let event = |stream, bytes| LinkEvent::Received { stream, bytes };
            if let Err(stopped) = self.deliver(bytes, event).await {
                return stopped;
            }
        }
    }

    /// What was received, into the mailbox; waits for room there.
    pub(super) async fn deliver(
        &self,
        bytes: Vec<u8>,
        event: impl FnOnce(StreamId, Vec<u8>) -> LinkEvent,
    ) -> Result<(), Stopped> {
        let (at, reader_of) = (self.clock.monotonic(), self.desk.incarnation());
        self.journal.received(bytes.len(), at);
        let held = self.room.take(bytes.len()).await;
        let Ok(place) = self.mailbox.reserve().await else {
            return Err(Stopped::MailboxGone);
        };
        let incarnation = self.desk.incarnation();
        // Undelivered bytes die with their incarnation: the next one would take them for the answer to
        // its own question.
        if incarnation == reader_of {
            let event = event(self.stream, bytes);
            let connection = self.connection;
            place.send(M::from(LinkMail {
                connection,
                incarnation,
                at,
                event,
                held,
            }));
        }
        Ok(())
    }

    /// From the desk into the stream, until it breaks. `Ok` when the end was asked for, or TLS, and all has left.
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
                self.journal.sent(written);
            }
            writer.flush().await?;
        }
        Ok(())
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
                    held: Held::default(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{DuplexStream, duplex, split};
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tokio_util::task::TaskTracker;

    use super::super::desk::Told;
    use super::*;

    const PIPE: usize = 1_000;
    const STREAM: StreamId = StreamId(1);

    /// A stream through memory, read into a mailbox of one. On one thread and without sockets, all has come to rest
    /// once everybody had its turn often enough.
    struct Rig {
        desk: Arc<Desk>,
        mailbox: mpsc::Receiver<LinkMail>,
        /// What the stream has taken from the peer.
        taken: Arc<AtomicUsize>,
        reading: JoinHandle<Stopped>,
    }

    impl Rig {
        fn new() -> Self {
            Self::with(1, Room::new(1 << 20))
        }

        fn with(events: usize, room: Room) -> Self {
            let desk = Arc::new(Desk::new(1, 1_000));
            desk.opened(Told {
                stream: STREAM,
                peer: "peer".to_owned(),
                secured: false,
            });
            let (sender, mailbox) = mpsc::channel(events);
            let (mut peer, ours): (DuplexStream, _) = duplex(PIPE);
            let (reader, _) = split(ours);
            let tracker = TaskTracker::new();
            let taken = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&taken);
            tracker.spawn(async move {
                while let Ok(written) = peer.write(&[7; PIPE]).await {
                    count.fetch_add(written, Ordering::Relaxed);
                }
            });
            let at = Arc::clone(&desk);
            let reading = tracker.spawn(async move {
                let pumps = Pumps {
                    desk: &at,
                    mailbox: &sender,
                    clock: Clock::start(),
                    connection: ConnectionId(5),
                    stream: STREAM,
                    room: &room,
                    journal: &super::super::tests::journal(),
                };
                pumps.read(&mut (Box::new(reader) as Reader)).await
            });
            Self {
                desk,
                mailbox,
                taken,
                reading,
            }
        }

        /// What the stream has taken from the peer when all has come to rest.
        async fn taken(&self) -> usize {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            self.taken.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_full_mailbox_stops_the_peer() {
        let mut rig = Rig::new();
        let full = 3 * PIPE;
        assert_eq!(
            rig.taken().await,
            full,
            "one in the mailbox, one in hand, one in the pipe"
        );
        assert_eq!(rig.taken().await, full);
        for more in 1..5 {
            rig.mailbox.recv().await.unwrap();
            assert_eq!(rig.taken().await, full + more * PIPE);
        }
    }

    #[tokio::test]
    async fn a_mailbox_with_room_for_events_but_not_for_bytes_stops_the_peer() {
        let least = MAX_RECEIVED;
        let mut rig = Rig::with(10_000, Room::new(0));
        let pieces = least / PIPE;
        let full = (pieces + 2) * PIPE;
        assert_eq!(
            rig.taken().await,
            full,
            "what has room, one in hand, one in the pipe"
        );
        let mail = rig.mailbox.recv().await.unwrap();
        assert_eq!(rig.taken().await, full, "it is still held");
        drop(mail);
        assert_eq!(rig.taken().await, full + PIPE);
    }

    #[tokio::test]
    async fn pause_stops_the_peer_until_it_is_resumed() {
        let mut rig = Rig::new();
        rig.desk.pause(true);
        assert_eq!(rig.taken().await, PIPE, "what fits into the pipe");
        assert!(rig.mailbox.try_recv().is_err());
        rig.desk.pause(false);
        rig.mailbox.recv().await.unwrap();
        assert_eq!(rig.taken().await, 4 * PIPE);
        rig.desk.pause(true);
        rig.mailbox.recv().await.unwrap();
        rig.mailbox.recv().await.unwrap();
        assert_eq!(
            rig.taken().await,
            4 * PIPE,
            "what was read is delivered, and no more is read"
        );
        assert!(rig.mailbox.try_recv().is_err());
    }

    #[tokio::test]
    async fn undelivered_bytes_die_with_their_incarnation() {
        let mut rig = Rig::new();
        rig.taken().await;
        rig.desk.survive(2).unwrap();
        rig.taken().await;
        let stamps = [rig.mailbox.recv().await, rig.mailbox.recv().await]
            .map(|mail| mail.unwrap().incarnation);
        assert_eq!(stamps, [1, 2]);
        let taken = rig.taken().await;
        assert_eq!(
            taken,
            6 * PIPE,
            "one more than were delivered or are held: the one that died"
        );
    }

    #[tokio::test]
    async fn a_mailbox_that_is_gone_stops_the_reader() {
        let rig = Rig::new();
        drop(rig.mailbox);
        assert!(matches!(rig.reading.await.unwrap(), Stopped::MailboxGone));
    }
}
