//! Requests: answered exactly once, whatever becomes of them. The fake host fails a test whose driver answers twice, or stops
//! with anything unanswered.

mod common;

use std::time::Duration;

use bulkhead_sdk::abi::{Action, StartReason};
use bulkhead_sdk::testing::{Answer, FakeHost, Setup};
use bulkhead_sdk::{CloseReason, Priority, Quality, Value};
use common::{Plan, Probe, Step, planned, probe};

const SECOND: Duration = Duration::from_secs(1);
const ONE: Value = Value::Uint(1);

fn start(plan: Plan) -> FakeHost<Probe> {
    let mut host = FakeHost::start(planned(plan)).expect("no faults");
    log(&mut host);
    host
}

fn log(host: &mut FakeHost<Probe>) -> Vec<String> {
    let lines = host.take_log().into_iter();
    lines.map(|line| line.message).collect()
}

/// A poll of three requests over one line, and a write of one.
fn a_shared_line() -> Plan {
    let request = [
        Step::Lock(Priority::Poll),
        Step::Send(b"p"),
        Step::ReadExact(1),
        Step::Unlock,
    ];
    Plan {
        poll: request.repeat(3),
        write: vec![
            Step::Lock(Priority::Write),
            Step::Send(b"w"),
            Step::ReadExact(1),
        ],
        ..Plan::default()
    }
}

#[test]
fn a_write_overtakes_a_poll_between_its_requests() {
    let mut host = start(a_shared_line());
    host.begin_poll("all");
    let write = host.begin_write("tag", ONE, true);
    assert_eq!(host.take_sent("line"), b"p");
    host.receive("line", b"1");
    assert_eq!(host.take_sent("line"), b"w");
    assert_eq!(host.answer(write), None);
    host.receive("line", b"2");
    assert_eq!(host.answer(write), Some(Answer::Write(Ok(Some(ONE)))));
    assert_eq!(host.take_sent("line"), b"p");
    host.receive("line", b"3");
    host.receive("line", b"4");
    assert_eq!(host.finish_poll("all").failed, 0);
}

#[test]
fn a_write_that_has_sent_nothing_is_cancelled() {
    let mut host = start(a_shared_line());
    host.begin_poll("all");
    let write = host.begin_write("tag", ONE, true);
    host.cancel(write);
    let Some(Answer::Write(Err(error))) = host.answer(write) else {
        panic!("cancelled writes fail");
    };
    assert_eq!(error.message, "cancelled: nobody waits any more");
    // Nothing of it ever reaches the device, and the poll goes on.
    for _ in 0..3 {
        host.receive("line", b"x");
    }
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(host.take_sent("line"), b"ppp");
    // A second cancel, or one for what was answered, is no news.
    host.cancel(write);
}

#[test]
fn a_write_that_the_device_may_have_acted_on_answers_with_its_result() {
    let mut host = start(a_shared_line());
    let write = host.begin_write("tag", ONE, true);
    host.cancel(write);
    assert_eq!(host.answer(write), None);
    host.receive("line", b"!");
    assert_eq!(host.answer(write), Some(Answer::Write(Ok(Some(ONE)))));
}

#[test]
fn a_stop_says_of_a_write_whether_it_may_have_been_done() {
    let mut host = start(a_shared_line());
    let sent = host.begin_write("tag", ONE, true);
    let waiting = host.begin_write("tag", ONE, true);
    host.stop();
    let mut said = |write| match host.answer(write) {
        Some(Answer::Write(Err(error))) => error.message,
        other => panic!("cancelled writes fail, not {other:?}"),
    };
    assert_eq!(
        [said(sent), said(waiting)],
        [
            "cancelled: the driver stops; the device may or may not have acted on it",
            "cancelled: the driver stops"
        ]
    );
}

#[test]
fn what_is_not_supported_is_answered() {
    let mut host = start(Plan::default());
    let error = host.read(&["tag"]).unwrap_err();
    assert_eq!(
        error.message,
        "this driver does not support reading on request"
    );
    let error = host.command("browse", b"").unwrap_err();
    assert_eq!(
        error.message,
        "this driver does not support the command \"browse\""
    );
    assert_eq!(host.health(), Ok(()));
}

#[test]
fn a_failed_poll_makes_its_tags_bad_and_says_why() {
    let mut host = start(Plan {
        poll: vec![Step::Fail],
        ..Plan::default()
    });
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (1, 1));
    assert_eq!(host.quality("tag"), Some(Quality::Bad));
    assert_eq!(log(&mut host), ["poll failed: told to fail"]);
    // Those of a skipped device keep what they had.
    host.take_samples();
    host.poll_skipping("all", &["device"]);
    assert_eq!(host.take_samples(), []);
}

#[test]
fn stop_waits_for_what_runs_then_takes_leave() {
    let plan = Plan {
        stop: vec![Step::Send(b"bye"), Step::Say("left")],
        ..a_shared_line()
    };
    let mut host = start(plan);
    let write = host.begin_write("tag", ONE, true);
    host.peer("line", |sent| match sent {
        b"bye" => Vec::new(),
        other => panic!("{other:?} after the stop"),
    });
    host.ask_to_stop();
    assert_eq!(host.answer(write), None);
    assert_eq!(log(&mut host), [""; 0]);
    host.receive("line", b"!");
    assert_eq!(host.answer(write), Some(Answer::Write(Ok(Some(ONE)))));
    host.stop();
    assert_eq!(log(&mut host), ["read !", "left"]);
    assert_eq!(host.history().last(), Some(&Action::Stopped));
}

#[test]
fn stop_gives_up_on_what_never_ends() {
    let mut host = start(Plan {
        start: vec![Step::Forever],
        poll: vec![Step::Forever],
        write: vec![Step::Forever],
        stop: Vec::new(),
    });
    host.begin_poll("all");
    let write = host.begin_write("tag", ONE, true);
    let before = host.now();
    host.stop();
    // Half of the two seconds that the fake host gives.
    assert_eq!(host.now() - before, SECOND);
    assert!(matches!(host.answer(write), Some(Answer::Write(Err(_)))));
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.history().last(), Some(&Action::Stopped));
}

#[test]
fn a_start_that_fails_ends_the_incarnation() {
    let plan = Plan {
        start: vec![Step::Sleep(SECOND), Step::Fail],
        poll: vec![Step::Sleep(SECOND)],
        ..Plan::default()
    };
    let mut host = start(plan);
    host.begin_poll("all");
    let before = host.history().len();
    host.advance(SECOND);
    let error = host.ended().expect("the incarnation has ended");
    assert_eq!(
        (error.code, error.message.as_str()),
        (Some(7), "told to fail")
    );
    assert_eq!(host.history().len(), before, "its actions are discarded");
}

#[test]
fn a_start_says_how_it_came_about() {
    let setup = planned(Plan::default());
    let mut host = FakeHost::<Probe>::start_with(setup, StartReason::RestartAfterFault, None)
        .expect("no faults");
    assert_eq!(
        log(&mut host),
        [
            "spawned by configure",
            "incarnation 1 StartReason::RestartAfterFault"
        ]
    );
}

#[test]
fn a_reload_answers_what_ran_and_keeps_the_connection() {
    let mut host = start(Plan {
        poll: vec![Step::Sleep(SECOND)],
        write: vec![Step::Forever],
        ..Plan::default()
    });
    host.begin_poll("all");
    let write = host.begin_write("tag", ONE, false);
    host.reload(probe(&[Step::Send(b"new")]))
        .expect("no faults");
    let Some(Answer::Write(Err(error))) = host.answer(write) else {
        panic!("a reload answers");
    };
    assert_eq!(error.message, "cancelled: the configuration changed");
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(
        log(&mut host),
        [
            "spawned by configure",
            "incarnation 1 StartReason::Reconfigured"
        ]
    );

    host.poll("all");
    assert_eq!(host.take_sent("line"), b"new");
    let opens = |action: &&Action| {
        matches!(
            action,
            Action::Open(_) | Action::Close(_) | Action::Reset(_)
        )
    };
    assert_eq!(host.history().iter().filter(opens).count(), 1);
}

#[test]
fn a_reload_in_mid_exchange_begins_with_a_new_stream() {
    let mut host = start(Plan {
        poll: vec![Step::Send(b"?"), Step::ReadExact(1)],
        ..Plan::default()
    });
    host.begin_poll("all");
    host.reload(probe(&[Step::ReadExact(1)]))
        .expect("no faults");
    host.finish_poll("all");
    let resets = |action: &&Action| matches!(action, Action::Reset(_));
    assert_eq!(host.history().iter().filter(resets).count(), 1);
    host.begin_poll("all");
    host.receive("line", b"!");
    assert_eq!(host.finish_poll("all").failed, 0);
}

#[test]
fn a_reload_that_is_refused_changes_nothing() {
    let mut host = start(Plan {
        poll: vec![Step::Send(b"old"), Step::ReadExact(1)],
        ..Plan::default()
    });
    host.begin_poll("all");
    let before = host.history().len();
    let faults = host
        .reload(probe(&[]).tag("other", "bad", "uint8"))
        .unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].at, "tag other.address");
    host.receive("line", b"!");
    assert_eq!(host.finish_poll("all").failed, 0);
    // Neither its task nor its connection came to be.
    assert_eq!(log(&mut host), ["read !"]);
    assert_eq!(host.history().len(), before + 1);
}

#[test]
fn a_reload_may_take_away_the_group_that_is_polled() {
    let setup = || {
        planned(Plan {
            poll: vec![Step::Forever],
            ..Plan::default()
        })
    };
    let mut host = FakeHost::<Probe>::start(setup().group("kept", SECOND, &["tag"]).group(
        "gone",
        SECOND,
        &["tag"],
    ))
    .expect("no faults");
    host.begin_poll("kept");
    host.begin_poll("gone");
    host.reload(setup().group("kept", SECOND, &["tag"]))
        .expect("no faults");
    assert_eq!(host.finish_poll("kept").failed, 1);
}

#[test]
fn a_reload_that_no_longer_opens_a_link_closes_it() {
    let mut host = FakeHost::<common::Fickle>::start(
        Setup::new()
            .link("line", "tcp")
            .settings(r#"{"open": true}"#),
    )
    .expect("no faults");
    let setup = Setup::new().link("line", "tcp");
    host.reload(setup.settings(r#"{"open": false}"#))
        .expect("no faults");
    assert!(
        matches!(
            host.history(),
            [Action::Open(_), Action::HealthDone(_), Action::Close(1)]
                | [Action::Open(_), Action::Close(1), Action::HealthDone(_)]
        ),
        "{:?}",
        host.history()
    );
}

#[test]
fn the_same_events_give_the_same_actions() {
    let run = || {
        let plan = Plan {
            start: vec![Step::Sleep(Duration::from_millis(7)), Step::Say("up")],
            ..a_shared_line()
        };
        let mut host = FakeHost::<Probe>::start(planned(plan).seed(5)).expect("no faults");
        host.peer("line", |_| b"r".to_vec());
        for round in 0..20 {
            host.begin_poll("all");
            let write = host.begin_write("tag", ONE, round % 2 == 0);
            if round % 3 == 0 {
                host.drop_connection("line", CloseReason::Reset);
            }
            if round % 5 == 0 {
                host.cancel(write);
            }
            host.advance(Duration::from_millis(3));
            host.finish(write);
            host.finish_poll("all");
        }
        host.stop();
        (host.history().to_vec(), log(&mut host))
    };
    assert_eq!(run(), run());
}
