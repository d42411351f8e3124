//! Polls of a plant that is well, and of a connection that comes and goes.

use std::time::Duration;

use bulkhead_sdk::testing::Setup;
use bulkhead_sdk::{CloseReason, Quality, Value};

use crate::plant::{Handle, good_samples, registers, resets};

#[test]
fn every_table_and_type_is_read() {
    let plant = Handle::simple();
    plant.unit(1, |unit| {
        unit.coils = (0..20).map(|at| (at, at % 3 == 0)).collect();
        unit.discrete = (0..20).map(|at| (at, at == 7)).collect();
        unit.input = [
            (0, 0x47f1),
            (1, 0x2000),
            (2, 0x2000),
            (3, 0x47f1),
            (4, 0xfffe),
        ]
        .into();
        unit.holding.extend([
            (300, u16::from_be_bytes(*b"Pu")),
            (301, u16::from_be_bytes(*b"mp")),
            (302, 0),
        ]);
        unit.holding.extend((303..310).map(|at| (at, 0)));
        unit.holding.extend([
            (310, 0xffff),
            (311, 0xffff),
            (312, 0xffff),
            (313, 0xff00),
            (314, 0b1000),
        ]);
    });
    let setup = Setup::new()
        .tag("coil", "00001", "bool")
        .tag("coils", "coil:1", "bool[3]")
        .tag("contact", "10008", "bool")
        .tag("float", "30001", "float32")
        .tag("swapped", "30003#BL", "float32")
        .tag("signed", "30005", "int16")
        .tag("text", "holding:300.6", "string")
        .tag("long", "holding:310", "int64")
        .tag("bit", "holding:314.3", "bool")
        .tag("other bit", "holding:314.4", "bool")
        .tag("array", "holding:0", "uint16[3]");
    let mut host = plant.host(setup);
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (5, 0));
    for (tag, value) in [
        ("coil", Value::Boolean(true)),
        ("coils", Value::Booleans(vec![false, false, true])),
        ("contact", Value::Boolean(true)),
        ("float", Value::Float(123_456.0)),
        ("swapped", Value::Float(123_456.0)),
        ("signed", Value::Int(-2)),
        ("text", Value::Text("Pump".to_owned())),
        ("long", Value::Int(-256)),
        ("bit", Value::Boolean(true)),
        ("other bit", Value::Boolean(false)),
        ("array", Value::Uints(vec![1000, 1001, 1002])),
    ] {
        assert_eq!(host.value(tag), Some(value), "{tag}");
        assert_eq!(host.quality(tag), Some(Quality::Good), "{tag}");
    }
    let mut seen = plant.seen();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            (1, 1, 0, 4),
            (1, 2, 7, 1),
            (1, 3, 0, 3),
            (1, 3, 300, 15),
            (1, 4, 0, 5)
        ]
    );
    host.stop();
}

#[test]
fn a_hundred_registers_take_one_request() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 100));
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (1, 0));
    assert_eq!(good_samples(&mut host), 100);
    assert_eq!(plant.seen(), [(1, 3, 0, 100)]);
}

#[test]
fn the_limits_of_the_channel_hold() {
    let plant = Handle::simple();
    let setup = Setup::new().settings(r#"{ "max_registers": 30, "max_gap_registers": 0 }"#);
    let mut host = plant.host(registers(setup, 100).tag("far", "holding:101", "uint16"));
    assert_eq!(host.poll("all").requests, 5);
    assert_eq!(
        plant.seen(),
        [
            (1, 3, 0, 30),
            (1, 3, 30, 30),
            (1, 3, 60, 30),
            (1, 3, 90, 10),
            (1, 3, 101, 1)
        ]
    );
}

#[test]
fn units_are_devices_and_may_have_settings_of_their_own() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding = [(0, 0x0102), (1, 0x0304)].into());
    plant.unit(7, |unit| unit.holding = [(0, 0x0403), (1, 0x0201)].into());
    let setup = Setup::new()
        .device("one", "")
        .tag("one.x", "40001", "uint32")
        .device("seven", "7")
        .device_settings(r#"{ "order": "DCBA" }"#)
        .tag("seven.x", "40001", "uint32");
    let mut host = plant.host(setup);
    assert_eq!(host.poll("all").requests, 2);
    assert_eq!(host.value("one.x"), Some(Value::Uint(0x0102_0304)));
    assert_eq!(host.value("seven.x"), Some(Value::Uint(0x0102_0304)));
    host.take_samples();
    host.poll_skipping("all", &["one"]);
    assert_eq!(
        host.take_samples().len(),
        1,
        "a device that is skipped is left in peace"
    );
}

#[test]
fn a_read_is_fresh_and_in_the_order_asked_for() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 5).tag("missing", "holding:999", "uint16"));
    host.poll("all");
    plant.set(3, 77);
    plant.seen();
    let samples = host.read(&["t3", "missing", "t1"]).expect("an answer");
    let values: Vec<_> = samples
        .iter()
        .map(|sample| (sample.value.clone(), sample.quality))
        .collect();
    assert_eq!(
        values,
        [
            (Some(Value::Uint(77)), Quality::Good),
            (None, Quality::BadConfiguration),
            (Some(Value::Uint(1001)), Quality::Good)
        ]
    );
    assert_eq!(plant.seen(), [(1, 3, 1, 3), (1, 3, 999, 1)]);
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(registers(Setup::new(), 10));
    host.begin_poll("all");
    let request = host.take_sent("plc");
    for byte in plant.answer(&request) {
        assert_eq!(host.poll_answer("all"), None);
        host.receive("plc", &[byte]);
    }
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 10);
    assert_eq!(host.value("t9"), Some(Value::Uint(1009)));
}

#[test]
fn a_connection_cut_in_mid_frame_is_begun_anew() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(registers(Setup::new(), 10));
    host.begin_poll("all");
    let answer = plant.answer(&host.take_sent("plc"));
    host.receive("plc", &answer[..12]);
    host.drop_connection("plc", CloseReason::Reset);
    let done = host.finish_poll("all");
    assert_eq!((done.requests, done.failed), (1, 1));
    assert_eq!(good_samples(&mut host), 0);
    assert_eq!(host.quality("t0"), Some(Quality::BadNotConnected));

    host.begin_poll("all");
    let answer = plant.answer(&host.take_sent("plc"));
    host.receive("plc", &answer);
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(good_samples(&mut host), 10);
}

#[test]
fn a_device_that_is_away_costs_no_time() {
    let plant = Handle::simple();
    let setup = Setup::new()
        .device("a", "1")
        .tag("a", "40001", "uint16")
        .device("b", "2")
        .tag("b", "40001", "uint16");
    let mut host = plant.host(setup);
    host.away("plc", CloseReason::Refused);
    let before = host.now();
    let done = host.poll("all");
    assert_eq!(
        (done.requests, done.failed),
        (1, 1),
        "the rest of the cycle is not tried"
    );
    assert_eq!(host.now(), before);
    assert_eq!(host.quality("a"), Some(Quality::BadNotConnected));
    assert_eq!(host.quality("b"), Some(Quality::BadNotConnected));
    host.restore("plc");
    host.poll("all");
    assert_eq!(host.quality("a"), Some(Quality::Good));
    assert_eq!(resets(&host), 0);
}

#[test]
fn the_line_is_left_in_peace_between_requests() {
    let plant = Handle::simple();
    let setup = Setup::new().settings(r#"{ "pause_ms": 20, "max_registers": 10 }"#);
    let mut host = plant.host(registers(setup, 30));
    let before = host.now();
    host.poll("all");
    assert_eq!(
        host.now() - before,
        Duration::from_millis(40),
        "two pauses between three requests"
    );
    host.poll("all");
    assert_eq!(
        host.now() - before,
        Duration::from_millis(100),
        "and one before the fourth"
    );
}

#[test]
fn the_round_trip_is_measured() {
    let plant = Handle::simple();
    let mut host = plant.silent_host(registers(Setup::new(), 10));
    host.begin_poll("all");
    let answer = plant.answer(&host.take_sent("plc"));
    host.advance(Duration::from_millis(30));
    host.receive("plc", &answer);
    assert_eq!(host.finish_poll("all").round_trip_ns, Some(30_000_000));
}
