//! Units that call in.

use std::time::Duration;

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{CloseReason, Quality, Value};
use modbus::Modbus;

use crate::plant::Handle;

/// Units 1, 2 and 3 that each hold their number; nobody has called yet.
fn three_units(plant: &Handle, settings: &str, greetings: [&str; 3]) -> FakeHost<Modbus> {
    let mut setup = Setup::new().listening_link("plc", "tcp").settings(settings);
    for (unit, greeting) in (1..=3).zip(greetings) {
        plant.unit(unit, |made| made.holding.insert(0, u16::from(unit)));
        setup = setup.device(&format!("u{unit}"), &unit.to_string());
        if !greeting.is_empty() {
            setup = setup.device_settings(&format!(r#"{{ "greeting": "{greeting}" }}"#));
        }
        setup = setup.tag(&format!("t{unit}"), "40001", "uint16");
    }
    FakeHost::start(setup).expect("in order")
}

fn qualities(host: &FakeHost<Modbus>) -> [Quality; 3] {
    ["t1", "t2", "t3"].map(|tag| host.quality(tag).expect("it was polled"))
}

const GOOD: Quality = Quality::Good;
const AWAY: Quality = Quality::BadNotConnected;

#[test]
fn any_caller_leads_to_all_units() {
    let plant = Handle::default();
    let mut host = three_units(&plant, "{}", ["", "", ""]);
    assert_eq!(host.poll("all").failed, 1, "nobody is there to ask");
    assert_eq!(qualities(&host), [AWAY; 3]);
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    host.call_in("plc", "10.0.0.7:999");
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(host.value("t3"), Some(Value::Uint(3)));
    let second = host.call_in("plc", "10.0.0.8:999");
    host.take_sent_on(second);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(
        host.take_sent_on(second).len(),
        3 * 12,
        "the newer one is asked"
    );
    host.hang_up(second, CloseReason::ByPeer);
    host.poll("all");
    assert_eq!(qualities(&host), [AWAY; 3], "the older one was hung up");
    host.call_in("plc", "10.0.0.8:999");
    assert_eq!(host.poll("all").failed, 0);
    host.stop();
}

/// Over RTU each caller answers for its own unit alone, as a device does.
#[test]
fn a_caller_is_the_unit_that_answers() {
    for (framing, plant) in [("tcp", Handle::default()), ("rtu", Handle::rtu())] {
        let settings = format!(
            r#"{{ "callers": "unit", "framing": "{framing}", "timeout_ms": 100, "retries": 0 }}"#
        );
        let mut host = three_units(&plant, &settings, ["", "", ""]);
        let speaker = plant.clone();
        // Whichever call it comes over: only unit 2 has a voice.
        plant.unit(1, |unit| unit.silent = true);
        plant.unit(3, |unit| unit.silent = true);
        host.peer("plc", move |request| speaker.answer(request));
        let two = host.call_in("plc", "10.0.0.2:1");
        host.advance(Duration::from_millis(500));
        host.poll("all");
        assert_eq!(qualities(&host), [AWAY, GOOD, AWAY], "{framing}");
        assert_eq!(host.value("t2"), Some(Value::Uint(2)), "{framing}");

        plant.unit(1, |unit| unit.silent = false);
        let one = host.call_in("plc", "10.0.0.1:1");
        host.advance(Duration::from_millis(500));
        host.poll("all");
        assert_eq!(qualities(&host), [GOOD, GOOD, AWAY], "{framing}");
        host.hang_up(two, CloseReason::Reset);
        host.poll("all");
        assert_eq!(qualities(&host), [GOOD, AWAY, AWAY], "{framing}");

        // Unit 1 calls again before its old call was noticed to be dead: the new one is it.
        plant.unit(2, |unit| unit.silent = true);
        let again = host.call_in("plc", "10.0.0.1:2");
        host.advance(Duration::from_millis(500));
        host.take_sent_on(one);
        host.take_sent_on(again);
        host.poll("all");
        assert_eq!(qualities(&host), [GOOD, AWAY, AWAY], "{framing}");
        assert!(host.take_sent_on(one).is_empty(), "{framing}");
        assert!(!host.take_sent_on(again).is_empty(), "{framing}");
        host.stop();
    }
}

#[test]
fn a_caller_that_answers_for_no_unit_is_hung_up() {
    let plant = Handle::default();
    let settings = r#"{ "callers": "unit", "timeout_ms": 100 }"#;
    let mut host = three_units(&plant, settings, ["", "", ""]);
    let stranger = host.call_in("plc", "10.0.0.9:1");
    host.advance(Duration::from_secs(1));
    assert!(host.is_closed(stranger));
    let log = host.take_log();
    assert!(
        log.iter()
            .any(|line| line.message == "10.0.0.9:1 called in and is none of the units; hung up"),
        "{log:?}"
    );
}

#[test]
fn a_caller_is_known_by_its_greeting() {
    let plant = Handle::default();
    let settings = r#"{ "callers": "greeting", "retries": 0 }"#;
    // Two units behind one modem, and one behind another.
    let mut host = three_units(&plant, settings, ["DTU-A", "hex:00ff41", "DTU-A"]);
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    let pair = host.call_in("plc", "10.0.0.1:1");
    host.poll("all");
    assert_eq!(qualities(&host), [AWAY; 3], "it has said nothing yet");
    host.receive_on(pair, b"DT");
    host.poll("all");
    assert_eq!(qualities(&host), [AWAY; 3], "nor enough");
    host.receive_on(pair, b"U-A");
    assert_eq!(host.poll("all").failed, 1);
    assert_eq!(qualities(&host), [GOOD, AWAY, GOOD]);
    let single = host.call_in("plc", "10.0.0.2:1");
    host.receive_on(single, &[0, 0xff, 0x41]);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(host.value("t2"), Some(Value::Uint(2)));
    assert_eq!(
        host.take_sent_on(single).len(),
        12,
        "each over its own call"
    );

    let wrong = host.call_in("plc", "10.0.0.3:1");
    host.receive_on(wrong, b"DTX");
    assert!(host.is_closed(wrong), "nobody begins like this");
    let mute = host.call_in("plc", "10.0.0.4:1");
    host.advance(Duration::from_secs(9));
    assert!(!host.is_closed(mute));
    host.advance(Duration::from_secs(2));
    assert!(
        host.is_closed(mute),
        "ten seconds are enough to say who it is"
    );
    assert_eq!(host.poll("all").failed, 0);
    host.stop();
}

/// A silent unit on one call costs those on other calls nothing.
#[test]
fn calls_are_polled_at_once() {
    let plant = Handle::default();
    let settings = r#"{ "callers": "greeting", "retries": 0 }"#;
    let mut host = three_units(&plant, settings, ["a", "b", "c"]);
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    for (greeting, peer) in [(b"a", "1"), (b"b", "2"), (b"c", "3")] {
        let caller = host.call_in("plc", peer);
        host.receive_on(caller, greeting);
    }
    plant.unit(1, |unit| unit.silent = true);
    plant.unit(2, |unit| unit.silent = true);
    let before = host.now();
    host.begin_poll("all");
    assert_eq!(
        host.value("t3"),
        Some(Value::Uint(3)),
        "before any time passes"
    );
    let done = host.finish_poll("all");
    assert_eq!((done.requests, done.failed), (3, 2));
    assert_eq!(host.now() - before, Duration::from_secs(1), "both at once");
}
