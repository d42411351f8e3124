//! Several reads of a unit under way at once.

use std::time::Duration;

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{CloseReason, DeviceCondition, Quality, Value};
use expect_test::{Expect, expect};
use modbus::Modbus;
use proptest::prelude::*;

use crate::plant::{Handle, frames, good_samples, registers, resets};

const TIMEOUT: Duration = Duration::from_millis(1000);

/// Six requests of ten registers each, of which four may be under way.
fn six(setup: Setup) -> Setup {
    let settings =
        r#"{ "requests_at_once": 4, "max_registers": 10, "max_gap_registers": 0, "retries": 1 }"#;
    registers(setup.settings(settings), 60)
}

/// A unit that has answered a poll, and a peer that is silent from now on.
fn known(plant: &Handle, setup: Setup) -> FakeHost<Modbus> {
    let mut host = plant.host(setup);
    host.poll("all");
    good_samples(&mut host);
    plant.seen();
    host.take_sent("plc");
    host.peer("plc", |_| Vec::new());
    host
}

fn values_are_right(host: &FakeHost<Modbus>) {
    for at in 0..60 {
        let value = Some(Value::Uint(1000 + at));
        assert_eq!(host.value(&format!("t{at}")), value, "t{at}");
    }
}

/// The lines of the log so far.
fn check_log(host: &mut FakeHost<Modbus>, expected: Expect) {
    let lines = host.take_log();
    let text: String = lines
        .iter()
        .map(|line| line.message.clone() + "\n")
        .collect();
    expected.assert_eq(&text);
}

#[test]
fn the_first_request_on_a_stream_goes_alone() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(six(Setup::new()));
    host.begin_poll("all");
    let mut sent = Vec::new();
    for _ in 0..3 {
        let requests = host.take_sent("plc");
        sent.push(frames(&requests).len());
        host.receive("plc", &plant.answer(&requests));
    }
    assert_eq!(sent, [1, 4, 1], "and then as many as may be");
    let done = host.finish_poll("all");
    assert_eq!((done.requests, done.failed), (6, 0));
    assert_eq!(good_samples(&mut host), 60);
    values_are_right(&host);
}

#[test]
fn answers_may_come_in_any_order_and_count_when_they_come() {
    let plant = Handle::simple();
    let mut host = known(&plant, six(Setup::new()));
    host.begin_poll("all");
    let requests = frames(&host.take_sent("plc"));
    assert_eq!(requests.len(), 4);
    for at in [2, 0, 3, 1] {
        assert_eq!(good_samples(&mut host), 0);
        host.advance(TIMEOUT * 3 / 4);
        host.receive("plc", &plant.answer(&requests[at]));
        assert_eq!(
            good_samples(&mut host),
            10,
            "each has a time-out of its own"
        );
    }
    let requests = host.take_sent("plc");
    host.receive("plc", &plant.answer(&requests));
    assert_eq!(host.finish_poll("all").failed, 0);
    values_are_right(&host);
    check_log(&mut host, expect![""]);
}

#[test]
fn a_device_may_have_a_number_of_its_own_and_the_default_is_one() {
    let plant = Handle::simple();
    for (device, expected) in [("{}", 1), (r#"{ "requests_at_once": 16 }"#, 6)] {
        let setup = Setup::new().settings(r#"{ "max_registers": 10, "max_gap_registers": 0 }"#);
        let setup = setup.device("unit", "1").device_settings(device);
        let mut host = known(&plant, registers(setup, 60));
        host.begin_poll("all");
        assert_eq!(frames(&host.take_sent("plc")).len(), expected, "{device}");
    }
}

#[test]
fn a_unit_that_loses_some_is_asked_one_by_one_until_the_stream_ends() {
    let plant = Handle::simple();
    let mut host = known(&plant, six(Setup::new()));
    host.begin_poll("all");
    let requests = frames(&host.take_sent("plc"));
    host.receive("plc", &plant.answer(&requests[0]));
    let before = host.now();
    let late: Vec<u8> = requests[1..]
        .iter()
        .flat_map(|request| plant.answer(request))
        .collect();
    let other = plant.clone();
    let mut most = 0;
    host.peer("plc", move |requests| {
        most = most.max(frames(requests).len());
        assert_eq!(most, 1);
        other.answer(requests)
    });
    let done = host.finish_poll("all");
    assert_eq!(host.now() - before, TIMEOUT, "once");
    assert_eq!((done.requests, done.failed), (1 + 3 + 5, 3));
    assert_eq!(good_samples(&mut host), 60, "they are asked for again");
    values_are_right(&host);
    check_log(
        &mut host,
        expect![[r#"
            unit 1 left one unanswered of several requests that were under way at once: asking one by one; lower requests_at_once
        "#]],
    );

    // What was lost comes after all: it is known, and is no answer to anything.
    host.receive("plc", &late);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 60);
    assert_eq!(resets(&host), 0);
    check_log(&mut host, expect![""]);

    host.drop_connection("plc", CloseReason::Reset);
    let other = plant.clone();
    host.peer("plc", move |requests| other.answer(requests));
    assert_eq!(host.poll("all").failed, 0);
    host.peer("plc", |_| Vec::new());
    host.take_sent("plc");
    host.begin_poll("all");
    assert_eq!(
        frames(&host.take_sent("plc")).len(),
        4,
        "the next stream is another chance"
    );
}

#[test]
fn a_unit_that_dies_meanwhile_costs_one_time_out_and_one_attempt() {
    let plant = Handle::simple();
    let mut host = known(&plant, six(Setup::new().device("unit", "1")));
    host.begin_poll("all");
    let before = host.now();
    let done = host.finish_poll("all");
    assert_eq!(host.now() - before, 2 * TIMEOUT);
    assert_eq!((done.requests, done.failed), (4 + 1, 4 + 1));
    assert_eq!(host.condition("unit"), Some(DeviceCondition::Down));
    let samples = host.take_samples();
    assert_eq!(samples.len(), 60);
    let timed_out = |quality| quality == Quality::BadTimeout;
    assert!(samples.iter().all(|sample| timed_out(sample.quality)));
}

#[test]
fn a_busy_unit_is_asked_one_by_one() {
    let plant = Handle::simple();
    let mut host = plant.host(six(Setup::new()));
    let mut under_way = 0;
    plant.mangle(move |request, answer| {
        under_way += 1;
        match under_way {
            3 => [&request[..4], &[0, 3, 1, 0x83, 6]].concat(),
            _ => answer,
        }
    });
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (7, 1));
    assert_eq!(good_samples(&mut host), 60);
    values_are_right(&host);
    check_log(
        &mut host,
        expect![[r#"
            unit 1 was too busy for one of several requests that were under way at once: asking one by one; lower requests_at_once
        "#]],
    );
}

#[test]
fn a_place_that_is_not_there_costs_itself_only() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding.remove(&35));
    let mut host = plant.host(six(Setup::new()));
    host.poll("all");
    assert_eq!(good_samples(&mut host), 59);
    assert_eq!(host.quality("t35"), Some(Quality::BadConfiguration));
    assert_eq!(host.quality("t34"), Some(Quality::Good));
    host.poll("all");
    assert_eq!(good_samples(&mut host), 59);
}

#[test]
fn a_stream_that_ends_or_goes_wrong_takes_what_is_open_with_it() {
    let plant = Handle::simple();
    for foreign in [false, true] {
        let mut host = known(&plant, six(Setup::new()));
        host.begin_poll("all");
        let requests = frames(&host.take_sent("plc"));
        host.receive("plc", &plant.answer(&requests[1]));
        let expected = if foreign {
            let mut answer = plant.answer(&requests[0]);
            answer[0] ^= 0x40;
            host.receive("plc", &answer);
            Quality::BadNoCommunication
        } else {
            host.drop_connection("plc", CloseReason::Reset);
            Quality::BadNotConnected
        };
        assert_eq!(host.finish_poll("all").failed, 3);
        let samples = host.take_samples();
        let good: Vec<bool> = samples
            .iter()
            .map(|sample| sample.quality == Quality::Good)
            .collect();
        assert_eq!(good.iter().filter(|good| **good).count(), 10);
        assert_eq!(samples.len(), 60, "each tag once");
        assert_eq!(host.quality("t0"), Some(expected));
        assert_eq!(host.quality("t15"), Some(Quality::Good));
        assert_eq!(resets(&host), usize::from(foreign));
    }
}

#[test]
fn a_unit_that_hangs_up_on_several_is_found_out() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(six(Setup::new()));
    let mut polls = Vec::new();
    for _ in 0..4 {
        host.begin_poll("all");
        let mut most = 0;
        while host.poll_answer("all").is_none() {
            let sent = host.take_sent("plc");
            let requests = frames(&sent);
            most = most.max(requests.len());
            match requests.len() {
                1 => host.receive("plc", &plant.answer(&sent)),
                _ => host.drop_connection("plc", CloseReason::Reset),
            }
        }
        polls.push((most, good_samples(&mut host)));
    }
    assert_eq!(polls, [(4, 10), (4, 10), (1, 60), (1, 60)]);
    check_log(
        &mut host,
        expect![[r#"
            unit 1 lost the connection to all of several requests that were under way at once: asking one by one; lower requests_at_once
        "#]],
    );
}

#[test]
fn a_unit_that_discards_several_is_told_from_one_that_was_away() {
    let plant = Handle::simple();
    for away in [true, false] {
        let mut host = known(&plant, six(Setup::new().device("unit", "1")));
        let mut polls = Vec::new();
        for poll in 0..4 {
            host.begin_poll("all");
            let mut sizes = Vec::new();
            while host.poll_answer("all").is_none() {
                let sent = host.take_sent("plc");
                let requests = frames(&sent);
                if !requests.is_empty() {
                    sizes.push(requests.len());
                }
                let answers = match away {
                    true => poll > 0,
                    false => requests.len() == 1,
                };
                if answers {
                    host.receive("plc", &plant.answer(&sent));
                } else {
                    host.advance(TIMEOUT);
                }
            }
            polls.push((sizes, good_samples(&mut host)));
        }
        // A lone request shows that the unit is there; then several are tried once more.
        let expected = match away {
            true => [
                (vec![4, 1], 0),
                (vec![1, 4, 1], 60),
                (vec![4, 2], 60),
                (vec![4, 2], 60),
            ],
            false => [
                (vec![4, 1, 4], 10),
                (vec![1; 6], 60),
                (vec![1; 6], 60),
                (vec![1; 6], 60),
            ],
        };
        assert_eq!(polls, expected, "away: {away}");
    }
}

#[test]
fn a_gateway_that_speaks_for_a_dead_unit_is_asked_once_in_each_attempt() {
    let plant = Handle::simple();
    let settings = r#"{ "requests_at_once": 4, "max_registers": 10, "max_gap_registers": 0 }"#;
    let mut setup = Setup::new().settings(settings).device("one", "1");
    setup = registers(setup, 60).device("two", "2");
    for at in 0..60 {
        setup = setup.tag(&format!("two.t{at}"), &format!("holding:{at}"), "uint16");
    }
    plant.unit(2, |unit| {
        unit.holding = (0..60).map(|at| (at, at)).collect()
    });
    let mut host = plant.host(setup);
    host.poll("all");
    assert_eq!(good_samples(&mut host), 120);
    plant.unit(2, |unit| unit.exception = Some(11));
    plant.seen();
    let asked = |plant: &Handle| plant.seen().iter().filter(|seen| seen.0 == 2).count();
    host.poll("all");
    assert_eq!(good_samples(&mut host), 60);
    assert_eq!(host.condition("two"), Some(DeviceCondition::Down));
    assert_eq!(asked(&plant), 4 + 1, "its first attempt, and then alone");
    host.poll("all");
    assert_eq!(asked(&plant), 1);
    assert_eq!(good_samples(&mut host), 60);
    plant.unit(2, |unit| unit.exception = None);
    host.poll("all");
    host.poll("all");
    good_samples(&mut host);
    host.poll("all");
    assert_eq!(good_samples(&mut host), 120);
    check_log(&mut host, expect![""]);
}

#[test]
fn a_write_goes_next_and_alone() {
    let plant = Handle::simple();
    let setup = six(Setup::new())
        .tag("out", "holding:150", "uint16")
        .writable();
    let group: Vec<String> = (0..60).map(|at| format!("t{at}")).collect();
    let group: Vec<&str> = group.iter().map(String::as_str).collect();
    let setup = setup.group("polled", Duration::from_secs(1), &group);
    let mut host = plant.host(setup);
    host.poll("polled");
    host.take_sent("plc");
    host.peer("plc", |_| Vec::new());
    host.begin_poll("polled");
    let requests = host.take_sent("plc");
    assert_eq!(frames(&requests).len(), 4);
    let write = host.begin_write("out", Value::Uint(7), false);
    assert!(
        host.take_sent("plc").is_empty(),
        "it waits for what is under way"
    );
    host.receive("plc", &plant.answer(&requests));
    let sent = host.take_sent("plc");
    assert_eq!(frames(&sent).len(), 1);
    assert_eq!(sent[7], 6, "before the rest of the poll");
    host.receive("plc", &plant.answer(&sent));
    assert!(host.finish_write(write).is_ok());
    let sent = host.take_sent("plc");
    assert_eq!(frames(&sent).len(), 2);
    host.receive("plc", &plant.answer(&sent));
    assert_eq!(host.finish_poll("polled").failed, 0);
}

#[test]
fn a_reload_takes_what_is_under_way_with_it() {
    let plant = Handle::simple();
    let mut host = known(&plant, six(Setup::new()));
    host.begin_poll("all");
    let requests = frames(&host.take_sent("plc"));
    host.receive("plc", &plant.answer(&requests[1]));
    // The tags have moved: what is answered now was asked by the driver before.
    plant.unit(1, |unit| {
        unit.holding = (100..160).map(|at| (at, at)).collect();
    });
    let settings = r#"{ "requests_at_once": 4, "max_registers": 10, "max_gap_registers": 0 }"#;
    let mut setup = Setup::new().link("plc", "tcp").settings(settings);
    for at in 0..60 {
        setup = setup.tag(
            &format!("t{at}"),
            &format!("holding:{}", 100 + at),
            "uint16",
        );
    }
    host.reload(setup).expect("in order");
    good_samples(&mut host);
    assert_eq!(
        resets(&host),
        1,
        "old answers cannot come over a new stream"
    );
    let other = plant.clone();
    host.peer("plc", move |requests| other.answer(requests));
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (6, 0));
    assert_eq!(good_samples(&mut host), 60);
    for at in 0..60 {
        assert_eq!(host.value(&format!("t{at}")), Some(Value::Uint(100 + at)));
    }
}

#[test]
fn another_group_waits_for_what_is_under_way_and_goes_on_with_it() {
    let plant = Handle::simple();
    let half =
        |from: u16| -> Vec<String> { (from..from + 30).map(|at| format!("t{at}")).collect() };
    let mut setup = six(Setup::new());
    for (name, tags) in [("low", half(0)), ("high", half(30))] {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        setup = setup.group(name, Duration::from_secs(1), &tags);
    }
    let mut host = plant.host(setup);
    host.poll("low");
    host.poll("high");
    good_samples(&mut host);
    host.take_sent("plc");
    host.peer("plc", |_| Vec::new());
    host.begin_poll("low");
    host.begin_poll("high");
    let mut sent = Vec::new();
    let mut done = [None, None];
    while done.iter().any(Option::is_none) {
        let requests = host.take_sent("plc");
        assert!(
            !requests.is_empty(),
            "nobody is asked, and somebody waits: {sent:?}"
        );
        sent.push(frames(&requests).len());
        for request in frames(&requests) {
            assert!(
                host.take_sent("plc").is_empty(),
                "not before all are answered"
            );
            host.receive("plc", &plant.answer(&request));
        }
        for (done, group) in done.iter_mut().zip(["low", "high"]) {
            *done = done.take().or_else(|| host.poll_answer(group));
        }
    }
    assert_eq!(sent, [3, 3], "one group after the other");
    for done in done.into_iter().flatten() {
        assert_eq!((done.requests, done.failed), (3, 0));
    }
    assert_eq!(good_samples(&mut host), 60);
    values_are_right(&host);
}

#[test]
fn a_caller_that_calls_again_takes_what_is_open_with_it() {
    let plant = Handle::simple();
    let setup = Setup::new().listening_link("plc", "tcp").device("one", "1");
    let mut host = FakeHost::<Modbus>::start(six(setup)).expect("in order");
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    let first = host.call_in("plc", "10.0.0.7:1");
    assert_eq!(host.poll("all").failed, 0);
    good_samples(&mut host);
    host.take_sent_on(first);
    host.peer("plc", |_| Vec::new());
    host.begin_poll("all");
    let requests = frames(&host.take_sent_on(first));
    assert_eq!(requests.len(), 4);
    host.receive_on(first, &plant.answer(&requests[2]));
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    let second = host.call_in("plc", "10.0.0.7:2");
    let done = host.finish_poll("all");
    assert!(host.is_closed(first));
    assert!(done.failed <= 3, "{done:?}");
    let samples = host.take_samples();
    assert_eq!(samples.len(), 60, "each tag once");
    assert_eq!(host.quality("t25"), Some(Quality::Good));
    host.take_sent_on(second);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 60);
    values_are_right(&host);
}

#[test]
fn a_unit_that_is_busy_and_loses_some_is_asked_one_by_one() {
    let plant = Handle::simple();
    let mut host = known(&plant, six(Setup::new()));
    host.begin_poll("all");
    let requests = frames(&host.take_sent("plc"));
    host.receive("plc", &plant.answer(&requests[0]));
    host.receive("plc", &[&requests[2][..4], &[0, 3, 1, 0x83, 6]].concat());
    let other = plant.clone();
    let mut most = 0;
    host.peer("plc", move |requests| {
        most = most.max(frames(requests).len());
        assert_eq!(most, 1);
        other.answer(requests)
    });
    let before = host.now();
    let done = host.finish_poll("all");
    assert_eq!(host.now() - before, TIMEOUT, "once");
    assert_eq!((done.requests, done.failed), (1 + 3 + 5, 3));
    assert_eq!(good_samples(&mut host), 60);
    values_are_right(&host);
    check_log(
        &mut host,
        expect![[r#"
            unit 1 was too busy for one of several requests that were under way at once: asking one by one; lower requests_at_once
        "#]],
    );
}

#[test]
fn the_number_of_a_request_that_may_still_be_answered_is_not_used_again() {
    let plant = Handle::simple();
    let setup = Setup::new()
        .settings(r#"{ "retries": 0 }"#)
        .device("one", "1");
    let setup = setup.tag("a", "40001", "uint16").device("two", "2");
    let mut host = plant.host(setup.tag("b", "40001", "uint16"));
    plant.unit(2, |unit| {
        unit.holding = [(0, 5)].into();
        unit.silent = true;
    });
    host.poll("all");
    let lost = frames(&host.take_sent("plc"))[1].clone();
    let numbers: Vec<[u8; 2]> = (0..66_000)
        .map(|_| {
            host.poll_skipping("all", &["two"]);
            let sent = host.take_sent("plc");
            host.take_samples();
            [sent[0], sent[1]]
        })
        .collect();
    assert!(!numbers.contains(&[lost[0], lost[1]]));
    assert_eq!(host.quality("a"), Some(Quality::Good));
}

#[test]
fn rtu_and_pauses_are_refused() {
    let faults = |kind: &str, settings: &str, device: &str| {
        let setup = Setup::new().link("plc", kind).settings(settings);
        let setup = setup.device("unit", "1").device_settings(device);
        let started = FakeHost::<Modbus>::start(setup.tag("a", "40001", "int16"));
        let faults = started.err().unwrap_or_default();
        let lines = faults
            .iter()
            .map(|fault| format!("{}: {}\n", fault.at, fault.message));
        lines.collect::<String>()
    };
    let two = r#"{ "requests_at_once": 2 }"#;
    expect![[r#"
        settings.requests_at_once: over RTU one request follows the other, since answers do not say what they answer; leave this out
        device unit.settings.requests_at_once: over RTU one request follows the other, since answers do not say what they answer; leave this out
    "#]]
    .assert_eq(&faults("serial", two, two));
    expect![[r#"
        device unit.settings.requests_at_once: with pause_ms one request follows the other; leave one of them out
    "#]]
    .assert_eq(&faults("tcp", r#"{ "pause_ms": 1 }"#, two));
    expect![""].assert_eq(&faults("tcp", two, two));
}

proptest! {
    /// Whatever is answered, in whatever order, refused or lost: each poll gives each tag one sample, and a good one is right.
    #[test]
    fn each_tag_gets_one_sample_in_each_poll(
        at_once in 1u8..=16,
        polls in prop::collection::vec(prop::collection::vec((0usize..16, 0u8..8), 1..20), 1..6),
    ) {
        let plant = Handle::simple();
        let settings = format!(r#"{{ "requests_at_once": {at_once}, "max_registers": 5, "max_gap_registers": 0 }}"#);
        let mut host = plant.silent_host(registers(Setup::new().settings(&settings), 60));
        let mut open: Vec<Vec<u8>> = Vec::new();
        for steps in polls {
            host.begin_poll("all");
            let mut steps = steps.into_iter();
            while host.poll_answer("all").is_none() {
                open.extend(frames(&host.take_sent("plc")));
                let (which, what) = steps.next().unwrap_or((0, 0));
                if open.is_empty() || what == 1 {
                    host.advance(TIMEOUT);
                    continue;
                }
                let request = open.remove(which % open.len());
                let answer = match what {
                    2 => [&request[..4], &[0, 3, 1, 0x83, 6]].concat(),
                    3 => [&request[..4], &[0, 3, 1, 0x83, 4]].concat(),
                    4 => Vec::new(),
                    _ => plant.answer(&request),
                };
                host.receive("plc", &answer);
            }
            let samples = host.take_samples();
            let mut tags: Vec<_> = samples.iter().map(|sample| sample.tag).collect();
            tags.sort_unstable();
            tags.dedup();
            prop_assert_eq!((samples.len(), tags.len()), (60, 60));
            for at in 0..60 {
                let name = format!("t{at}");
                if host.quality(&name) == Some(Quality::Good) {
                    prop_assert_eq!(host.value(&name), Some(Value::Uint(1000 + at)));
                }
            }
        }
    }
}
