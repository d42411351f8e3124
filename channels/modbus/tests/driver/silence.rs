//! Units that do not answer, or too late.

use std::time::Duration;

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{CloseReason, DeviceCondition, Quality, Value};
use modbus::Modbus;

use crate::plant::{Handle, good_samples, registers, resets};

const TIMEOUT: Duration = Duration::from_millis(1000);

#[test]
fn a_dial_is_waited_for_only_where_there_is_one() {
    let plant = Handle::simple();
    let mut waited = Vec::new();
    for give_up in [false, true] {
        for reason in [CloseReason::ByOperator, CloseReason::TimedOut] {
            let mut host = plant.host(Setup::new().tag("word", "40001", "uint16"));
            if give_up {
                host.give_up("plc", reason);
            } else {
                host.away("plc", reason);
            }
            let before = host.now();
            host.poll("all");
            assert_eq!(host.quality("word"), Some(Quality::BadNotConnected));
            waited.push(host.now() > before);
        }
    }
    assert_eq!(waited, [true, false, false, false]);
}

#[test]
fn a_dial_that_fails_is_waited_for_no_longer() {
    let plant = Handle::simple();
    let mut host = plant.host(Setup::new().tag("word", "40001", "uint16"));
    host.away("plc", CloseReason::ByOperator);
    let before = host.now();
    host.begin_poll("all");
    assert_eq!(host.poll_answer("all"), None, "the host dials");
    host.away("plc", CloseReason::Refused);
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.now(), before, "no time has passed");
    assert_eq!(host.quality("word"), Some(Quality::BadNotConnected));
}

/// Three units with two requests each; `two` is silent.
fn three_units(plant: &Handle) -> FakeHost<Modbus> {
    let mut setup = Setup::new().settings(r#"{ "max_registers": 1 }"#);
    for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
        plant.unit(number, |unit| {
            unit.holding = (0..10).map(|at| (at, u16::from(number))).collect()
        });
        setup = setup.device(name, &number.to_string());
        setup = setup.tag(&format!("{name}.a"), "40001", "uint16").tag(
            &format!("{name}.b"),
            "40002",
            "uint16",
        );
    }
    plant.unit(2, |unit| unit.silent = true);
    plant.host(setup)
}

#[test]
fn a_dead_unit_costs_the_others_one_time_out_at_most() {
    let plant = Handle::default();
    let mut host = three_units(&plant);
    let before = host.now();
    let done = host.poll("all");
    let units: Vec<u8> = plant.seen().iter().map(|seen| seen.0).collect();
    assert_eq!(
        units,
        [1, 1, 2, 3, 3, 2],
        "it is asked again when the others are done"
    );
    assert_eq!((done.requests, done.failed), (6, 2));
    assert_eq!(host.now() - before, 2 * TIMEOUT);
    assert_eq!(host.quality("two.a"), Some(Quality::BadTimeout));
    assert_eq!(
        host.quality("two.b"),
        Some(Quality::BadTimeout),
        "it was not asked for this at all"
    );
    assert_eq!(host.condition("two"), Some(DeviceCondition::Down));
    assert_eq!(host.condition("three"), Some(DeviceCondition::Up));
    assert_eq!(good_samples(&mut host), 4);

    host.begin_poll("all");
    assert_eq!(
        good_samples(&mut host),
        4,
        "from now on the others are read before any time passes"
    );
    let done = host.finish_poll("all");
    let units: Vec<u8> = plant.seen().iter().map(|seen| seen.0).collect();
    assert_eq!(units, [1, 1, 3, 3, 2], "and it is asked once");
    assert_eq!(done.failed, 1);
    assert_eq!(
        host.now() - before,
        2 * TIMEOUT,
        "which nobody waits for while others answer"
    );
    assert_eq!(host.quality("two.a"), Some(Quality::BadTimeout));

    plant.unit(2, |unit| unit.silent = false);
    host.poll("all");
    assert_eq!(
        host.condition("two"),
        Some(DeviceCondition::Down),
        "its answer is on the way"
    );
    host.poll("all");
    assert_eq!(host.condition("two"), Some(DeviceCondition::Up));
    assert_eq!(
        host.value("two.b"),
        Some(Value::Uint(2)),
        "and it is read in the same cycle"
    );
    assert_eq!(host.now() - before, 2 * TIMEOUT);
    assert_eq!(resets(&host), 0, "the others keep their connection");
}

#[test]
fn a_unit_that_is_asked_seldom_is_waited_for_while_the_line_is_free() {
    let plant = Handle::default();
    let mut setup = Setup::new();
    for number in [1, 2] {
        plant.unit(number, |unit| unit.holding = [(0, number.into())].into());
        setup = setup
            .device(&format!("u{number}"), &number.to_string())
            .device_settings(r#"{ "timeout_ms": 200, "retries": 0 }"#)
            .tag(&format!("t{number}"), "40001", "uint16");
    }
    plant.unit(2, |unit| unit.silent = true);
    let mut host = plant.host(setup);
    host.poll("all");
    assert_eq!(host.condition("u2"), Some(DeviceCondition::Down));
    let before = host.now();
    host.begin_poll("all");
    let read = host.read(&["t1"]).expect("the line is free");
    assert_eq!(read[0].quality, Quality::Good);
    host.finish_poll("all");
    assert!(host.now() - before >= Duration::from_millis(200));
    assert_eq!(host.quality("t2"), Some(Quality::BadTimeout));

    plant.unit(2, |unit| unit.silent = false);
    host.poll("all");
    assert_eq!(host.condition("u2"), Some(DeviceCondition::Up));
    assert_eq!(
        host.value("t2"),
        Some(Value::Uint(2)),
        "in the very poll that asked"
    );
    assert_eq!(resets(&host), 0);
}

#[test]
fn many_units_of_which_a_gateway_says_that_they_are_away_cost_nobody_the_connection() {
    let plant = Handle::default();
    plant.unit(1, |unit| unit.holding = [(0, 7)].into());
    let mut setup = Setup::new()
        .settings(r#"{ "retries": 0 }"#)
        .device("alive", "1")
        .tag("alive", "40001", "uint16");
    for number in 2..=41 {
        plant.unit(number, |unit| {
            unit.holding = [(0, number.into())].into();
            unit.exception = Some(11);
        });
        setup = setup
            .device(&format!("u{number}"), &number.to_string())
            .tag(&format!("t{number}"), "40001", "uint16");
    }
    let mut host = plant.host(setup);
    for _ in 0..5 {
        host.poll("all");
        assert_eq!(host.quality("alive"), Some(Quality::Good));
        assert_eq!(host.condition("u41"), Some(DeviceCondition::Down));
    }
    for number in 2..=41 {
        plant.unit(number, |unit| unit.exception = None);
    }
    host.poll("all");
    host.poll("all");
    for number in 2..=41 {
        assert_eq!(host.value(&format!("t{number}")), Some(Value::Uint(number)));
    }
    assert_eq!(resets(&host), 0);
}

#[test]
fn a_silent_unit_is_waited_for_where_nobody_else_is_asked() {
    let plant = Handle::default();
    let mut setup = Setup::new().settings(r#"{ "retries": 0 }"#);
    for number in [1, 2] {
        plant.unit(number, |unit| unit.holding = [(0, number.into())].into());
        setup = setup
            .device(&format!("u{number}"), &number.to_string())
            .tag(&format!("t{number}"), "40001", "uint16");
    }
    let mut host = plant.host(setup);
    host.poll("all");
    plant.unit(2, |unit| unit.silent = true);
    host.poll("all");
    assert_eq!(host.condition("u2"), Some(DeviceCondition::Down));
    // The other one is left out, as one that an operator has locked.
    plant.unit(2, |unit| unit.silent = false);
    host.poll_skipping("all", &["u1"]);
    assert_eq!(host.condition("u2"), Some(DeviceCondition::Up));
    assert_eq!(host.value("t2"), Some(Value::Uint(2)));
}

#[test]
fn a_gateway_that_says_so_is_believed() {
    for code in [10, 11] {
        let plant = Handle::default();
        let mut host = three_units(&plant);
        plant.unit(2, |unit| {
            unit.silent = false;
            unit.exception = Some(code);
        });
        let before = host.now();
        host.poll("all");
        let units: Vec<u8> = plant.seen().iter().map(|seen| seen.0).collect();
        assert_eq!(units, [1, 1, 2, 3, 3, 2]);
        assert_eq!(host.now(), before);
        assert_eq!(host.quality("two.b"), Some(Quality::BadNoCommunication));
        assert_eq!(host.condition("two"), Some(DeviceCondition::Down));
    }
}

#[test]
fn an_answer_on_the_second_attempt_is_good() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 4));
    let mut first = true;
    plant.mangle(move |_, reply| {
        if std::mem::take(&mut first) {
            Vec::new()
        } else {
            reply
        }
    });
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (2, 1));
    assert_eq!(good_samples(&mut host), 4);
    assert_eq!(host.condition("device"), Some(DeviceCondition::Up));
}

/// One request times out; gives its answer, which is still to come.
fn timed_out(plant: &Handle, host: &mut FakeHost<Modbus>) -> Vec<u8> {
    host.begin_poll("all");
    let late = plant.answer(&host.take_sent("plc"));
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.quality("t0"), Some(Quality::BadTimeout));
    host.take_samples();
    late
}

fn single_attempt() -> Setup {
    registers(Setup::new().settings(r#"{ "retries": 0 }"#), 4)
}

#[test]
fn a_late_answer_is_thrown_away_whole() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(single_attempt());
    let late = timed_out(&plant, &mut host);

    plant.set(0, 2000);
    host.begin_poll("all");
    let answer = plant.answer(&host.take_sent("plc"));
    host.receive("plc", &late);
    assert_eq!(host.poll_answer("all"), None, "it waits on");
    host.receive("plc", &answer);
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(host.value("t0"), Some(Value::Uint(2000)));
    assert_eq!(good_samples(&mut host), 4);
    assert_eq!(resets(&host), 0);
}

#[test]
fn a_late_answer_does_not_stand_in_for_the_next() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(single_attempt());
    let late = timed_out(&plant, &mut host);
    host.receive("plc", &late);
    host.begin_poll("all");
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(good_samples(&mut host), 0);
    assert_eq!(host.quality("t0"), Some(Quality::BadTimeout));
}

#[test]
fn a_late_answer_comes_once_and_exactly() {
    let twice = |late: Vec<u8>| [late.clone(), late].concat();
    let longer = |mut late: Vec<u8>| {
        late.extend([0, 0]);
        late[5] += 2;
        late[8] += 2;
        late
    };
    let other_unit = |mut late: Vec<u8>| {
        late[6] = 9;
        late
    };
    for wrong in [twice as fn(Vec<u8>) -> Vec<u8>, longer, other_unit] {
        let plant = Handle::simple();
        let mut host = plant.silent_host(single_attempt());
        let late = timed_out(&plant, &mut host);
        host.begin_poll("all");
        let answer = plant.answer(&host.take_sent("plc"));
        host.receive("plc", &wrong(late));
        host.receive("plc", &answer);
        assert_eq!(host.finish_poll("all").failed, 1);
        assert_eq!(good_samples(&mut host), 0);
        assert_eq!(host.quality("t0"), Some(Quality::BadNoCommunication));
        assert_eq!(resets(&host), 1);
    }
}

#[test]
fn a_late_answer_of_the_old_connection_means_nothing_on_the_new_one() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(single_attempt());
    let late = timed_out(&plant, &mut host);
    host.drop_connection("plc", bulkhead_sdk::CloseReason::Reset);
    host.begin_poll("all");
    host.receive("plc", &late);
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(good_samples(&mut host), 0);
    assert_eq!(
        resets(&host),
        1,
        "nothing of that kind was asked on this stream"
    );
}

#[test]
fn a_peer_that_never_says_anything_is_dialled_anew() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(single_attempt());
    for poll in 1..=7 {
        assert_eq!(host.poll("all").failed, 1);
        assert_eq!(resets(&host), poll / 3, "after {poll} polls");
    }
}

#[test]
fn the_time_out_of_a_device_is_its_own() {
    let plant = Handle::simple();
    let setup = Setup::new()
        .device("slow", "1")
        .device_settings(r#"{ "timeout_ms": 250, "retries": 2 }"#);
    let mut host = plant.silent_host(setup.tag("t0", "40001", "uint16"));
    let before = host.now();
    assert_eq!(host.poll("all").failed, 3);
    assert_eq!(host.now() - before, Duration::from_millis(750));
}

#[test]
fn many_dead_units_do_not_cost_the_living_their_connection() {
    let plant = Handle::default();
    plant.unit(1, |unit| unit.holding = [(0, 7)].into());
    let mut setup = Setup::new()
        .device("alive", "1")
        .tag("alive", "40001", "uint16");
    for number in 2..8 {
        plant.unit(number, |unit| unit.silent = true);
        setup = setup
            .device(&format!("dead{number}"), &number.to_string())
            .tag(&format!("t{number}"), "40001", "uint16");
    }
    let mut host = plant.host(setup);
    for _ in 0..5 {
        let done = host.poll("all");
        assert_eq!(done.requests as usize, plant.seen().len());
        assert_eq!(host.value("alive"), Some(Value::Uint(7)));
    }
    assert_eq!(resets(&host), 0);
}

#[test]
fn a_read_whose_time_is_up_asks_for_nothing_more() {
    let plant = Handle::default();
    let mut setup = Setup::new().settings(r#"{ "timeout_ms": 100000, "retries": 0 }"#);
    for number in 1..=3 {
        plant.unit(number, |unit| unit.silent = true);
        setup = setup
            .device(&format!("unit{number}"), &number.to_string())
            .tag(&format!("t{number}"), "40001", "uint16");
    }
    let mut host = plant.host(setup);
    let samples = host.read(&["t1", "t2", "t3"]).expect("an answer");
    assert!(
        samples
            .iter()
            .all(|sample| sample.quality == Quality::BadTimeout)
    );
    assert_eq!(plant.seen().len(), 1, "the host's deadline is 60 s");
}
