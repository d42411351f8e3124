//! `browse`: the tables that a unit says it has, and what it says of those that it has not.

use bulkhead_sdk::testing::{FakeHost, Setup};
use modbus::Modbus;

/// A host whose unit answers one read of each function: with two bytes, or with an exception.
fn host(answer: impl Fn(u8) -> Result<u8, u8> + 'static) -> FakeHost<Modbus> {
    let setup = Setup::new()
        .device("press", "7")
        .tag("temp", "40001", "int16")
        .link("plc", "tcp");
    let mut host = FakeHost::start(setup).expect("the configuration is in order");
    host.peer("plc", move |request| {
        let [t0, t1, 0, 0, 0, 6, unit, function, 0, 0, 0, 1] = *request else {
            panic!("another request: {request:02x?}");
        };
        match answer(function) {
            // Bits take one byte, a register two.
            Ok(value) if function < 3 => vec![t0, t1, 0, 0, 0, 4, unit, function, 1, value],
            Ok(value) => vec![t0, t1, 0, 0, 0, 5, unit, function, 2, 0, value],
            Err(code) => vec![t0, t1, 0, 0, 0, 3, unit, function | 0x80, code],
        }
    });
    host
}

fn ask(host: &mut FakeHost<Modbus>, payload: &str) -> String {
    match host.command("browse", payload.as_bytes()) {
        Ok(answer) => String::from_utf8(answer).expect("text"),
        Err(error) => format!("{} ({:?})", error.message, error.code),
    }
}

/// The addresses that stand in an answer.
fn addresses(answer: &str) -> Vec<&str> {
    let parts = answer.split("\"address\":\"").skip(1);
    parts.filter_map(|part| part.split('"').next()).collect()
}

#[test]
fn the_tables_that_a_unit_has_are_listed() {
    let all = ask(&mut host(|_| Ok(1)), r#"{"device":"press"}"#);
    assert_eq!(
        addresses(&all),
        ["coil:0", "discrete:0", "input:0", "holding:0"]
    );
    // One function is missing, and of one table the first place.
    let some = ask(
        &mut host(|function| match function {
            1 => Err(1),
            2 => Err(2),
            _ => Ok(1),
        }),
        "",
    );
    assert_eq!(addresses(&some), ["discrete:0", "input:0", "holding:0"]);
    assert!(
        some.contains("the unit says: the unit has no such address (exception 2)"),
        "{some}"
    );
}

#[test]
fn what_is_no_answer_about_a_table_is_the_answer_to_the_command() {
    let failed = ask(&mut host(|_| Err(4)), "");
    assert_eq!(failed, "the unit has failed (exception 4) (Some(4))");
    let unknown = ask(&mut host(|_| Ok(1)), r#"{"device":"pres"}"#);
    assert_eq!(unknown, "name one of the devices press as `device` (None)");
}
