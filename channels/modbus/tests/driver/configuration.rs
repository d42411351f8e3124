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
            .settings(r#"{ "timeout_ms": 0, "retries": 11, "max_registers": 126, "max_bits": 0, "pause_ms": 20000, "requests_at_once": 0, "max_gap_registers": 126, "max_gap_bits": 2001 }"#)
            .device("press", "256")
            .device_settings(r#"{ "timeout_ms": 0, "retries": 99, "requests_at_once": 17 }"#)
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
        expect![[r##"
            settings.timeout_ms: 0 is out of range; give 1 to 600000
            settings.retries: 11 is out of range; give 0 to 10
            settings.max_gap_registers: 126 is out of range; give 0 to 125
            settings.max_gap_bits: 2001 is out of range; give 0 to 2000
            settings.max_registers: 126 is out of range; give 1 to 125
            settings.max_bits: 0 is out of range; give 1 to 2000
            settings.pause_ms: 20000 is out of range; give 0 to 10000
            settings.requests_at_once: 0 is out of range; give 1 to 16
            device press.settings.timeout_ms: 0 is out of range; give 1 to 600000
            device press.settings.retries: 99 is out of range; give 0 to 10
            device press.settings.requests_at_once: 17 is out of range; give 1 to 16
            device press.address: "256" is no unit; give a number from 0 to 255
            device pump.address: "one" is no unit; give a number from 0 to 255
            device press.settings.requests_at_once: with pause_ms one request follows the other; leave one of them out
            tag a.address: "50001" names no table; a reference begins with 0 (coil), 1 (discrete), 3 (input) or 4 (holding)
            tag b.type: int8 is smaller than a register; use int16, or bytes
            tag c.access: the input table cannot be written; make the tag read-only, or use a coil or holding address
            tag d.address: "#XX" is no suffix; write .BIT, .LENGTH with H, L, D or E, or #ABCD, #BADC, #CDAB, #DCBA, #BCD
            tag e.type: a coil place is a single bit; use bool, or bool[n]
            tag f.address: a bool in a register needs its bit: .0 (lowest) to .15, as in 40001.3
        "##]],
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
        expect![[r#"
            settings.timeout: unknown field `timeout`, expected one of `unit_id`, `timeout_ms`, `retries`, `max_gap_registers`, `max_gap_bits`, `max_registers`, `max_bits`, `pause_ms`, `requests_at_once`, `framing`, `silence_ms`, `turnaround_ms`, `echo`, `order`, `write_function`, `mask_write`, `write_and_read`, `callers`
            device press.settings.order: unknown variant `DCAB`, expected one of `ABCD`, `BADC`, `CDAB`, `DCBA`
            tag a.settings.lenght: unknown field `lenght`, expected one of `order`, `length`, `bit`, `packing`, `bcd`
        "#]],
    );
}

#[test]
fn the_link_is_needed() {
    check(
        Setup::new().tag("a", "40001", "int16"),
        expect![[r#"
            links.plc: modbus needs a link named plc (tcp, tls, unix, serial); grant it under links
        "#]],
    );
    check(
        Setup::new()
            .link("plc", "serial")
            .tag("a", "40001", "int16"),
        expect![""],
    );
    check(
        Setup::new()
            .link("plc", "tcp")
            .link("spare", "tcp")
            .device("press", "1")
            .device_link("spare")
            .tag("a", "40001", "int16"),
        expect![[r#"
            device press.link: all units are reached over the link plc; leave this out
        "#]],
    );
}

#[test]
fn greetings_tell_callers_apart() {
    let device = |setup: Setup, name: &str, settings: &str| {
        setup.device(name, "1").device_settings(settings).tag(
            &format!("of {name}"),
            "40001",
            "int16",
        )
    };
    let mut setup = Setup::new()
        .listening_link("plc", "tcp")
        .settings(r#"{ "callers": "greeting" }"#);
    for (name, settings) in [
        ("a", r#"{ "greeting": "DTU-1" }"#),
        ("b", r#"{ "greeting": "DTU-12" }"#),
        ("c", r#"{ "greeting": "hex:4454552d31" }"#),
        ("d", r#"{ "greeting": "hex:4" }"#),
        ("e", r#"{ "greeting": "" }"#),
        ("f", "{}"),
    ] {
        setup = device(setup, name, settings);
    }
    check(
        setup,
        expect![[r#"
        device b.settings.greeting: it begins like the greeting of another device, so that they cannot be told apart
        device d.settings.greeting: a greeting has 1 to 256 bytes: text, or pairs of hexadecimal digits after `hex:`
        device e.settings.greeting: a greeting has 1 to 256 bytes: text, or pairs of hexadecimal digits after `hex:`
        device f.settings.greeting: a unit is known by what its caller says of itself; give the device a greeting
    "#]],
    );
    let setup = Setup::new().listening_link("plc", "tcp");
    check(
        device(setup, "a", r#"{ "greeting": "x" }"#),
        expect![[r#"
        device a.settings.greeting: nobody greets here; leave this out, or let units call in on a link that listens, with callers = "greeting"
    "#]],
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
