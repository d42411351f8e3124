//! One stream after the other: what is asked of one is not done to the next, and what happens between two of them is not lost.

use std::collections::BTreeSet;

use super::*;
use crate::network::Change;

#[tokio::test]
async fn a_reset_of_an_earlier_stream_leaves_the_next_one_alone() {
    let (listener, mut channel, first, peer) = connected().await;
    drop(peer);
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, Redialling));
    let (mut peer, _) = listener.accept().await.unwrap();
    channel.opened().await;
    channel.connection.reset(first);
    peer.write_all(b"still here").await.unwrap();
    assert_eq!(channel.received(10).await, b"still here");
}

#[tokio::test]
async fn the_next_connection_waits_until_the_one_before_has_said_its_last() {
    let (listener, address) = listen().await;
    let options = options(link_to("127.0.0.1", address.port()));
    let mut before = Channel::open(options.clone(), 64);
    let (mut peer, _) = listener.accept().await.unwrap();
    let stream = before.opened().await;
    before
        .connection
        .send(stream, b"the last".to_vec())
        .unwrap();
    let Channel {
        connection,
        tracker: before,
        mailbox: _mailbox,
        ..
    } = before;
    // It lingers, for its peer does not hang up.
    connection.release();
    let _next = Channel::open(options, 64);
    let (_second, _) = soon(listener.accept()).await.unwrap();
    assert!(before.is_empty(), "two at once");
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"the last");
}

#[tokio::test]
async fn a_path_that_is_back_while_the_driver_is_still_to_be_told_is_heeded() {
    let (listener, address) = listen().await;
    let mut options = options(link_to("127.0.0.1", address.port()));
    let mut link = link_to("127.0.0.1", address.port());
    link.redial.max_attempts = Some(0);
    options.link = Arc::new(link);
    let journal = options.journal.clone();
    // No room for the news of the end.
    let mut channel = Channel::open(options, 1);
    let (peer, _) = listener.accept().await.unwrap();
    channel
        .state(|state| matches!(state, LinkState::Connected { .. }))
        .await;
    drop(peer);
    channel
        .state(|state| matches!(state, LinkState::Failed { .. }))
        .await;
    journal.network_changed(&Change {
        gone: BTreeSet::new(),
        new: ["192.0.2.1".parse().unwrap()].into(),
    });
    channel.opened().await;
    assert_eq!(channel.closed().await, (CloseReason::ByPeer, GivenUp));
    soon(listener.accept()).await.unwrap();
    channel.opened().await;
}

#[tokio::test]
async fn a_path_that_is_gone_before_the_driver_was_told_of_the_stream_ends_it() {
    let (listener, address) = listen().await;
    let options = options(link_to("127.0.0.1", address.port()));
    let journal = options.journal.clone();
    let (sender, mailbox) = mpsc::channel(1);
    let tracker = TaskTracker::new();
    // Somebody else's mail is in the way.
    let place = sender.clone().reserve_owned().await.unwrap();
    let connection = Connection::open(options, sender, &tracker);
    let mut channel = Channel {
        mailbox,
        connection,
        tracker,
        last: StreamId(0),
    };
    let (_peer, _) = listener.accept().await.unwrap();
    channel
        .state(|state| matches!(state, LinkState::Connected { .. }))
        .await;
    let gone = |address: &str| {
        journal.network_changed(&Change {
            gone: [address.parse().unwrap()].into(),
            new: BTreeSet::new(),
        });
    };
    gone("192.0.2.1");
    gone("127.0.0.1");
    drop(place);
    channel.opened().await;
    assert_eq!(channel.closed().await, (CloseReason::PathGone, Redialling));
    soon(listener.accept()).await.unwrap();
    channel.opened().await;
}
