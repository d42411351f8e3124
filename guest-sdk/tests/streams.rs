//! Connections and streams: redials, cut-off reads, the send window, pausing, callers.

mod common;

use std::time::Duration;

use bulkhead_sdk::abi::Action;
use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{CloseReason, Priority, Quality};
use common::{Step, probe};

fn host(steps: &[Step]) -> FakeHost<common::Probe> {
    let mut host = FakeHost::start(probe(steps)).expect("no faults");
    assert_eq!(log(&mut host).len(), 2, "what it says at its start");
    host
}

fn log(host: &mut FakeHost<common::Probe>) -> Vec<String> {
    host.take_log()
        .into_iter()
        .map(|line| line.message)
        .collect()
}

#[test]
fn a_reply_may_come_in_any_pieces() {
    let mut host = host(&[
        Step::Send(b"?"),
        Step::ReadExact(4),
        Step::ReadUntil(b'\n', 8),
    ]);
    host.begin_poll("all");
    assert_eq!(host.take_sent("line"), b"?");
    for byte in b"abcdef\nrest" {
        assert_eq!(host.poll_answer("all").is_some(), *byte == b'r');
        host.receive("line", &[*byte]);
    }
    assert_eq!(log(&mut host), ["read abcd", "read ef\n"]);
}

#[test]
fn a_read_on_the_old_stream_is_closed_though_the_new_one_opens_in_the_same_turn() {
    let mut host = host(&[Step::Send(b"?"), Step::ReadExact(4)]);
    host.begin_poll("all");
    host.receive("line", b"ab");
    host.drop_connection("line", CloseReason::ByPeer);
    let done = host.poll_answer("all").expect("the poll has ended");
    assert_eq!(done.failed, 1);
    assert_eq!(host.quality("tag"), Some(Quality::BadNotConnected));

    // The two bytes that the old stream had brought are not part of the next reply.
    host.begin_poll("all");
    host.receive("line", b"wxyz");
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(
        log(&mut host),
        [
            "poll failed: connection down: closed by the peer",
            "read wxyz"
        ]
    );
}

#[test]
fn a_stream_stays_closed_between_two_calls() {
    // The stream dies while the task sleeps; the read that follows must not wait for bytes of the next one.
    let sleep = Duration::from_millis(10);
    let mut host = host(&[Step::Send(b"?"), Step::Sleep(sleep), Step::ReadExact(4)]);
    host.begin_poll("all");
    host.drop_connection("line", CloseReason::Reset);
    host.receive("line", b"late");
    host.advance(sleep);
    assert_eq!(host.poll_answer("all").map(|done| done.failed), Some(1));
}

#[test]
fn what_came_before_the_end_can_be_read_after_it() {
    let sleep = Duration::from_millis(10);
    let mut host = host(&[
        Step::Send(b"?"),
        Step::Sleep(sleep),
        Step::ReadExact(4),
        Step::ReadExact(1),
    ]);
    host.begin_poll("all");
    host.receive("line", b"last");
    host.drop_connection("line", CloseReason::ByPeer);
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(
        log(&mut host),
        [
            "read last",
            "poll failed: connection down: closed by the peer"
        ]
    );
}

#[test]
fn a_reset_throws_away_what_came_and_redials() {
    let mut host = host(&[
        Step::Send(b"?"),
        Step::ReadExact(1),
        Step::Reset,
        Step::ReadExact(1),
    ]);
    host.begin_poll("all");
    host.receive("line", b"abc");
    assert_eq!(host.finish_poll("all").failed, 1);
    let resets = |action: &&Action| matches!(action, Action::Reset(_));
    assert_eq!(host.history().iter().filter(resets).count(), 1);
    assert_eq!(
        log(&mut host),
        [
            "read a",
            "poll failed: connection down: closed by this driver"
        ]
    );
    host.begin_poll("all");
    host.receive("line", b"z");
    host.finish_poll("all");
    assert_eq!(log(&mut host)[0], "read z");
}

#[test]
fn a_message_without_an_end_is_too_long() {
    let mut host = host(&[Step::ReadUntil(b'\n', 8)]);
    host.begin_poll("all");
    host.receive("line", b"1234567");
    assert_eq!(host.poll_answer("all"), None);
    host.receive("line", b"8\n");
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(
        log(&mut host),
        ["poll failed: more than 8 bytes where a shorter message was due"]
    );
}

#[test]
fn a_link_that_is_away_fails_polls_at_once_and_comes_back() {
    let mut host = host(&[Step::Send(b"?"), Step::ReadExact(1)]);
    host.away("line", CloseReason::Refused);
    assert_eq!(host.poll("all").failed, 1);
    assert_eq!(log(&mut host), ["poll failed: connection down: refused"]);
    host.restore("line");
    host.peer("line", |_| b"!".to_vec());
    assert_eq!(host.poll("all").failed, 0);
}

#[test]
fn opened_waits_through_failed_dials() {
    let mut host = host(&[Step::Opened, Step::Send(b"?")]);
    host.away("line", CloseReason::Unreachable);
    host.begin_poll("all");
    assert_eq!(host.poll_answer("all"), None);
    host.restore("line");
    assert_eq!(host.poll_answer("all").map(|done| done.failed), Some(0));
    assert_eq!(host.take_sent("line"), b"?");
}

#[test]
fn a_write_keeps_within_the_send_window() {
    // The fake host refuses a send that does not fit; each of these needs the credit of the one before.
    for window in [1, 7, 64, 1000, 5000] {
        let setup = probe(&[Step::SendMany(2000), Step::ReadExact(2)]).send_window(window);
        let mut host = FakeHost::<common::Probe>::start(setup).expect("no faults");
        host.begin_poll("all");
        let sent = host.take_sent("line");
        assert_eq!(sent.len(), 2000, "a window of {window}");
        assert!(sent.iter().enumerate().all(|(i, byte)| *byte == i as u8));
        host.receive("line", b"ok");
        assert_eq!(host.finish_poll("all").failed, 0);
    }
}

#[test]
fn a_write_that_waits_for_the_window_ends_with_its_stream() {
    let setup = probe(&[Step::SendMany(2000)]).send_window(64).hold_credit();
    let mut host = FakeHost::<common::Probe>::start(setup).expect("no faults");
    host.begin_poll("all");
    assert_eq!(host.take_sent("line").len(), 64);
    host.drop_connection("line", CloseReason::Reset);
    assert_eq!(host.poll_answer("all").map(|done| done.failed), Some(1));
    // The window of the new stream is whole again.
    host.begin_poll("all");
    assert_eq!(host.take_sent("line").len(), 64);
}

#[test]
fn a_full_input_pauses_the_peer() {
    let mut host = host(&[Step::ReadExact(1024 * 1024), Step::ReadExact(1024)]);
    let half = vec![0; 512 * 1024];
    host.receive("line", &half);
    host.receive("line", &half);
    assert!(!host.is_paused("line"));
    host.receive("line", &[0; 1024]);
    assert!(host.is_paused("line"));
    assert_eq!(host.poll("all").failed, 0);
    assert!(!host.is_paused("line"));

    // A pause does not outlive its stream.
    host.receive("line", &half);
    host.receive("line", &half);
    host.receive("line", &[0; 1]);
    assert!(host.is_paused("line"));
    host.drop_connection("line", CloseReason::Reset);
    assert!(!host.is_paused("line"));
}

#[test]
fn a_read_beyond_the_input_is_refused() {
    let mut host = host(&[Step::ReadExact(1024 * 1024 + 1)]);
    assert_eq!(host.poll("all").failed, 1);
}

#[test]
fn a_timeout_ends_the_wait_at_its_moment() {
    let mut host = host(&[Step::ReadWithin(4, Duration::from_millis(250))]);
    let before = host.now();
    assert_eq!(host.poll("all").failed, 1);
    assert_eq!(host.now() - before, Duration::from_millis(250));
    assert_eq!(host.quality("tag"), Some(Quality::BadTimeout));

    // Those that are in time leave nothing behind but the host's one timer, set once.
    for _ in 0..5 {
        host.begin_poll("all");
        host.receive("line", b"fine");
        assert_eq!(host.finish_poll("all").failed, 0);
        host.advance(Duration::from_millis(10));
    }
    let timers = |action: &&Action| matches!(action, Action::SetTimer(_) | Action::CancelTimer(_));
    assert_eq!(host.history().iter().filter(timers).count(), 2);
}

#[test]
fn a_reply_in_time_counts_though_its_turn_is_late() {
    let timeout = Duration::from_millis(100);
    let mut host = host(&[Step::ReadWithin(2, timeout)]);
    host.begin_poll("all");
    host.receive_late(
        "line",
        b"ok",
        Duration::from_millis(99),
        Duration::from_millis(500),
    );
    assert_eq!(host.finish_poll("all").failed, 0);
}

#[test]
fn devices_call_in() {
    let setup = Setup::new()
        .listening_link("door", "tcp")
        .tag("tag", "", "uint8");
    let mut host = FakeHost::<common::Porter>::start(setup).expect("no faults");
    let first = host.call_in("door", "10.0.0.1:999");
    let second = host.call_in("door", "10.0.0.2:999");
    host.receive_on(second, b"two");
    host.receive_on(first, b"one");
    assert_eq!(host.take_sent_on(first), b"one from 10.0.0.1:999");
    assert_eq!(host.take_sent_on(second), b"two from 10.0.0.2:999");
    host.stop();
}

#[test]
fn streams_and_locks_hold_over_any_batching() {
    for batch in [1, 2, 3, 256] {
        let setup = probe(&[
            Step::Lock(Priority::Poll),
            Step::Send(b"?"),
            Step::ReadExact(2),
        ])
        .batch(batch);
        let mut host = FakeHost::<common::Probe>::start(setup).expect("no faults");
        host.peer("line", |_| b"ok".to_vec());
        for _ in 0..5 {
            assert_eq!(host.poll("all").failed, 0);
            host.drop_connection("line", CloseReason::ByPeer);
        }
        host.stop();
    }
}
