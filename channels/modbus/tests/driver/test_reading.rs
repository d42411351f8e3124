//! `test-read`: an address is read as a tag would be, and what cannot be read says why.

use bulkhead_sdk::testing::{FakeHost, Setup};
use modbus::Modbus;

use super::plant::Handle;

fn ask(host: &mut FakeHost<Modbus>, payload: &str) -> String {
    match host.command("test-read", payload.as_bytes()) {
        Ok(answer) => String::from_utf8(answer).expect("text"),
        Err(error) => format!("{} ({:?})", error.message, error.code),
    }
}

fn setup() -> Setup {
    Setup::new()
        .device("press", "1")
        .tag("temp", "40001", "int16")
}

#[test]
fn an_address_is_read_as_a_tag_would_be() {
    let plant = Handle::simple();
    plant.unit(1, |unit| {
        // 21.5 as IEEE 754 binary32: 41ac0000; with the words swapped behind it.
        unit.holding
            .extend([(10, 0x41ac), (11, 0), (12, 0), (13, 0x41ac)]);
        unit.holding.extend([(20, 0x4162), (21, 0x6300)]);
        unit.holding.extend([(30, 0x7fc0), (31, 0)]);
        unit.coils.extend([(0, true), (1, false), (2, true)]);
    });
    let mut host = plant.host(setup());
    for (wanted, value, bytes) in [
        (r#""address":"40001","type":"uint16""#, "1000", "03e8"),
        (
            r#""address":"holding:10","type":"float32""#,
            "21.5",
            "41ac0000",
        ),
        (
            r#""address":"40013#CDAB","type":"float32""#,
            "21.5",
            "000041ac",
        ),
        (
            r#""address":"40013","type":"float32","settings":{"order":"CDAB"}"#,
            "21.5",
            "000041ac",
        ),
        (
            r#""address":"40031","type":"float32""#,
            r#""NaN""#,
            "7fc00000",
        ),
        (r#""address":"40001.3","type":"bool""#, "true", "03e8"),
        (
            r#""address":"coil:0","type":"bool[3]""#,
            "[true,false,true]",
            "05",
        ),
        (
            r#""address":"40021.3","type":"string""#,
            r#""abc""#,
            "41626300",
        ),
        (
            r#""address":"40021.4","type":"bytes""#,
            r#""41626300""#,
            "41626300",
        ),
        (
            r#""address":"40001","type":"int16[2]""#,
            "[1000,1001]",
            "03e803e9",
        ),
    ] {
        let value = value.replace("abc", "Abc");
        let expected =
            format!(r#"{{"device":"press","unit":1,"value":{value},"bytes":"{bytes}"}}"#);
        assert_eq!(
            ask(&mut host, &format!("{{{wanted}}}")),
            expected,
            "{wanted}"
        );
    }
    let by_name = ask(
        &mut host,
        r#"{"device":"press","address":"40001","type":"uint16"}"#,
    );
    assert!(by_name.contains("1000"), "{by_name}");
    host.stop();
}

#[test]
fn the_order_of_the_device_holds_where_the_read_says_nothing() {
    let plant = Handle::simple();
    plant.unit(1, |unit| unit.holding.extend([(10, 0), (11, 0x41ac)]));
    let setup = Setup::new()
        .settings(r#"{"order":"CDAB"}"#)
        .device("press", "1")
        .tag("temp", "40001", "int16");
    let mut host = plant.host(setup);
    let read = ask(&mut host, r#"{"address":"40011","type":"float32"}"#);
    assert!(read.contains(r#""value":21.5"#), "{read}");
    host.stop();
}

#[test]
fn what_cannot_be_read_says_why_and_asks_the_unit_for_nothing_that_makes_no_sense() {
    let plant = Handle::simple();
    let mut host = plant.host(setup());
    let check = |host: &mut FakeHost<Modbus>, payload: &str, expected: &str| {
        let told = ask(host, payload);
        assert!(told.contains(expected), "{payload}: {told}");
    };
    for (payload, expected) in [
        ("", "missing field `address`"),
        (r#"{"address":"40001"}"#, "missing field `type`"),
        (r#"{"address":"40001","type":"int17"}"#, "is no data type"),
        (
            r#"{"address":"40001","type":"int8"}"#,
            "type: int8 is smaller than a register",
        ),
        (r#"{"address":"wrong","type":"int16"}"#, "address: "),
        (
            r#"{"address":"40001","type":"bool"}"#,
            "address: a bool in a register needs its bit",
        ),
        (r#"{"address":"40001","type":"int16[126]"}"#, "125"),
        (
            r#"{"address":"40001","type":"int16","settings":{"ordre":"CDAB"}}"#,
            "unknown field `ordre`",
        ),
        (
            r#"{"device":"pump","address":"40001","type":"int16"}"#,
            "name one of the devices press as `device`",
        ),
    ] {
        check(&mut host, payload, expected);
    }
    assert_eq!(plant.seen(), [], "the unit was asked for none of that");
    check(
        &mut host,
        r#"{"address":"49001","type":"int16"}"#,
        "the unit has no such address (exception 2) (Some(2))",
    );
    assert_eq!(plant.seen(), [(1, 3, 9_000, 1)]);
    plant.unit(1, |unit| unit.holding.insert(50, 0xff00));
    check(
        &mut host,
        r#"{"address":"40051.2","type":"string"}"#,
        "the bytes are no text in UTF-8: ff00",
    );
    host.stop();
}
