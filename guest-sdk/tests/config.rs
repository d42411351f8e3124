//! What is wrong with a configuration: everything at once, each with its place.

use bulkhead_sdk::testing::{FakeHost, Setup};
use bulkhead_sdk::*;
use expect_test::{Expect, expect};
use schemars::JsonSchema;
use serde::Deserialize;

/// A driver that is particular.
#[derive(Debug)]
struct Picky;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How long to wait, in milliseconds.
    #[serde(default)]
    timeout_ms: u16,
    #[serde(default)]
    retry: Retry,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Retry {
    delays: Vec<u8>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeviceSettings {
    unit: u8,
}

impl Driver for Picky {
    type Settings = Settings;
    type DeviceSettings = DeviceSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "picky",
            version: "1.2.3",
            protocol: "none",
            address_help: "a number",
            links: &[
                LinkWish {
                    name: "plc",
                    kinds: &["tcp", "serial"],
                    required: true,
                },
                LinkWish {
                    name: "spare",
                    kinds: &["tcp"],
                    required: false,
                },
            ],
            can: Capabilities::READ | Capabilities::WRITE,
        }
    }

    fn configure(config: Config<Self>, _context: Context) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        if config.settings.retry.delays.len() > 3 {
            faults.push(Fault::settings("retry.delays", "more than 3 delays"));
        }
        if config.settings.timeout_ms == 0 {
            faults.push(Fault::settings("timeout_ms", "a timeout of 0; take 1000"));
        }
        for device in &config.devices {
            if device.settings.unit > 247 {
                faults.push(device.fault("settings.unit", "beyond 247"));
            }
        }
        for tag in &config.tags {
            assert!(config.devices.iter().any(|device| device.id == tag.device));
            if tag.address.parse::<u16>().is_err() {
                faults.push(tag.fault("address", "no number"));
            }
        }
        faults.into_result(Self)
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }
}

fn check(setup: Setup, expected: Expect) {
    let faults = match FakeHost::<Picky>::start(setup) {
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    };
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}: {}\n", fault.at, fault.message))
        .collect();
    expected.assert_eq(&lines.concat());
}

fn good() -> Setup {
    Setup::new()
        .settings(r#"{"timeout_ms": 1000}"#)
        .link("plc", "tcp")
        .device("press", "")
        .device_settings(r#"{"unit": 1}"#)
        .tag("temp", "40001", "int16")
}

#[test]
fn a_good_one_has_no_faults() {
    check(good(), expect![[""]]);
}

#[test]
fn settings_are_named_by_their_path() {
    check(
        good().settings(r#"{"timeout_ms": "soon"}"#),
        expect![[r#"
            settings.timeout_ms: invalid type: string "soon", expected u16
        "#]],
    );
    check(
        good().settings(r#"{"timeout_ms": 70000}"#),
        expect![[r#"
            settings.timeout_ms: invalid value: integer `70000`, expected u16
        "#]],
    );
    check(
        good().settings(r#"{"retry": {"delays": [1, 2, 300]}}"#),
        expect![[r#"
            settings.retry.delays[2]: invalid value: integer `300`, expected u8
        "#]],
    );
    check(
        good().settings(r#"{"time": 1}"#),
        expect![[r#"
            settings.time: unknown field `time`, expected `timeout_ms` or `retry`
        "#]],
    );
    check(
        good().settings("[]"),
        expect![[r#"
            settings: settings are a table of names and values
        "#]],
    );
    check(
        good().settings("{"),
        expect![[r#"
            settings: this is not JSON: EOF while parsing an object at line 1 column 1
        "#]],
    );
    check(
        good().settings(r#"{} {}"#),
        expect![[r#"
            settings: this is not JSON: trailing characters at line 1 column 4
        "#]],
    );
}

#[test]
fn links_are_checked_against_the_wishes() {
    let without = Setup::new()
        .device("press", "")
        .device_settings(r#"{"unit": 1}"#);
    check(
        without.clone(),
        expect![[r#"
        links.plc: picky needs a link named plc (tcp, serial); grant it under links
    "#]],
    );
    check(
        without.link("plc", "udp").link("spare", "serial"),
        expect![[r#"
            links.plc: picky cannot use udp here; grant one of tcp, serial
            links.spare: picky cannot use serial here; grant one of tcp
        "#]],
    );
}

#[test]
fn everything_is_reported_at_once() {
    check(
        good()
            .settings(r#"{"timeout_ms": 0}"#)
            .tag("level", "x", "int16")
            .tag("mode", "1", "word")
            .tag("flow", "2", "int16")
            .tag_settings(r#"{"scale": 2}"#)
            .device("oven", "")
            .device_settings(r#"{"unit": 300}"#)
            // Nothing is said of this one: its device is at fault.
            .tag("heat", "y", "int16")
            .device("mill", "")
            .device_settings(r#"{"unit": 250}"#),
        expect![[r#"
            device oven.settings.unit: invalid value: integer `300`, expected u8
            tag mode.type: "word" is no data type; use bool, int8 to int64, uint8 to uint64, float32, float64, string or bytes, with [n] behind it for an array of n
            tag flow.settings.scale: unknown field `scale`, there are no fields
            settings.timeout_ms: a timeout of 0; take 1000
            device mill.settings.unit: beyond 247
            tag level.address: no number
        "#]],
    );
}

#[test]
fn a_driver_describes_itself() {
    let info = Runtime::<Picky>::describe();
    // Draft 2020-12, with the doc comments as descriptions.
    expect![[r##"{"$defs":{"Retry":{"additionalProperties":false,"properties":{"delays":{"default":[],"items":{"format":"uint8","maximum":255,"minimum":0,"type":"integer"},"type":"array"}},"type":"object"}},"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,"properties":{"retry":{"$ref":"#/$defs/Retry"},"timeout_ms":{"default":0,"description":"How long to wait, in milliseconds.","format":"uint16","maximum":65535,"minimum":0,"type":"integer"}},"title":"Settings","type":"object"}"##]].assert_eq(&info.settings_schema);
    expect![[r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,"properties":{"unit":{"format":"uint8","maximum":255,"minimum":0,"type":"integer"}},"required":["unit"],"title":"DeviceSettings","type":"object"}"#]].assert_eq(&info.device_schema);
    assert_eq!(
        (info.name.as_str(), info.version.as_str()),
        ("picky", "1.2.3")
    );
    assert_eq!(info.links.len(), 2);
    assert_eq!(info.can, Capabilities::READ | Capabilities::WRITE);
}
