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
            unit 1 left one unanswered of several requests that were under way at once: asking one by one until the connection ends; lower requests_at_once
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
            unit 1 was too busy for one of several requests that were under way at once: asking one by one until the connection ends; lower requests_at_once
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
