//! Links against real peers on loopback. Nothing here waits for a duration, only for mail, states and bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::Outlook::{Ended, GivenUp, Redialling};
use super::room::Room;
use super::*;
use crate::backoff::{Policy, Redial};
use crate::clock::Clock;
use crate::config::{Connect, Heartbeat, Link, OnRestart, Rate};
use crate::event::MonotonicNs;
use crate::ids::{ChannelId, ConnectionId};

mod streams;

/// A hang is a failure with a name; no test takes anywhere near as long.
const HANG: Duration = Duration::from_secs(60);

/// Quickly, and without end.
const REDIAL: Redial = Redial {
    delays: Policy {
        base: Duration::from_millis(10),
        max: Duration::from_millis(20),
    },
    ..Redial::PLANT
};
/// So slowly that no test sees one by itself.
const SELDOM: Policy = Policy {
    base: HANG.saturating_mul(2),
    max: HANG.saturating_mul(2),
};

async fn soon<F: Future>(event: F) -> F::Output {
    tokio::time::timeout(HANG, event)
        .await
        .expect("what was waited for never came")
}

/// A link that redials quickly.
pub(super) fn link_to(host: &str, port: u16) -> Link {
    Link {
        name: "plc".to_owned(),
        connect: Connect::Tcp {
            host: host.to_owned(),
            port,
        },
        dial: Vec::new(),
        tls: None,
        connect_timeout: Duration::from_secs(10),
        redial: REDIAL,
        heartbeat: Heartbeat::default(),
        on_restart: OnRestart::Reset,
    }
}

/// A journal that keeps nothing.
pub(super) fn journal() -> Arc<Journal> {
    let channel = ChannelId::new("press-3").unwrap();
    let link = Arc::new(link_to("127.0.0.1", 1));
    Journal::open(channel, link, Clock::start(), None)
}

pub(super) fn options(link: Link) -> OpenOptions {
    OpenOptions {
        journal: journal(),
        channel: ChannelId::new("press-3").unwrap(),
        id: ConnectionId(5),
        link: Arc::new(link),
        target: None,
        clock: Clock::start(),
        incarnation: 1,
        seed: 1,
        send_window: DEFAULT_SEND_WINDOW,
        room: Room::new(1 << 20),
        callers: CallerIds::default(),
        dials: DialRate::new(Rate {
            per_second: 10_000,
            burst: 10_000,
        }),
    }
}

/// A channel's side: the mailbox, and one connection.
struct Channel {
    mailbox: mpsc::Receiver<LinkMail>,
    connection: Connection,
    tracker: TaskTracker,
    /// The stream that was told of last.
    last: StreamId,
}

impl Channel {
    fn open(options: OpenOptions, mailbox: usize) -> Self {
        let (sender, mailbox) = mpsc::channel(mailbox);
        let tracker = TaskTracker::new();
        let connection = Connection::open(options, sender, &tracker);
        Self {
            mailbox,
            connection,
            tracker,
            last: StreamId(0),
        }
    }

    fn reset(&self) {
        self.connection.reset(self.last);
    }

    async fn mail(&mut self) -> LinkMail {
        let mail = tokio::time::timeout(HANG, self.mailbox.recv())
            .await
            .expect("no mail came");
        let mail = mail.expect("the task has ended");
        assert_eq!(mail.connection, ConnectionId(5));
        if let LinkEvent::Opened { stream, .. } = mail.event {
            self.last = stream;
        }
        mail
    }

    async fn event(&mut self) -> LinkEvent {
        self.mail().await.event
    }

    async fn opened(&mut self) -> StreamId {
        match self.event().await {
            LinkEvent::Opened { stream, .. } => stream,
            other => panic!("not opened: {other:?}"),
        }
    }

    async fn closed(&mut self) -> (CloseReason, Outlook) {
        match self.event().await {
            LinkEvent::Closed { reason, outlook } => (reason, outlook),
            other => panic!("not closed: {other:?}"),
        }
    }

    /// So many bytes, in however many pieces, and nothing else between them.
    async fn received(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.event().await {
                LinkEvent::Received { bytes, .. } => {
                    assert!((1..=64 * 1024).contains(&bytes.len()));
                    all.extend(bytes);
                }
                other => panic!("after {} bytes: {other:?}", all.len()),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    async fn state(&self, wanted: impl Fn(&LinkState) -> bool) -> LinkState {
        let mut state: watch::Receiver<LinkState> = self.connection.state();
        let found = tokio::time::timeout(HANG, state.wait_for(|state| wanted(state))).await;
        found
            .expect("the state never came")
            .expect("the task has ended")
            .clone()
    }

    /// The task has ended, and nothing more was said.
    async fn ended(mut self) {
        assert!(self.mailbox.recv().await.is_none());
        self.tracker.close();
        soon(self.tracker.wait()).await;
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener, a channel that is connected to it, and the peer's end.
async fn connected_with(
    change: impl FnOnce(&mut OpenOptions),
) -> (TcpListener, Channel, StreamId, TcpStream) {
    let (listener, address) = listen().await;
    let mut options = options(link_to("127.0.0.1", address.port()));
    change(&mut options);
    let mut channel = Channel::open(options, 64);
    let (peer, _) = listener.accept().await.unwrap();
    let stream = channel.opened().await;
    (listener, channel, stream, peer)
}

async fn connected() -> (TcpListener, Channel, StreamId, TcpStream) {
    connected_with(|_| ()).await
}

#[tokio::test]
async fn bytes_go_there_and_come_back() {
    let (listener, mut channel, stream, mut peer) = connected().await;
    channel.connection.send(stream, b"ping".to_vec()).unwrap();
    let mut asked = [0; 4];
    peer.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"ping");
    peer.write_all(b"pong").await.unwrap();
    assert_eq!(channel.received(4).await, b"pong");

    let address = listener.local_addr().unwrap().to_string();
    let state = channel.state(|_| true).await;
    assert!(matches!(state, LinkState::Connected { peer, .. } if peer == address));
}

#[tokio::test]
async fn a_name_is_resolved_by_the_host() {
    let (listener, address) = listen().await;
    let mut channel = Channel::open(options(link_to("localhost", address.port())), 64);
    listener.accept().await.unwrap();
    channel.opened().await;
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_dialled_again() {
    let (listener, mut channel, first, peer) = connected().await;
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    let (mut peer, _) = listener.accept().await.unwrap();
    let second = channel.opened().await;
    assert!(second > first);

    channel.connection.send(first, b"late".to_vec()).unwrap();
    channel.connection.send(second, b"new".to_vec()).unwrap();
    let mut came = [0; 3];
    peer.read_exact(&mut came).await.unwrap();
    assert_eq!(
        &came, b"new",
        "bytes for the old stream must not reach the new one"
    );
}

#[tokio::test]
async fn a_broken_stream_is_a_reset() {
    let (_listener, mut channel, _, peer) = connected().await;
    peer.set_zero_linger().unwrap();
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::Reset, Redialling));
}

#[tokio::test]
async fn a_device_that_is_away_is_told_once_and_found_when_it_is_back() {
    // An address of its own, so that no other test is given the port meanwhile.
    let reserved = TcpListener::bind("127.77.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let mut channel = Channel::open(options(link_to("127.77.0.1", address.port())), 64);
    assert_eq!(channel.closed().await, (CloseReason::Refused, Redialling));
    let waiting = |state: &LinkState| matches!(state, LinkState::Reconnecting { attempt, .. } if *attempt >= 5);
    let state = channel.state(waiting).await;
    assert!(matches!(
        state,
        LinkState::Reconnecting {
            reason: CloseReason::Refused,
            ..
        }
    ));
    assert!(
        channel.mailbox.try_recv().is_err(),
        "the same reason is told once"
    );

    let listener = TcpListener::bind(address).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    channel.opened().await;

    drop(listener);
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    assert_eq!(
        channel.closed().await,
        (CloseReason::Refused, Redialling),
        "a new reason is told"
    );
}

#[tokio::test]
async fn a_dial_that_nobody_answers_times_out() {
    // A full accept queue: Linux drops further connection requests without an answer.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        fillers.push(filler);
    }
    let mut link = link_to("127.0.0.1", address.port());
    link.connect_timeout = Duration::from_millis(50);
    let mut channel = Channel::open(options(link), 64);
    assert_eq!(channel.closed().await, (CloseReason::TimedOut, Redialling));
}

#[tokio::test]
async fn an_unknown_name_is_unreachable() {
    let mut link = link_to("no-such-device.invalid", 502);
    link.connect_timeout = Duration::from_millis(500);
    let mut channel = Channel::open(options(link), 64);
    assert_eq!(
        channel.closed().await,
        (CloseReason::Unreachable, Redialling)
    );
}

#[tokio::test]
async fn what_is_not_granted_is_never_dialled() {
    let (listener, address) = listen().await;
    let mut options = options(link_to("127.0.0.1", 1));
    options.target = Some(address.to_string());
    let mut channel = Channel::open(options, 64);
    assert_eq!(channel.closed().await, (CloseReason::Denied, Ended));
    assert_eq!(
        channel.state(|_| true).await,
        LinkState::Disconnected(CloseReason::Denied)
    );
    channel.ended().await;

    let listener = listener.into_std().unwrap();
    let kind = listener.accept().unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::WouldBlock, "somebody called");
}

#[tokio::test]
async fn the_links_own_address_may_be_named() {
    let (listener, address) = listen().await;
    let mut options = options(link_to("127.0.0.1", address.port()));
    options.target = Some(address.to_string());
    let mut channel = Channel::open(options, 64);
    listener.accept().await.unwrap();
    channel.opened().await;
}

#[tokio::test]
async fn a_reset_dials_at_once_and_at_most_once_a_second() {
    let (listener, mut channel, first, mut old) = connected_with(|options| {
        let mut link = link_to("127.0.0.1", options.link.connect_port());
        // A reset that were taken for a loss would wait for this.
        link.redial.delays = SELDOM;
        options.link = Arc::new(link);
    })
    .await;
    channel.reset();
    let closed = channel.mail().await;
    assert_eq!(
        closed.event,
        LinkEvent::Closed {
            reason: CloseReason::Requested,
            outlook: Redialling
        }
    );
    assert_eq!(
        old.read(&mut [0; 1]).await.unwrap(),
        0,
        "the old stream is gone"
    );
    let (_second, _) = listener.accept().await.unwrap();
    assert!(channel.opened().await > first);

    channel.reset();
    assert_eq!(channel.closed().await, (CloseReason::Requested, Redialling));
    let again = channel.mail().await;
    assert!(matches!(again.event, LinkEvent::Opened { .. }));
    assert!(
        again.at.since(closed.at) >= Duration::from_millis(900),
        "{:?}",
        again.at.since(closed.at)
    );
}

#[tokio::test]
async fn a_reset_of_what_is_down_does_nothing() {
    let (listener, mut channel, _, peer) = connected().await;
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    channel.reset();
    let (mut peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
    peer.write_all(b"still here").await.unwrap();
    assert_eq!(channel.received(10).await, b"still here");
}

#[tokio::test]
async fn no_more_is_sent_than_the_window_holds() {
    let (_listener, channel, stream, _peer) =
        connected_with(|options| options.send_window = 1_000).await;
    let connection = &channel.connection;
    assert_eq!(connection.window_left(stream), 1_000);
    connection.send(stream, vec![0; 600]).unwrap();
    assert_eq!(connection.window_left(stream), 400);
    let refused = connection.send(stream, vec![0; 401]);
    assert_eq!(
        refused,
        Err(WindowExceeded {
            bytes: 401,
            left: 400
        })
    );
    connection.send(stream, vec![0; 400]).unwrap();
    assert_eq!(connection.window_left(stream), 0);
}

#[tokio::test]
async fn credits_come_when_half_the_window_is_free_again() {
    let (_listener, mut channel, stream, mut peer) =
        connected_with(|options| options.send_window = 1_000).await;
    channel.connection.send(stream, vec![1; 499]).unwrap();
    let mut came = vec![0; 499];
    peer.read_exact(&mut came).await.unwrap();
    peer.write_all(b"x").await.unwrap();
    assert_eq!(
        channel.received(1).await,
        b"x",
        "a short exchange sees no credit"
    );

    channel.connection.send(stream, vec![1; 1]).unwrap();
    assert_eq!(
        channel.event().await,
        LinkEvent::Sent { stream, bytes: 500 }
    );
    assert_eq!(channel.connection.window_left(stream), 1_000);
}

#[tokio::test]
async fn a_driver_that_counts_moves_any_amount_through_its_window() {
    let (_listener, mut channel, stream, mut peer) =
        connected_with(|options| options.send_window = 10_000).await;
    let all: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let reader = channel.tracker.spawn(async move {
        let mut came = vec![0; 1_000_000];
        peer.read_exact(&mut came).await.unwrap();
        came
    });
    let (mut rest, mut left) = (all.as_slice(), 10_000);
    while !rest.is_empty() {
        if left == 0 {
            match channel.event().await {
                LinkEvent::Sent { bytes, .. } => left += bytes as usize,
                other => panic!("{other:?}"),
            }
        }
        let (now, later) = rest.split_at(rest.len().min(left).min(777));
        channel.connection.send(stream, now.to_vec()).unwrap();
        left -= now.len();
        rest = later;
    }
    assert!(reader.await.unwrap() == all);
}

#[tokio::test]
async fn all_bytes_come_in_order_through_a_mailbox_of_one() {
    let (listener, address) = listen().await;
    let mut channel = Channel::open(options(link_to("127.0.0.1", address.port())), 1);
    let (mut peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
    let all: Vec<u8> = (0..8_000_000_u32).map(|n| (n / 251) as u8).collect();
    let sent = all.clone();
    let writer = channel.tracker.spawn(async move {
        peer.write_all(&sent).await.unwrap();
        peer
    });
    assert!(channel.received(all.len()).await == all);
    drop(writer.await.unwrap());
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
}

#[tokio::test]
async fn single_bytes_make_up_the_whole() {
    let (_listener, mut channel, stream, mut peer) = connected().await;
    peer.set_nodelay(true).unwrap();
    let mut came = Vec::new();
    for n in 0..200_u8 {
        channel.connection.send(stream, vec![n]).unwrap();
        peer.write_all(&[n]).await.unwrap();
        came.extend(channel.received(1).await);
    }
    let mut there = vec![0; 200];
    peer.read_exact(&mut there).await.unwrap();
    let all: Vec<u8> = (0..200).collect();
    assert_eq!((came, there), (all.clone(), all));
}

#[tokio::test]
async fn what_was_sent_before_close_arrives() {
    const COUNT: usize = 4_000_000;
    let (_listener, mut channel, stream, mut peer) =
        connected_with(|options| options.send_window = 4_000_000).await;
    channel.connection.send(stream, vec![7; COUNT]).unwrap();
    channel.connection.close();
    channel.connection.send(stream, vec![8; 10]).unwrap();
    peer.write_all(b"unheard").await.unwrap();
    let mut came = Vec::new();
    peer.read_to_end(&mut came).await.unwrap();
    assert!(came == vec![7; COUNT], "{} bytes came", came.len());
    drop(peer);
    let mut last = channel.event().await;
    if let LinkEvent::Sent { .. } = last {
        last = channel.event().await;
    }
    assert_eq!(
        last,
        LinkEvent::Closed {
            reason: CloseReason::Requested,
            outlook: Ended
        }
    );
    channel.ended().await;
}

#[tokio::test]
async fn close_does_not_wait_for_a_peer_that_takes_nothing() {
    let (_listener, mut channel, stream, _peer) =
        connected_with(|options| options.send_window = 64 << 20).await;
    channel.connection.send(stream, vec![7; 64 << 20]).unwrap();
    channel.connection.close();
    assert_eq!(
        channel.closed().await,
        (CloseReason::TimedOut, Ended),
        "bytes were lost, and that is said"
    );
    channel.ended().await;
}

#[tokio::test]
async fn close_ends_what_is_down_too() {
    let reserved = TcpListener::bind("127.77.0.2:0").await.unwrap();
    let mut link = link_to("127.77.0.2", reserved.local_addr().unwrap().port());
    link.redial.delays = SELDOM;
    drop(reserved);
    let mut channel = Channel::open(options(link), 64);
    assert_eq!(channel.closed().await, (CloseReason::Refused, Redialling));
    channel.connection.close();
    assert_eq!(channel.closed().await, (CloseReason::Requested, Ended));
    channel.ended().await;
}

#[tokio::test]
async fn spent_attempts_end_the_dialling_until_the_operator_asks() {
    let reserved = TcpListener::bind("127.77.0.3:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    let mut link = link_to("127.77.0.3", address.port());
    link.redial.max_attempts = Some(3);
    drop(reserved);
    let mut channel = Channel::open(options(link), 64);
    assert_eq!(channel.closed().await, (CloseReason::Refused, Redialling));
    assert_eq!(
        channel.closed().await,
        (CloseReason::Refused, GivenUp),
        "that nothing follows by itself is told too"
    );
    let failed = LinkState::Failed {
        reason: CloseReason::Refused,
    };
    assert_eq!(channel.state(|_| true).await, failed);
    let dead = channel.connection.state();
    channel.reset();
    channel.connection.reconnect();
    assert_eq!(
        channel.closed().await,
        (CloseReason::Refused, Redialling),
        "that it is dialled after all is told too"
    );
    assert_eq!(channel.closed().await, (CloseReason::Refused, GivenUp));
    assert!(
        dead.has_changed().unwrap(),
        "it was dialled, and gave up again"
    );

    let listener = TcpListener::bind(address).await.unwrap();
    channel.connection.reconnect();
    let (_peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
    channel.connection.close();
    assert_eq!(channel.closed().await, (CloseReason::Requested, Ended));
    channel.ended().await;
}

#[tokio::test]
async fn an_operator_does_not_wait_for_a_delay_and_may_drop_a_stream() {
    let reserved = TcpListener::bind("127.77.0.4:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    let mut link = link_to("127.77.0.4", address.port());
    link.redial.delays = SELDOM;
    drop(reserved);
    let mut channel = Channel::open(options(link), 64);
    assert_eq!(channel.closed().await, (CloseReason::Refused, Redialling));
    let listener = TcpListener::bind(address).await.unwrap();
    channel.connection.reconnect();
    let (mut first, _) = listener.accept().await.unwrap();
    channel.opened().await;
    channel.connection.reconnect();
    assert_eq!(
        channel.closed().await,
        (CloseReason::ByOperator, Redialling)
    );
    assert_eq!(soon(first.read(&mut [0; 1])).await.unwrap(), 0);
    let (_second, _) = listener.accept().await.unwrap();
    channel.opened().await;
}

#[tokio::test]
async fn redials_wait_for_their_turn_and_an_operator_does_not() {
    let dials = DialRate::new(Rate {
        per_second: 1,
        burst: 1,
    });
    let far = Clock::start().monotonic().after(HANG);
    // Nobody else has a turn within the time of a test.
    while dials.place(MonotonicNs(0)) < far {}
    let (listener, mut channel, _, peer) =
        connected_with(|options| options.dials = dials.clone()).await;
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    channel
        .state(|state| matches!(state, LinkState::Reconnecting { .. }))
        .await;
    channel.connection.reconnect();
    let (_peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
    channel.reset();
    assert_eq!(channel.closed().await, (CloseReason::Requested, Redialling));
    let (_peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
}

#[tokio::test]
async fn dropping_the_handle_ends_stream_and_task() {
    let (_listener, channel, _, mut peer) = connected().await;
    let Channel {
        mut mailbox,
        connection,
        tracker,
        ..
    } = channel;
    drop(connection);
    assert_eq!(soon(peer.read(&mut [0; 1])).await.unwrap(), 0);
    assert!(mailbox.recv().await.is_none(), "nobody is told");
    tracker.close();
    soon(tracker.wait()).await;
}

#[tokio::test]
async fn dropping_the_handle_ends_a_task_that_waits_for_the_mailbox() {
    let (listener, address) = listen().await;
    let channel = Channel::open(options(link_to("127.0.0.1", address.port())), 1);
    let (mut peer, _) = listener.accept().await.unwrap();
    // `Opened` fills the mailbox; the task holds this byte and waits.
    peer.write_all(b"x").await.unwrap();
    channel
        .state(|state| matches!(state, LinkState::Connected { .. }))
        .await;
    let Channel {
        mailbox: _unread,
        connection,
        tracker,
        ..
    } = channel;
    drop(connection);
    tracker.close();
    soon(tracker.wait()).await;
}

#[tokio::test]
async fn a_mailbox_that_is_gone_ends_the_task() {
    let (_listener, channel, _, mut peer) = connected().await;
    let Channel {
        mailbox,
        connection: _held,
        tracker,
        ..
    } = channel;
    drop(mailbox);
    peer.write_all(b"x").await.unwrap();
    tracker.close();
    soon(tracker.wait()).await;
}

#[tokio::test]
async fn there_are_never_two_streams() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (listener, address) = listen().await;
    let mut channel = Channel::open(options(link_to("127.0.0.1", address.port())), 1);
    let mut before: Option<(StreamId, std::net::TcpStream)> = None;
    for round in 0..40 {
        let (mut peer, _) = listener.accept().await.unwrap();
        let stream = channel.opened().await;
        if let Some((earlier, mut old)) = before.take() {
            assert!(stream > earlier);
            // Bytes that had left, then the end; "would block" were a stream that is still open.
            let rest = std::io::copy(&mut old, &mut std::io::sink());
            assert!(!rest.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        }
        channel
            .connection
            .send(stream, vec![1; random.usize(1..5_000)])
            .unwrap();
        let count = random.usize(0..5_000);
        peer.write_all(&vec![2; count]).await.unwrap();
        channel.received(count).await;
        if round % 20 == 10 {
            channel.reset();
            assert_eq!(channel.closed().await, (CloseReason::Requested, Redialling));
        } else {
            peer.shutdown().await.unwrap();
            assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
        }
        before = Some((stream, peer.into_std().unwrap()));
    }
}

#[tokio::test]
async fn a_survivor_speaks_to_the_next_incarnation() {
    let (_listener, mut channel, stream, mut peer) =
        connected_with(|options| options.send_window = 1_000).await;
    channel.connection.pause(true);
    channel.connection.send(stream, vec![1; 400]).unwrap();
    peer.write_all(b"old").await.unwrap();
    peer.read_exact(&mut [0; 400]).await.unwrap();

    let survivor = channel.connection.survive(2).expect("it is up");
    assert_eq!((survivor.stream, survivor.send_window), (stream, 1_000));
    assert_eq!(
        channel.connection.window_left(stream),
        1_000,
        "the whole window is new"
    );
    let mail = channel.mail().await;
    assert_eq!(mail.incarnation, 2);
    assert_eq!(
        mail.event,
        LinkEvent::Received {
            stream,
            bytes: b"old".to_vec()
        }
    );

    drop(peer);
    let mail = channel.mail().await;
    assert_eq!(
        (mail.incarnation, &mail.event),
        (
            2,
            &LinkEvent::Closed {
                reason: CloseReason::ByPeer,
                outlook: Redialling
            }
        )
    );
}

#[tokio::test]
async fn what_is_down_does_not_survive() {
    let (listener, mut channel, _, peer) = connected().await;
    drop(listener);
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    assert_eq!(channel.connection.survive(2), None);
}

#[tokio::test]
async fn a_stream_that_is_closing_does_not_survive() {
    let (_listener, channel, _, _peer) = connected().await;
    channel.connection.close();
    assert_eq!(channel.connection.survive(2), None);
}

impl Link {
    fn connect_port(&self) -> u16 {
        match self.connect {
            Connect::Tcp { port, .. } => port,
            _ => panic!("it has no port"),
        }
    }
}
