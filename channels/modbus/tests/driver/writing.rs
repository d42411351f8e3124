//! Writes: what goes out, what comes back, and who waits for whom.

use std::time::Duration;

use bulkhead_sdk::testing::Setup;
use bulkhead_sdk::{CloseReason, Quality, Value};

use crate::plant::{Handle, registers, resets};

fn plant() -> Handle {
    let plant = Handle::simple();
    plant.unit(1, |unit| {
        unit.coils = (0..16).map(|at| (at, false)).collect()
    });
    plant
}

fn setup(settings: &str) -> Setup {
    Setup::new()
        .settings(settings)
        .tag("coil", "00001", "bool")
        .writable()
        .tag("coils", "00002", "bool[10]")
        .writable()
        .tag("word", "40001", "int16")
        .writable()
        .tag("float", "40002#BL", "float32")
        .writable()
        .tag("text", "40010.5", "string")
        .writable()
        .tag("bit", "40020.15", "bool")
        .writable()
        .tag("missing", "holding:999", "uint16")
        .writable()
}

#[test]
fn each_type_has_its_function() {
    for (settings, single_coil, single_register) in [
        ("{}", 5, 6),
        (r#"{ "write_function": "multiple" }"#, 15, 16),
    ] {
        let plant = plant();
        let mut host = plant.host(setup(settings));
        let bits = vec![
            true, false, true, true, false, false, false, false, false, true,
        ];
        for (tag, value, function) in [
            ("coil", Value::Boolean(true), single_coil),
            ("coils", Value::Booleans(bits.clone()), 15),
            ("word", Value::Int(-2), single_register),
            ("float", Value::Float(123_456.0), 16),
            ("text", Value::Text("abc".to_owned()), 16),
        ] {
            plant.seen();
            assert_eq!(
                host.write_read_back(tag, value.clone()),
                Ok(Some(value)),
                "{tag}"
            );
            let seen = plant.seen();
            assert_eq!(seen.len(), 2, "{tag}: one write, one read");
            assert_eq!(seen[0].1, function, "{tag}");
        }
        plant.unit(1, |unit| {
            assert_eq!(unit.holding[&0], 0xfffe);
            assert_eq!([unit.holding[&1], unit.holding[&2]], [0x2000, 0x47f1]);
            assert_eq!(
                [unit.holding[&9], unit.holding[&10], unit.holding[&11]],
                [0x6162, 0x6300, 0],
                "filled up with NUL"
            );
            assert_eq!((1..=10).map(|at| unit.coils[&at]).collect::<Vec<_>>(), bits);
        });
        host.stop();
    }
}

#[test]
fn without_read_back_nothing_is_read() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    assert_eq!(host.write("word", Value::Int(5)), Ok(None));
    assert_eq!(plant.seen(), [(1, 6, 0, 5)]);
}

#[test]
fn what_is_read_back_is_what_the_unit_holds() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    plant.mangle(move |request, reply| {
        if request[7] == 3 {
            [&reply[..9], &[0, 100]].concat()
        } else {
            reply
        }
    });
    assert_eq!(
        host.write_read_back("word", Value::Int(500)),
        Ok(Some(Value::Int(100)))
    );
}

#[test]
fn one_bit_leaves_the_others_as_they_are() {
    let plant = plant();
    plant.set(19, 0x1234);
    let mut host = plant.host(setup(r#"{ "mask_write": "never" }"#));
    assert_eq!(
        host.write_read_back("bit", Value::Boolean(true)),
        Ok(Some(Value::Boolean(true)))
    );
    assert_eq!(plant.unit(1, |unit| unit.holding[&19]), 0x9234);
    assert_eq!(
        plant.seen(),
        [(1, 3, 19, 1), (1, 6, 19, 0x9234), (1, 3, 19, 1)]
    );
    assert_eq!(host.write("bit", Value::Boolean(false)), Ok(None));
    assert_eq!(plant.unit(1, |unit| unit.holding[&19]), 0x1234);
}

#[test]
fn one_bit_is_left_to_the_unit_where_it_can() {
    let plant = plant();
    plant.set(19, 0x1234);
    plant.unit(1, |unit| unit.also = vec![22]);
    let mut host = plant.host(setup("{}"));
    assert_eq!(
        host.write_read_back("bit", Value::Boolean(true)),
        Ok(Some(Value::Boolean(true)))
    );
    assert_eq!(plant.seen(), [(1, 22, 19, 0x7fff), (1, 3, 19, 1)]);
    assert_eq!(plant.unit(1, |unit| unit.holding[&19]), 0x9234);
    assert_eq!(host.write("bit", Value::Boolean(false)), Ok(None));
    assert_eq!(plant.seen(), [(1, 22, 19, 0x7fff)]);
    assert_eq!(plant.unit(1, |unit| unit.holding[&19]), 0x1234);
}

/// Exception 1 says that nothing was done, so the other way is no repetition.
#[test]
fn one_bit_where_the_unit_lacks_function_22() {
    let plant = plant();
    plant.set(19, 0x1234);
    let mut host = plant.host(setup("{}"));
    assert_eq!(host.write("bit", Value::Boolean(true)), Ok(None));
    assert_eq!(host.write("bit", Value::Boolean(true)), Ok(None));
    assert_eq!(
        plant.seen(),
        [
            (1, 22, 19, 0x7fff),
            (1, 3, 19, 1),
            (1, 6, 19, 0x9234),
            (1, 3, 19, 1),
            (1, 6, 19, 0x9234)
        ],
        "it is asked once whether it has it"
    );
    let mut host = plant.host(setup(r#"{ "mask_write": "always" }"#));
    plant.seen();
    let error = host
        .write("bit", Value::Boolean(true))
        .expect_err("refused");
    assert_eq!((error.code, plant.seen().len()), (Some(1), 1));
    // Any other refusal is the answer.
    plant.unit(1, |unit| unit.also = vec![22]);
    let mut host = plant.host(Setup::new().tag("bit", "holding:999.3", "bool").writable());
    let error = host
        .write("bit", Value::Boolean(true))
        .expect_err("refused");
    assert_eq!((error.code, plant.seen().len()), (Some(2), 1));
}

#[test]
fn arrays_are_written_whole() {
    let setup = Setup::new()
        .tag("words", "40001", "int16[10]")
        .writable()
        .tag("decimals", "40021#BCD", "uint32[3]")
        .writable()
        .tag("low", "40031.2", "bool[3]")
        .writable()
        .tag("across", "40031.14", "bool[4]")
        .writable()
        .tag("all", "40033", "bool[32]")
        .writable();
    let plant = plant();
    plant.set(30, 0xf0f0);
    plant.set(31, 0x0f0f);
    plant.unit(1, |unit| unit.also = vec![22]);
    let mut host = plant.host(setup);
    let words = Value::Ints((-5..5).collect());
    let bits = |bits: &[u8]| Value::Booleans(bits.iter().map(|bit| *bit == 1).collect());
    let all: Vec<u8> = (0..32).map(|at| at % 3 / 2).collect();
    for (tag, value, seen) in [
        ("words", words, vec![(1, 16, 0, 10), (1, 3, 0, 10)]),
        (
            "decimals",
            Value::Uints(vec![1, 20_304_050, 99_999_999]),
            vec![(1, 16, 20, 6), (1, 3, 20, 6)],
        ),
        (
            "low",
            bits(&[1, 0, 1]),
            vec![(1, 22, 30, 0xffe3), (1, 3, 30, 1)],
        ),
        (
            "across",
            bits(&[0, 1, 0, 1]),
            vec![(1, 3, 30, 2), (1, 16, 30, 2), (1, 3, 30, 2)],
        ),
        ("all", bits(&all), vec![(1, 16, 32, 2), (1, 3, 32, 2)]),
    ] {
        assert_eq!(host.write_read_back(tag, value.clone()), Ok(Some(value)));
        assert_eq!(plant.seen(), seen, "{tag}");
    }
    assert_eq!(
        plant.unit(1, |unit| [20, 21, 22, 23, 30, 31]
            .map(|at| unit.holding[&at])),
        [0, 1, 0x2030, 0x4050, 0xb0f4, 0x0f0e],
        "0xf0f0 with bits 2 to 4 and 14 and 15 written, 0x0f0f with bits 0 and 1"
    );
    host.poll("all");
    assert_eq!(host.value("across"), Some(bits(&[0, 1, 0, 1])));
    assert_eq!(host.value("all"), Some(bits(&all)));
    assert!(host.write("words", Value::Ints(vec![1; 9])).is_err());
    assert!(
        host.write("decimals", Value::Uints(vec![0, 0, 100_000_000]))
            .is_err()
    );
}

#[test]
fn what_is_read_back_can_come_in_the_same_exchange() {
    let plant = plant();
    plant.unit(1, |unit| unit.also = vec![22, 23]);
    let settings = r#"{ "write_and_read": true }"#;
    let mut host = plant.host(setup(settings));
    let write = |host: &mut bulkhead_sdk::testing::FakeHost<modbus::Modbus>, value| {
        host.write_read_back("float", Value::Float(value))
    };
    assert_eq!(write(&mut host, -1.5), Ok(Some(Value::Float(-1.5))));
    assert_eq!(plant.seen(), [(1, 23, 1, 2)]);
    assert_eq!(host.write("word", Value::Int(3)), Ok(None));
    assert_eq!(plant.seen(), [(1, 6, 0, 3)], "nothing is to be read");
    host.write_read_back("coil", Value::Boolean(true))
        .expect("written");
    assert_eq!(plant.seen().len(), 2, "coils have no such function");

    plant.unit(1, |unit| unit.also.clear());
    for first in [true, false] {
        assert_eq!(write(&mut host, 2.5), Ok(Some(Value::Float(2.5))));
        let seen: Vec<u8> = plant.seen().iter().map(|seen| seen.1).collect();
        let right: &[u8] = if first { &[23, 16, 3] } else { &[16, 3] };
        assert_eq!(seen, right, "it is asked once whether it has it");
    }
}

/// 122 and 123 registers can be written, but not in one exchange with a read (section 6.17).
#[test]
fn the_longest_arrays() {
    let plant = Handle::default();
    plant.unit(1, |unit| {
        unit.also = vec![23];
        unit.holding = (0..125).map(|at| (at, at)).collect();
    });
    for (count, functions) in [(121, &[23][..]), (122, &[16, 3]), (123, &[16, 3])] {
        let setup = Setup::new()
            .settings(r#"{ "write_and_read": true }"#)
            .tag("long", "40001", &format!("uint16[{count}]"))
            .writable();
        let mut host = plant.host(setup);
        let value = Value::Uints((0..count).map(|at| 1000 + at).collect());
        assert_eq!(host.write_read_back("long", value.clone()), Ok(Some(value)));
        let seen: Vec<u8> = plant.seen().iter().map(|seen| seen.1).collect();
        assert_eq!(seen, functions, "{count}");
    }
    let setup = Setup::new().tag("long", "40001", "uint16[125]");
    let mut host = plant.host(setup);
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(plant.seen(), [(1, 3, 0, 125)]);
}

#[test]
fn the_unit_s_own_refusal_is_the_answer() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    let error = host
        .write("missing", Value::Uint(1))
        .expect_err("there is no such register");
    assert_eq!(
        (error.code, error.message.as_str()),
        (Some(2), "the unit has no such address (exception 2)")
    );
    plant.unit(1, |unit| unit.exception = Some(4));
    let error = host
        .write("word", Value::Int(1))
        .expect_err("the unit has failed");
    assert_eq!(error.code, Some(4));
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    for (tag, value) in [
        ("word", Value::Int(40_000)),
        ("text", Value::Text("too long".to_owned())),
        ("coils", Value::Booleans(vec![true])),
        ("coil", Value::Uint(1)),
    ] {
        assert!(host.write(tag, value).is_err(), "{tag}");
    }
    assert_eq!(plant.seen(), []);
}

#[test]
fn a_confirmation_of_something_else_is_none() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    plant.mangle(|_, mut reply| {
        reply[11] ^= 1;
        reply
    });
    let error = host
        .write("word", Value::Int(5))
        .expect_err("another value is confirmed");
    assert_eq!(
        error.message,
        "the answer confirms another write than was asked for"
    );
    assert_eq!(resets(&host), 1);
    plant.honest();
    assert_eq!(host.write("word", Value::Int(5)), Ok(None));
}

#[test]
fn a_write_without_an_answer_is_not_repeated() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    plant.mangle(|_, _| Vec::new());
    let error = host
        .write("word", Value::Int(5))
        .expect_err("nobody answers");
    assert_eq!(error.message, "no answer within 1000 ms");
    assert_eq!(plant.seen(), [(1, 6, 0, 5)]);
}

#[test]
fn a_busy_unit_gets_its_write_later() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    let mut busy = true;
    plant.mangle(move |request, reply| {
        if std::mem::take(&mut busy) {
            [&request[..5], &[3, 1, 0x86, 6]].concat()
        } else {
            reply
        }
    });
    assert_eq!(host.write("word", Value::Int(5)), Ok(None));
    assert_eq!(plant.seen().len(), 2);
}

#[test]
fn what_the_protocol_cannot_write_is_refused() {
    let plant = plant();
    let mut host = plant.host(Setup::new().tag("input", "30001", "int16"));
    let error = host
        .write("input", Value::Int(5))
        .expect_err("an input register");
    assert!(
        error.message.contains("does not support"),
        "{}",
        error.message
    );
    assert_eq!(
        plant.seen(),
        [],
        "the holding register of the same number is left alone"
    );
}

/// Two groups are due, each with more requests than one; the write comes last and goes next.
#[test]
fn a_write_overtakes_polls() {
    let plant = plant();
    let second = Duration::from_secs(1);
    let setup = registers(Setup::new().settings(r#"{ "max_registers": 1 }"#), 20)
        .tag("set", "holding:150", "uint16")
        .writable()
        .group("one", second, &["t0", "t1", "t2"])
        .group("two", second, &["t10", "t11", "t12"]);
    let mut host = plant.silent_host(setup);
    host.begin_poll("one");
    host.begin_poll("two");
    let write = host.begin_write("set", Value::Uint(7), true);

    let mut sent = Vec::new();
    for _ in 0..8 {
        let request = host.take_sent("plc");
        assert_eq!(request.len(), 12, "one request at a time");
        sent.push((request[7], request[9]));
        host.receive("plc", &plant.answer(&request));
    }
    let polls: Vec<(u8, u8)> = [0, 10, 1, 11, 2, 12].map(|at| (3, at)).to_vec();
    assert_eq!(sent[0], polls[0], "what was on the way when the write came");
    assert_eq!(
        sent[1..3],
        [(6, 150), (3, 150)],
        "the write, and its read-back"
    );
    assert_eq!(sent[3..], polls[1..], "the groups take turns");
    assert_eq!(host.finish_write(write), Ok(Some(Value::Uint(7))));
    assert_eq!(
        host.finish_poll("one").failed + host.finish_poll("two").failed,
        0
    );
    assert_eq!(host.quality("t12"), Some(Quality::Good));
}

#[test]
fn a_write_while_the_device_is_away_fails_at_once() {
    let plant = plant();
    let mut host = plant.host(setup("{}"));
    host.away("plc", CloseReason::Unreachable);
    let before = host.now();
    let error = host.write("word", Value::Int(5)).expect_err("no way there");
    assert_eq!(error.message, "connection down: peer unreachable");
    assert_eq!(host.now(), before);
}

#[test]
fn a_write_whose_time_is_up_is_not_sent() {
    let plant = plant();
    let mut host = plant.silent_host(setup(r#"{ "timeout_ms": 100000, "retries": 0 }"#));
    host.begin_poll("all");
    assert!(!host.take_sent("plc").is_empty());
    let error = host
        .write("word", Value::Int(5))
        .expect_err("the poll held the line for 100 s");
    assert!(
        error
            .message
            .contains("the time for the whole request was up"),
        "{}",
        error.message
    );
    let sent = host.take_sent("plc");
    assert!(
        sent.get(7).is_none_or(|function| *function < 5),
        "no write was sent: {sent:?}"
    );
}
