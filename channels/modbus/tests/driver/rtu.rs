//! RTU: frames without length and transaction. Whatever comes, nothing is good that the bytes do not justify.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::{Quality, Value};
use modbus::Modbus;
use proptest::prelude::*;

use crate::plant::{Handle, checksum, good_samples, registers, resets};

const KINDS: [&str; 2] = ["tcp", "serial"];

/// One attempt, so that a failure is seen.
fn setup(kind: &str) -> Setup {
    Setup::new().settings(match kind {
        "serial" => r#"{ "retries": 0 }"#,
        _ => r#"{ "retries": 0, "framing": "rtu" }"#,
    })
}

fn host(plant: &Handle, kind: &str) -> FakeHost<Modbus> {
    plant.host_over(kind, registers(setup(kind), 4))
}

#[test]
fn it_reads_and_writes_over_either_link() {
    for kind in KINDS {
        let plant = Handle::rtu();
        let setup = registers(setup(kind), 4)
            .tag("set", "holding:100", "uint16")
            .writable();
        let mut host = plant.host_over(kind, setup);
        assert_eq!(host.poll("all").failed, 0, "{kind}");
        assert_eq!(host.value("t3"), Some(Value::Uint(1003)), "{kind}");
        assert_eq!(
            host.write_read_back("set", Value::Uint(7)),
            Ok(Some(Value::Uint(7)))
        );
        assert_eq!(plant.unit(1, |unit| unit.holding[&100]), 7);
        let error = host.write("set", Value::Uint(70_000)).unwrap_err();
        assert!(error.message.contains("outside uint16"), "{error}");
        host.stop();
    }
}

/// The bytes of Modbus Application Protocol 1.1b3, section 6.3, with the checksum of Modbus over Serial Line V1.02, section 6.2.2.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let plant = Handle::rtu();
    let setup = setup("serial")
        .device("seventeen", "17")
        .tag("three", "40108", "uint16[3]");
    let mut host = plant.silent_host_over("serial", setup);
    host.begin_poll("all");
    host.advance(Duration::from_millis(100));
    assert_eq!(
        host.take_sent("plc"),
        [0x11, 0x03, 0x00, 0x6b, 0x00, 0x03, 0x76, 0x87]
    );
    host.receive(
        "plc",
        &[
            0x11, 0x03, 0x06, 0xae, 0x41, 0x56, 0x52, 0x43, 0x40, 0x49, 0xad,
        ],
    );
    assert_eq!(host.finish_poll("all").failed, 0);
    assert_eq!(
        host.value("three"),
        Some(Value::Uints(vec![0xae41, 0x5652, 0x4340]))
    );
}

#[test]
fn which_framing_a_link_has() {
    for (kind, settings, length) in [
        ("tcp", "{}", 12),
        ("tls", "{}", 12),
        ("unix", "{}", 12),
        ("serial", "{}", 8),
        ("tcp", r#"{ "framing": "rtu" }"#, 8),
        ("tls", r#"{ "framing": "rtu" }"#, 8),
        ("serial", r#"{ "framing": "tcp" }"#, 12),
    ] {
        let plant = Handle::rtu();
        let mut host = plant.silent_host_over(kind, registers(Setup::new().settings(settings), 1));
        host.begin_poll("all");
        host.advance(Duration::from_millis(100));
        assert_eq!(host.take_sent("plc").len(), length, "{kind} {settings}");
    }
}

/// Polls well, then with `mangle` over every answer, then well again, on each link.
fn check(
    name: &str,
    quality: Quality,
    mangle: impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + Clone + 'static,
) {
    for kind in KINDS {
        let plant = Handle::rtu();
        let mut host = host(&plant, kind);
        assert_eq!(host.poll("all").failed, 0);
        assert_eq!(good_samples(&mut host), 4);

        plant.set(0, 2000);
        plant.mangle(mangle.clone());
        let done = host.poll("all");
        assert_eq!(done.requests, done.failed, "{kind}: {name}");
        let samples = host.take_samples();
        assert_eq!(samples.len(), 4, "{kind}: {name}: each tag has its sample");
        assert!(
            samples
                .iter()
                .all(|sample| sample.quality == quality && sample.value.is_none()),
            "{kind}: {name}: {samples:?}"
        );
        let reset = kind == "tcp" && quality != Quality::BadTimeout;
        assert_eq!(resets(&host), usize::from(reset), "{kind}: {name}");

        plant.set(0, 3000);
        plant.honest();
        assert_eq!(host.poll("all").failed, 0, "{kind}: {name}");
        assert_eq!(good_samples(&mut host), 4, "{kind}: {name}");
        assert_eq!(host.value("t0"), Some(Value::Uint(3000)), "{kind}: {name}");
        host.stop();
    }
}

/// The answer with one byte changed, and a checksum that agrees.
fn with(
    at: usize,
    change: impl Fn(u8) -> u8 + Clone + 'static,
) -> impl FnMut(&[u8], Vec<u8>) -> Vec<u8> + Clone + 'static {
    move |_, mut reply| {
        reply.truncate(reply.len() - 2);
        reply[at] = change(reply[at]);
        [&reply[..], &checksum(&reply)].concat()
    }
}

#[test]
fn what_is_not_the_answer() {
    use Quality::BadNoCommunication;
    check("another unit", BadNoCommunication, with(0, |_| 2));
    check("another function", BadNoCommunication, with(1, |_| 4));
    check(
        "another function's exception",
        BadNoCommunication,
        |_, _| {
            let body = [1, 0x84, 2];
            [&body[..], &checksum(&body)].concat()
        },
    );
    check(
        "a byte count one more",
        BadNoCommunication,
        with(2, |count| count + 1),
    );
    check(
        "a byte count one less",
        BadNoCommunication,
        with(2, |count| count - 1),
    );
    check(
        "a byte less, and a checksum that agrees",
        BadNoCommunication,
        |_, reply| {
            let mut body = reply[..reply.len() - 3].to_vec();
            body[2] -= 1;
            [&body[..], &checksum(&body)].concat()
        },
    );
    check(
        "a checksum that does not agree",
        BadNoCommunication,
        |_, mut reply| {
            *reply.last_mut().unwrap() ^= 1;
            reply
        },
    );
    check("noise before", BadNoCommunication, |_, reply| {
        [&[0xff], &reply[..]].concat()
    });
    check("the request itself", BadNoCommunication, |request, _| {
        request.to_vec()
    });
    check(
        "the request, then the answer",
        BadNoCommunication,
        |request, reply| [request, &reply].concat(),
    );
    check("a piece", BadNoCommunication, |_, reply| {
        reply[..6].to_vec()
    });
    check("one byte", BadNoCommunication, |_, reply| {
        reply[..1].to_vec()
    });
    check("silence", Quality::BadTimeout, |_, _| Vec::new());
}

/// Each turned bit of an answer spoils it: of Modbus TCP this could not be said of the data.
#[test]
fn turned_bits() {
    for bit in 0..13 * 8 {
        let plant = Handle::rtu();
        let mut host = host(&plant, "tcp");
        plant.mangle(move |_, mut reply| {
            assert_eq!(reply.len(), 13);
            reply[bit / 8] ^= 1 << (bit % 8);
            reply
        });
        assert_eq!(host.poll("all").failed, 1, "bit {bit}");
        assert_eq!(good_samples(&mut host), 0, "bit {bit}");
    }
}

#[test]
fn what_follows_an_answer_is_not_taken_for_the_next() {
    for kind in KINDS {
        let plant = Handle::rtu();
        let mut host = host(&plant, kind);
        plant.mangle(|_, reply| [reply.clone(), reply].concat());
        assert_eq!(host.poll("all").failed, 0, "{kind}");
        assert_eq!(good_samples(&mut host), 4, "{kind}");
        plant.honest();
        plant.set(0, 2000);
        assert_eq!(host.poll("all").failed, 0, "{kind}");
        assert_eq!(host.value("t0"), Some(Value::Uint(2000)), "{kind}");
        assert_eq!(resets(&host), 0, "{kind}");
    }
}

#[test]
fn an_echo_is_named_and_can_be_expected() {
    for kind in KINDS {
        let plant = Handle::rtu();
        let mut host = host(&plant, kind);
        plant.mangle(|request, reply| [request, &reply].concat());
        host.poll("all");
        let log = host.take_log();
        assert!(
            log.iter()
                .any(|line| line.message.contains("set echo = true")),
            "{log:?}"
        );

        let settings = r#"{ "retries": 0, "framing": "rtu", "echo": true }"#;
        let setup = registers(Setup::new().settings(settings), 4)
            .tag("set", "holding:100", "uint16")
            .writable();
        let mut host = plant.host_over(kind, setup);
        assert_eq!(host.poll("all").failed, 0, "{kind}");
        assert_eq!(host.value("t3"), Some(Value::Uint(1003)));
        assert_eq!(host.write("set", Value::Uint(9)), Ok(None));
        // The echo of a write looks like its confirmation, and is none.
        plant.mangle(|request, _| request.to_vec());
        let error = host.write("set", Value::Uint(10)).unwrap_err();
        assert_eq!(error.message, "no answer within 1000 ms");
        plant.honest();
        assert!(
            host.write("set", Value::Uint(11)).is_err(),
            "no echo at all"
        );
    }
}

/// The request of one poll times out; gives its answer, which is still to come, and the request after it.
struct LateAnswer {
    plant: Handle,
    host: FakeHost<Modbus>,
    late: Vec<u8>,
}

fn late_answer(kind: &str) -> LateAnswer {
    let second = Duration::from_secs(1);
    let plant = Handle::rtu();
    let setup = setup(kind)
        .tag("a", "holding:0", "uint16")
        .tag("b", "holding:50", "uint16")
        .tag("c", "30001", "uint16")
        .group("a", second, &["a"])
        .group("b", second, &["b"])
        .group("c", second, &["c"]);
    plant.unit(1, |unit| unit.input.insert(0, 77));
    let mut host = plant.silent_host_over(kind, setup);
    host.begin_poll("a");
    host.advance(Duration::from_millis(100));
    let late = plant.answer(&host.take_sent("plc"));
    assert_eq!(host.finish_poll("a").failed, 1);
    assert_eq!(host.quality("a"), Some(Quality::BadTimeout));
    LateAnswer { plant, host, late }
}

/// The answer to `a` looks in every byte like one to `b`.
#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    for kind in KINDS {
        let LateAnswer {
            plant,
            mut host,
            late,
        } = late_answer(kind);
        host.begin_poll("b");
        if kind == "tcp" {
            assert_eq!(
                resets(&host),
                1,
                "what is on the way is dropped with its stream"
            );
        } else {
            assert_eq!(resets(&host), 0);
            assert_eq!(
                host.take_sent("plc").len(),
                0,
                "the unit has its time once more"
            );
            host.receive("plc", &late);
            host.advance(Duration::from_millis(1000));
        }
        let request = host.take_sent("plc");
        assert_eq!(request[2..4], [0, 50], "{kind}");
        host.receive("plc", &plant.answer(&request));
        assert_eq!(host.finish_poll("b").failed, 0, "{kind}");
        assert_eq!(host.value("b"), Some(Value::Uint(1050)), "{kind}");
    }
}

/// The answer to `a` cannot be taken for one to `c`, which another function reads: it is read and thrown away.
#[test]
fn a_late_answer_between_others_is_thrown_away() {
    for kind in KINDS {
        let LateAnswer {
            plant,
            mut host,
            late,
        } = late_answer(kind);
        host.begin_poll("c");
        host.advance(Duration::from_millis(100));
        let request = host.take_sent("plc");
        host.receive("plc", &late);
        assert_eq!(host.poll_answer("c"), None, "{kind}: it waits on");
        host.receive("plc", &plant.answer(&request));
        assert_eq!(host.finish_poll("c").failed, 0, "{kind}");
        assert_eq!(host.value("c"), Some(Value::Uint(77)), "{kind}");
        // The unit has answered what came later: nothing is in doubt any more.
        host.begin_poll("b");
        host.advance(Duration::from_millis(10));
        let request = host.take_sent("plc");
        host.receive("plc", &plant.answer(&request));
        assert_eq!(host.finish_poll("b").failed, 0, "{kind}");
        assert_eq!(host.value("b"), Some(Value::Uint(1050)), "{kind}");
        assert_eq!(resets(&host), 0, "{kind}");
    }
}

/// Dead units cost the living no connection as long as answers overtake them.
#[test]
fn a_dead_unit_beside_living_ones_does_not_cost_the_connection() {
    let plant = Handle::rtu();
    let mut setup =
        Setup::new().settings(r#"{ "retries": 0, "framing": "rtu", "timeout_ms": 100 }"#);
    for unit in [1, 2, 3] {
        setup = setup.device(&format!("u{unit}"), &unit.to_string()).tag(
            &format!("t{unit}"),
            "40001",
            "uint16",
        );
        plant.unit(unit, |made| made.holding.insert(0, u16::from(unit)));
    }
    plant.unit(2, |unit| unit.silent = true);
    let mut host = plant.host(setup);
    for _ in 0..10 {
        assert_eq!(host.poll("all").failed, 1);
        assert_eq!(host.value("t3"), Some(Value::Uint(3)));
        host.advance(Duration::from_millis(200));
    }
    assert_eq!(resets(&host), 0);
    plant.unit(2, |unit| unit.silent = false);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(host.value("t2"), Some(Value::Uint(2)));
}

#[test]
fn a_serial_line_is_left_silent_between_frames() {
    let plant = Handle::rtu();
    let settings = r#"{ "retries": 0, "silence_ms": 20, "max_registers": 1 }"#;
    let mut host = plant.host_over("serial", registers(Setup::new().settings(settings), 4));
    host.poll("all");
    host.advance(Duration::from_millis(20));
    let before = host.now();
    assert_eq!(host.poll("all").requests, 4);
    assert_eq!(host.now() - before, Duration::from_millis(3 * 20));
}

#[test]
fn a_line_that_is_never_silent_is_named() {
    let plant = Handle::rtu();
    let mut host = plant.silent_host_over("serial", registers(setup("serial"), 1));
    host.begin_poll("all");
    for _ in 0..200 {
        host.receive("plc", &[0x55; 3]);
        host.advance(Duration::from_millis(10));
    }
    assert_eq!(host.finish_poll("all").failed, 1);
    assert_eq!(host.quality("t0"), Some(Quality::BadNoCommunication));
    assert_eq!(
        host.take_sent("plc").len(),
        0,
        "nobody is asked into the noise"
    );
    // It is asked again as soon as there is silence.
    let speaker = plant.clone();
    host.peer("plc", move |request| speaker.answer(request));
    assert_eq!(host.poll("all").failed, 0);
}

#[test]
fn a_broadcast_reaches_all_and_waits_for_none() {
    for kind in KINDS {
        let plant = Handle::rtu();
        plant.unit(2, |unit| unit.holding.insert(5, 0));
        let setup = setup(kind)
            .device("every", "0")
            .tag("all", "holding:5", "uint16")
            .writable()
            .device("two", "2")
            .tag("two", "holding:5", "uint16")
            .group("two", Duration::from_secs(1), &["two"]);
        let mut host = plant.host_over(kind, setup);
        host.poll("two");
        host.advance(Duration::from_millis(50));
        let before = host.now();
        assert_eq!(host.write("all", Value::Uint(42)), Ok(None), "{kind}");
        assert_eq!(host.now(), before, "{kind}: there is no answer to wait for");
        assert_eq!(host.poll("two").failed, 0, "{kind}");
        assert_eq!(
            host.now() - before,
            Duration::from_millis(100),
            "{kind}: the units have time to act"
        );
        assert_eq!(host.value("two"), Some(Value::Uint(42)), "{kind}");
        assert_eq!(plant.unit(1, |unit| unit.holding[&5]), 42, "{kind}");
        let error = host.read(&["all"]).map(|samples| samples[0].quality);
        assert_eq!(error, Ok(Quality::BadNotSupported), "{kind}");
    }
}

#[test]
fn a_broadcast_cannot_be_polled() {
    let setup = setup("serial")
        .device("every", "0")
        .tag("all", "40001", "uint16")
        .writable();
    let faults = FakeHost::<Modbus>::start(setup.link("plc", "serial"))
        .err()
        .unwrap();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.contains("access = \"w\""), "{faults:?}");
}

#[test]
fn a_read_that_was_cancelled_leaves_no_answer_behind() {
    for kind in KINDS {
        let LateAnswer {
            plant, mut host, ..
        } = late_answer(kind);
        host.begin_poll("a");
        host.advance(Duration::from_millis(1_100));
        let late = plant.answer(&host.take_sent("plc"));
        // A reload drops the poll in the middle.
        let setup = setup(kind)
            .link("plc", kind)
            .tag("b", "holding:50", "uint16");
        host.reload(setup).expect("in order");
        host.begin_poll("all");
        if kind == "serial" {
            host.receive("plc", &late);
        }
        host.advance(Duration::from_millis(3_000));
        let request = host.take_sent("plc");
        if !request.is_empty() {
            host.receive("plc", &plant.answer(&request));
        }
        host.finish_poll("all");
        assert_ne!(host.value("b"), Some(Value::Uint(1000)), "{kind}");
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(prop::sample::select(vec![0u8, 1, 3, 8, 0x83, 0xff]), 0..12),
    ]
}

proptest! {
    /// Noise before, after and within an answer, which also comes in pieces: a sample is good only with the value that the unit has sent
    /// in this very answer, and only if nothing came before it.
    #[test]
    fn noise_never_makes_a_value(
        serial: bool,
        before in pieces(),
        after in pieces(),
        within in pieces(),
        place: prop::sample::Index,
        cut: prop::sample::Index,
        cutting in prop::bool::weighted(0.2),
    ) {
        let plant = Handle::rtu();
        let mut host = host(&plant, if serial { "serial" } else { "tcp" });
        let clean = Rc::new(Cell::new(false));
        let told = clean.clone();
        plant.mangle(move |_, reply| {
            let place = place.index(reply.len());
            let mut sent = reply.clone();
            sent.splice(place..place, within.clone());
            if cutting {
                sent.truncate(cut.index(sent.len()));
            }
            let sent = [&before[..], &sent, &after].concat();
            told.set(sent.starts_with(&reply));
            sent
        });
        for round in 0..3u16 {
            plant.set(0, 2000 + round);
            host.poll("all");
            let good = good_samples(&mut host);
            prop_assert_eq!(good, if clean.get() { 4 } else { 0 });
            if clean.get() {
                prop_assert_eq!(host.value("t0"), Some(Value::Uint(u64::from(2000 + round))));
            }
        }
        plant.honest();
        plant.set(0, 5000);
        host.advance(Duration::from_secs(5));
        host.poll("all");
        prop_assert_eq!(host.value("t0"), Some(Value::Uint(5000)));
        prop_assert_eq!(good_samples(&mut host), 4);
    }
}
