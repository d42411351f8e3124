//! Units that refuse, wholly or in part.

use bulkhead_sdk::testing::Setup;
use bulkhead_sdk::{DeviceCondition, Quality, Value};

use crate::plant::{Handle, good_samples, registers, resets};

#[test]
fn each_exception_has_its_quality() {
    for (code, quality) in [
        (1, Quality::BadNotSupported),
        (2, Quality::BadConfiguration),
        (3, Quality::BadConfiguration),
        (4, Quality::BadDeviceFailure),
        (5, Quality::Bad),
        (6, Quality::Bad),
        (7, Quality::Bad),
        (8, Quality::BadDeviceFailure),
        (10, Quality::BadNoCommunication),
        (11, Quality::BadNoCommunication),
    ] {
        let plant = Handle::simple();
        plant.unit(1, |unit| unit.exception = Some(code));
        plant.unit(2, |unit| unit.holding = [(0, 7)].into());
        let setup = Setup::new()
            .device("one", "1")
            .tag("bad", "40001", "uint16");
        let mut host = plant.host(setup.device("two", "2").tag("good", "40001", "uint16"));
        host.poll("all");
        assert_eq!(host.quality("bad"), Some(quality), "exception {code}");
        assert_eq!(
            host.value("good"),
            Some(Value::Uint(7)),
            "exception {code}: the other unit"
        );
        let down = matches!(code, 10 | 11);
        let condition = if down {
            DeviceCondition::Down
        } else {
            DeviceCondition::Up
        };
        assert_eq!(host.condition("one"), Some(condition), "exception {code}");
        assert_eq!(resets(&host), 0, "an exception is an answer");

        plant.unit(1, |unit| unit.exception = None);
        host.poll("all");
        // A place that was refused is tried again in the second poll; a unit that was away is heard in the first, and read in the second.
        if matches!(code, 2 | 3 | 10 | 11) {
            host.poll("all");
        }
        assert_eq!(
            host.quality("bad"),
            Some(Quality::Good),
            "exception {code} is over"
        );
    }
}

#[test]
fn a_busy_unit_is_asked_again() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 4));
    let mut busy = true;
    plant.mangle(move |request, reply| {
        if std::mem::take(&mut busy) {
            [&request[..5], &[3, 1, 0x83, 6]].concat()
        } else {
            reply
        }
    });
    let before = host.now();
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (2, 1));
    assert_eq!(good_samples(&mut host), 4);
    assert!(host.now() > before, "not at once");
}

#[test]
fn one_missing_address_costs_its_own_tag_only() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding.remove(&37));
    let mut host = plant.host(registers(Setup::new(), 100));
    let done = host.poll("all");
    assert_eq!(good_samples(&mut host), 99);
    assert_eq!(host.quality("t37"), Some(Quality::BadConfiguration));
    assert!(done.requests <= 1 + 2 * 7, "{} requests", done.requests);
    let log: Vec<String> = host
        .take_log()
        .into_iter()
        .map(|line| line.message)
        .collect();
    assert_eq!(
        log,
        ["tag t37 cannot be read: the unit has no such address (exception 2); check its address"]
    );

    plant.seen();
    let done = host.poll("all");
    assert_eq!(
        plant.seen(),
        [(1, 3, 0, 37), (1, 3, 38, 62), (1, 3, 37, 1)],
        "what was learnt is remembered"
    );
    assert_eq!((done.requests, done.failed), (3, 1));
    assert_eq!(
        host.take_samples().len(),
        100,
        "each tag has its sample in each cycle"
    );
    assert_eq!(host.take_log(), [], "said once");

    plant.set(37, 5);
    host.poll("all");
    assert_eq!(host.value("t37"), Some(Value::Uint(5)));
    plant.seen();
    host.poll("all");
    assert_eq!(
        plant.seen(),
        [(1, 3, 0, 100)],
        "and forgotten when the unit has changed"
    );
    assert_eq!(good_samples(&mut host), 200);
}

#[test]
fn a_gap_that_does_not_exist_is_not_read_again() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding.retain(|at, _| !(4..8).contains(at)));
    let mut setup = Setup::new();
    for at in [0, 1, 2, 3, 8, 9, 10, 11] {
        setup = setup.tag(&format!("t{at}"), &format!("holding:{at}"), "uint16");
    }
    let mut host = plant.host(setup);
    host.poll("all");
    assert_eq!(good_samples(&mut host), 8);
    plant.seen();
    host.poll("all");
    assert_eq!(plant.seen(), [(1, 3, 0, 4), (1, 3, 8, 4)]);
    assert_eq!(good_samples(&mut host), 8);
}

/// A unit that reads only 10 registers at once, and says so with exception 3.
#[test]
fn a_limit_that_nobody_configured_is_found() {
    let plant = Handle::simple();
    let mut host = plant.host(registers(Setup::new(), 40));
    plant.mangle(|request, reply| {
        if request[11] > 10 {
            [&request[..5], &[3, 1, 0x83, 3]].concat()
        } else {
            reply
        }
    });
    host.poll("all");
    assert_eq!(good_samples(&mut host), 40);
    host.poll("all");
    let done = host.poll("all");
    assert_eq!((done.requests, done.failed), (4, 0));
}

#[test]
fn the_search_for_what_is_missing_is_bounded() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding.retain(|at, _| at % 2 == 0));
    let mut host = plant.host(registers(Setup::new(), 120));
    let mut cycles = 0;
    loop {
        let done = host.poll("all");
        assert!(
            done.requests <= 200,
            "{} requests in one cycle",
            done.requests
        );
        cycles += 1;
        let bad = host
            .take_samples()
            .iter()
            .filter(|sample| sample.quality != Quality::Good)
            .count();
        if bad == 60 {
            break;
        }
        assert!(cycles < 20, "every tag that exists is found");
    }
    let done = host.poll("all");
    assert_eq!(
        (done.requests, done.failed),
        (61, 1),
        "one faulty tag at a time is tried again"
    );
}
