//! `read-device-identification`, against answers written from section 6.21 of the specification.

use bulkhead_sdk::testing::{FakeHost, Setup};
use modbus::Modbus;

/// A host whose unit answers the request for each object with these bytes behind the function.
fn host(answers: &'static [(u8, &'static [u8])]) -> FakeHost<Modbus> {
    let setup = Setup::new()
        .device("press", "7")
        .tag("temp", "40001", "int16")
        .link("plc", "tcp");
    let mut host = FakeHost::start(setup).expect("the configuration is in order");
    host.peer("plc", move |request| {
        let [t0, t1, 0, 0, 0, 5, unit, 43, 14, 1, object] = *request else {
            panic!("another request: {request:02x?}");
        };
        let Some((_, body)) = answers.iter().find(|(at, _)| *at == object) else {
            return vec![t0, t1, 0, 0, 0, 3, unit, 43 | 0x80, 2];
        };
        let length = u8::try_from(body.len() + 2).expect("short answers");
        [&[t0, t1, 0, 0, 0, length, unit, 43], *body].concat()
    });
    host
}

fn ask(host: &mut FakeHost<Modbus>, payload: &str) -> String {
    match host.command("read-device-identification", payload.as_bytes()) {
        Ok(answer) => String::from_utf8(answer).expect("text"),
        Err(error) => format!("{} ({:?})", error.message, error.code),
    }
}

#[test]
fn a_unit_tells_what_it_is_over_several_answers() {
    let mut host = host(&[
        (0, b"\x0e\x01\x01\xff\x02\x02\x00\x04Acme\x01\x02P7"),
        (2, b"\x0e\x01\x01\x00\x00\x01\x02\x04V2.1"),
    ]);
    let expected = r#"{"unit":7,"objects":{"major_minor_revision":"V2.1","product_code":"P7","vendor_name":"Acme"}}"#;
    assert_eq!(ask(&mut host, ""), expected);
    assert_eq!(
        ask(&mut host, r#"{"device":"press","category":"basic"}"#),
        expected
    );
    let unknown = ask(&mut host, r#"{"device":"pres"}"#);
    assert_eq!(unknown, "name one of the devices press as `device` (None)");
    assert!(ask(&mut host, r#"{"unit":7}"#).contains("unknown field `unit`"));
    host.stop();
}

#[test]
fn a_refusal_keeps_its_code_and_a_malformed_answer_is_none() {
    assert_eq!(
        ask(&mut host(&[]), ""),
        "the unit has no such address (exception 2) (Some(2))"
    );
    let malformed: [&'static [(u8, &'static [u8])]; 5] = [
        &[(0, b"\x0e\x01\x01\x00\x00\x01\x00\x09Acme")],
        &[(0, b"\x0e\x01\x01\x00\x00\x02\x00\x04Acme")],
        &[(0, b"\x0e\x01\x01\x00\x00\x00\x00\x04Acme")],
        &[(0, b"\x0e\x02\x01\x00\x00\x01\x00\x04Acme")],
        &[(0, b"\x0e\x01")],
    ];
    for answers in malformed {
        assert_eq!(
            ask(&mut host(answers), ""),
            "the answer is no device identification (None)",
            "{answers:02x?}"
        );
    }
    // One that goes in circles is let go.
    let circle = ask(
        &mut host(&[
            (0, b"\x0e\x01\x01\xff\x02\x01\x00\x01A"),
            (2, b"\x0e\x01\x01\xff\x00\x01\x02\x01B"),
        ]),
        "",
    );
    assert!(circle.starts_with("{\"unit\":7"), "{circle}");
}
