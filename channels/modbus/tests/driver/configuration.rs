//! Everything that is wrong with a configuration is said at once, and where.

use bulkhead_sdk::testing::{FakeHost, Setup};
use expect_test::{Expect, expect};
use modbus::Modbus;

fn check(setup: Setup, expected: Expect) {
    let faults = FakeHost::<Modbus>::start(setup).err().unwrap_or_default();
    let text: String = faults
        .iter()
        .map(|fault| format!("{}: {}\n", fault.at, fault.message))
        .collect();
    expected.assert_eq(&text);
}

#[test]
fn every_fault_is_said_at_once() {
    check(
        Setup::new()
            .link("plc", "tcp")
            .settings(r#"{ "timeout_ms": 0, "retries": 11, "max_registers": 126, "max_bits": 0, "pause_ms": 20000, "max_gap_registers": 126, "max_gap_bits": 2001 }"#)
            .device("press", "256")
            .device_settings(r#"{ "timeout_ms": 0, "retries": 99 }"#)
            .tag("a", "50001", "int16")
            .device("pump", "one")
            .tag("b", "40001", "int8")
            .tag("c", "30001", "int16")
            .writable()
            .device("valve", "3")
            .tag("d", "40001#XX", "float32")
            .tag("e", "00001", "float32")
            .tag("f", "40001", "bool")
            .tag_settings(r#"{ "bit": 16 }"#),
        expect![[r#""#]],
    );
}

#[test]
fn unknown_settings_are_refused() {
    check(
        Setup::new()
            .link("plc", "tcp")
            .settings(r#"{ "timeout": 5 }"#)
            .device("press", "1")
            .device_settings(r#"{ "order": "DCAB" }"#)
            .tag("a", "40001", "int16")
            .tag_settings(r#"{ "lenght": 5 }"#),
        expect![[r#""#]],
    );
}

#[test]
fn the_link_is_needed() {
    check(Setup::new().tag("a", "40001", "int16"), expect![[r#""#]]);
    check(
        Setup::new()
            .link("plc", "serial")
            .tag("a", "40001", "int16"),
        expect![[r#""#]],
    );
    check(
        Setup::new()
            .link("plc", "tcp")
            .link("spare", "tcp")
            .device("press", "1")
            .device_link("spare")
            .tag("a", "40001", "int16"),
        expect![[r#""#]],
    );
    check(
        Setup::new()
            .listening_link("plc", "tcp")
            .tag("a", "40001", "int16"),
        expect![[r#""#]],
    );
}

#[test]
fn a_reload_keeps_polling() {
    let plant = crate::plant::Handle::simple();
    let mut host = plant.host(Setup::new().tag("a", "40001", "uint16"));
    host.poll("all");
    host.reload(Setup::new().link("plc", "tcp").tag("a", "40002", "uint16"))
        .expect("in order");
    assert_eq!(host.poll("all").failed, 0);
    assert_eq!(host.value("a"), Some(bulkhead_sdk::Value::Uint(1001)));
}

#[test]
fn it_says_what_it_is() {
    let info = bulkhead_sdk::Runtime::<Modbus>::describe();
    assert_eq!((info.name.as_str(), info.links.len()), ("modbus", 1));
    assert!(info.settings_schema.contains("max_gap_registers"));
    assert!(info.address_help.contains("40001"));
}
