//! Every rule of the file, in the operator's own terms: TOML in, faults out.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::*;

mod channels;
mod hostile;
mod items;
mod out_and_in;
mod redial;
mod reference;
mod tags_files;

const QUICKSTART: &str = include_str!("../../../../examples/quickstart.toml");
/// A channel in order; what a test adds begins on line 4.
const CHANNEL: &str = "[[channel]]\nid = \"a\"\ndriver = \"d.wasm\"\n";
const TAG: &str = r#"name = "t", address = "1", type = "int16""#;

fn parsed(text: &str) -> Result<Checked<Host>, Faults> {
    let origin = Origin {
        name: "plant.toml".into(),
        folder: PathBuf::from("/plant"),
    };
    parse(text, &origin)
}

fn check(text: &str, expected: Expect) {
    let found = match parsed(text) {
        Ok(_) => "in order".to_owned(),
        Err(faults) => faults.to_string().replace("plant.toml:", ""),
    };
    expected.assert_eq(&found);
}

fn good(text: &str) -> Host {
    parsed(text)
        .unwrap_or_else(|faults| panic!("{faults}"))
        .value
}

/// A channel with further lines.
fn channel(lines: &str) -> String {
    format!("{CHANNEL}{lines}\n")
}

/// A channel whose only tag has further keys.
fn tag(keys: &str) -> String {
    channel(&format!(
        "[[channel.tag]]\n{}\n{keys}",
        TAG.replace(", ", "\n")
    ))
}

/// A channel with one group of one tag, which has further keys.
fn grouped(keys: &str) -> String {
    channel(&format!(
        "[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags = [{{ {TAG}{keys} }}]"
    ))
}

#[test]
fn the_quickstart_is_in_order() {
    let host = good(QUICKSTART);
    assert_eq!(
        host.channels
            .iter()
            .map(|c| c.tags.len())
            .collect::<Vec<_>>(),
        [8, 2]
    );
}

#[test]
fn what_the_file_leaves_out_has_its_default() {
    let host = good(CHANNEL);
    assert_eq!(host.data_dir, Path::new("/plant/data"));
    assert_eq!((host.restarts.per_second, host.restarts.burst), (100, 200));
    assert_eq!(host.http.unwrap().listen.to_string(), "127.0.0.1:7070");
    assert_eq!(host.sinks, []);
    expect![[r#"
        Channel {
            id: ChannelId(
                "a",
            ),
            driver: DriverPath {
                written: "d.wasm",
                folder: "/plant",
            },
            sha256: None,
            enabled: true,
            settings: Object {},
            limits: Limits {
                memory: 33554432,
                fuel_per_turn: 50000000,
                turn_deadline: 500ms,
                mailbox: 1024,
                batch: 256,
                samples_per_second: 100000,
            },
            restart: Restart {
                mode: Permanent,
                max_attempts: 3,
                first_delay: 0ns,
                delay: 5s,
                factor: 2.0,
                max_delay: 60s,
                reset_after: 600s,
                retry_broken: Some(
                    300s,
                ),
                jitter: 0.3,
            },
            health: Some(
                Health {
                    interval: 30s,
                    timeout: 5s,
                    failures: 3,
                },
            ),
            recorder: Recorder {
                bytes: 262144,
                recycle: false,
                sessions: false,
            },
            requests: Requests {
                while_down: Wait,
                waiting: 256,
            },
            demotion: Some(
                Policy {
                    after: 3,
                    delay: 1s,
                    max_delay: 30s,
                },
            ),
            links: [],
            devices: [
                Device {
                    name: "a",
                    address: "",
                    settings: Object {},
                    link: None,
                },
            ],
            groups: [],
            tags: [],
        }
    "#]]
    .assert_debug_eq(&host.channels[0]);
}

#[test]
fn what_the_file_says_is_what_the_host_sees() {
    let digest = "00ff".repeat(16);
    let mut host = good(&format!(
        r#"
        [host]
        data_dir = "/var/lib/bulkhead"
        restarts_per_second = 5
        restart_burst = 1
        compile = {{ memory = "256MiB", processor_time = "10m", time = "1h" }}
        recorder = {{ size = "2MiB" }}
        [http]
        listen = "off"
        [[channel]]
        id = "press-3"
        driver = "drivers/modbus.wasm"
        sha256 = "{digest}"
        enabled = false
        links.plc = {{ connect = "tcp://[fd00::9]:502", on_restart = "keep", base_delay = "5s" }}
        links.aux = {{ connect = "tcp://plc:1", connect_timeout = "1s", base_delay = "1s", max_delay = "2s" }}
        limits = {{ memory = "1GiB", fuel_per_turn = 10_000, turn_deadline = "60s", mailbox = 16, batch = 1, samples_per_second = 1 }}
        restart = {{ mode = "transient", max_attempts = 0, first_delay = "1s", delay = "2m", factor = 1.5, reset_after = "1h", retry_broken = "never", jitter = 1 }}
        health = {{ interval = "never" }}
        recorder = {{ size = "64KiB", recycle = true }}
        requests = {{ while_down = "refuse", waiting = 7 }}
        demotion = {{ enabled = false }}
        settings = {{ unit_id = 1, big = 18446744073709551615, deep = {{ list = [1.5, true, "x", 2026-01-01] }} }}
        [[channel.device]]
        name = "one"
        address = "1"
        link = "aux"
        settings = {{ slow = true }}
        [[channel.device]]
        name = "two"
        [[channel.group]]
        name = "fast"
        period = "10ms"
        device = "two"
        tags = [
          {{ name = "a", address = "40001", type = "int16[8]", scale = 0.1, offset = -5, unit = "°C" }},
          {{ name = "b", address = "2", type = "string", access = "rw", device = "one", report = "change" }},
        ]
        [[channel.tag]]
        name = "c"
        device = "two"
        address = "3"
        type = "float32"
        access = "w"
        report = "change"
        deadband = 0.5
        description = "on demand"
        settings = {{ order = "cdab" }}
        [[sink]]
        kind = "stdout"
        [[sink]]
        kind = "file"
        name = "archive"
        path = "out/samples.jsonl"
        queue = 1
        "#
    ));
    let digest = host.channels[0].sha256.take().unwrap();
    assert_eq!(digest[..3], [0x00, 0xff, 0x00]);
    expect![[r#"
        Host {
            data_dir: "/var/lib/bulkhead",
            restarts: Rate {
                per_second: 5,
                burst: 1,
            },
            dials: Rate {
                per_second: 200,
                burst: 50,
            },
            compile: CompileLimits {
                memory: 268435456,
                processor_time: 600s,
                time: 3600s,
            },
            recorder: 2097152,
            http: None,
            channels: [
                Channel {
                    id: ChannelId(
                        "press-3",
                    ),
                    driver: DriverPath {
                        written: "drivers/modbus.wasm",
                        folder: "/plant",
                    },
                    sha256: None,
                    enabled: false,
                    settings: Object {
                        "big": Number(18446744073709551615),
                        "deep": Object {
                            "list": Array [
                                Number(1.5),
                                Bool(true),
                                String("x"),
                                String("2026-01-01"),
                            ],
                        },
                        "unit_id": Number(1),
                    },
                    limits: Limits {
                        memory: 1073741824,
                        fuel_per_turn: 10000,
                        turn_deadline: 60s,
                        mailbox: 16,
                        batch: 1,
                        samples_per_second: 1,
                    },
                    restart: Restart {
                        mode: Transient,
                        max_attempts: 0,
                        first_delay: 1s,
                        delay: 120s,
                        factor: 1.5,
                        max_delay: 120s,
                        reset_after: 3600s,
                        retry_broken: None,
                        jitter: 1.0,
                    },
                    health: None,
                    recorder: Recorder {
                        bytes: 65536,
                        recycle: true,
                        sessions: false,
                    },
                    requests: Requests {
                        while_down: Refuse,
                        waiting: 7,
                    },
                    demotion: None,
                    links: [
                        Link {
                            name: "plc",
                            connect: Tcp {
                                host: "fd00::9",
                                port: 502,
                            },
                            dial: [],
                            tls: None,
                            connect_timeout: 3s,
                            redial: Redial {
                                delays: Policy {
                                    base: 5s,
                                    max: 5s,
                                },
                                max_attempts: None,
                                steady_after: 10s,
                            },
                            heartbeat: Heartbeat {
                                interval: 30s,
                                lost_after: 45s,
                            },
                            on_restart: Keep,
                        },
                        Link {
                            name: "aux",
                            connect: Tcp {
                                host: "plc",
                                port: 1,
                            },
                            dial: [],
                            tls: None,
                            connect_timeout: 1s,
                            redial: Redial {
                                delays: Policy {
                                    base: 1s,
                                    max: 2s,
                                },
                                max_attempts: None,
                                steady_after: 10s,
                            },
                            heartbeat: Heartbeat {
                                interval: 30s,
                                lost_after: 45s,
                            },
                            on_restart: Reset,
                        },
                    ],
                    devices: [
                        Device {
                            name: "one",
                            address: "1",
                            settings: Object {
                                "slow": Bool(true),
                            },
                            link: Some(
                                LinkId(
                                    1,
                                ),
                            ),
                        },
                        Device {
                            name: "two",
                            address: "",
                            settings: Object {},
                            link: None,
                        },
                    ],
                    groups: [
                        Group {
                            name: "fast",
                            period: 10ms,
                            tags: [
                                TagId(
                                    0,
                                ),
                                TagId(
                                    1,
                                ),
                            ],
                            stale_after: Some(
                                5s,
                            ),
                        },
                    ],
                    tags: [
                        Tag {
                            name: "a",
                            device: DeviceId(
                                1,
                            ),
                            address: "40001",
                            data_type: DataType {
                                scalar: Int16,
                                elements: Some(
                                    8,
                                ),
                            },
                            access: Read,
                            settings: Object {},
                            treatment: Treatment {
                                scale: 0.1,
                                offset: -5.0,
                                part: None,
                                clamp: None,
                                limits: None,
                                report: Always,
                                deadband: 0.0,
                                interval: 0ns,
                                max_silence: None,
                                write_interval_ms: None,
                                unit: "°C",
                            },
                            description: "",
                        },
                        Tag {
                            name: "b",
                            device: DeviceId(
                                0,
                            ),
                            address: "2",
                            data_type: DataType {
                                scalar: String,
                                elements: None,
                            },
                            access: ReadWrite,
                            settings: Object {},
                            treatment: Treatment {
                                scale: 1.0,
                                offset: 0.0,
                                part: None,
                                clamp: None,
                                limits: None,
                                report: Change,
                                deadband: 0.0,
                                interval: 0ns,
                                max_silence: None,
                                write_interval_ms: None,
                                unit: "",
                            },
                            description: "",
                        },
                        Tag {
                            name: "c",
                            device: DeviceId(
                                1,
                            ),
                            address: "3",
                            data_type: DataType {
                                scalar: Float32,
                                elements: None,
                            },
                            access: Write,
                            settings: Object {
                                "order": String("cdab"),
                            },
                            treatment: Treatment {
                                scale: 1.0,
                                offset: 0.0,
                                part: None,
                                clamp: None,
                                limits: None,
                                report: Change,
                                deadband: 0.5,
                                interval: 0ns,
                                max_silence: None,
                                write_interval_ms: None,
                                unit: "",
                            },
                            description: "on demand",
                        },
                    ],
                },
            ],
            sinks: [
                Sink {
                    name: "stdout",
                    kind: Stdout,
                    queue: 1024,
                    filter: TagFilter {
                        channels: [],
                        groups: [],
                        tags: [],
                    },
                    batch: 5000,
                    linger: 0ns,
                    outbox: None,
                },
                Sink {
                    name: "archive",
                    kind: File {
                        path: "/plant/out/samples.jsonl",
                        rotation: Rotation {
                            bytes: None,
                            age: None,
                            keep: 10,
                        },
                    },
                    queue: 1,
                    filter: TagFilter {
                        channels: [],
                        groups: [],
                        tags: [],
                    },
                    batch: 5000,
                    linger: 0ns,
                    outbox: None,
                },
            ],
        }
    "#]]
    .assert_debug_eq(&host);
}

#[test]
fn a_driver_is_looked_for_beside_the_file_and_then_where_one_stands() {
    let host = good(CHANNEL);
    let driver = &host.channels[0].driver;
    assert_eq!(
        driver.candidates(),
        [PathBuf::from("/plant/d.wasm"), PathBuf::from("d.wasm")]
    );
    assert_eq!(driver.to_string(), "d.wasm");
}

#[test]
fn every_fault_of_a_file_is_reported_at_once_in_the_order_of_its_lines() {
    check(
        r#"
[htpp]
[[sink]]
kind = "kafka"
[[channel]]
id = "press 3"
drvier = "modbus.wasm"
links.plc = { connect = "ws://10.0.0.9:802", profil = "stable" }
limits = { memory = 32, mailbox = "many" }
[[channel.group]]
name = "fast"
period = "fast"
tags = [
  { name = "temp", type = "int17", scale = "x" },
  { name = "temp", address = "40002", type = "bool", deadband = 1 },
]
"#,
        expect![[r#"
            2:2: unknown key `htpp`; did you mean `http`?
            4:8: sink kafka: there is no kind of sink `kafka`; use `stdout`, `file`, `mqtt`, `postgres` or `nats`
            5:1: channel press 3: `driver` is missing; add one such as `driver = "target/drivers/modbus.wasm"`
            6:6: channel press 3: `press 3` is no id; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit
            7:1: channel press 3: unknown key `drvier`; did you mean `driver`?
            8:25: channel press 3, link plc: `ws://10.0.0.9:802` is a transport not supported yet by this version; use tcp:// as in "tcp://10.0.0.9:502"
            8:46: channel press 3, link plc: unknown key `profil`; did you mean `profile`?
            9:21: channel press 3, limits: `memory` is an integer; write a size with its unit such as "32MiB"
            9:35: channel press 3, limits: `mailbox` is a string; write a whole number such as 1024
            12:10: channel press 3, group fast: `period` is `fast`, which is no duration; write one with its unit such as "100ms"
            14:3: channel press 3, tag temp: `address` is missing; add one such as `address = "40001"`
            14:27: channel press 3, tag temp: `int17` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`
            14:44: channel press 3, tag temp: `scale` is a string; write a number such as 1.0
            15:12: channel press 3, tag temp: tag `temp` stands on line 14 already; give one of them another name
            15:65: channel press 3, tag temp: `deadband` is for numbers, and the type is `bool`; remove it"#]],
    );
}

#[test]
fn columns_count_characters() {
    check(
        "ä = 'ö' 'x'",
        expect![[r#"
        1:1: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`; see toml.io for how it is written
        1:9: not valid TOML: unexpected key or value, expected newline, `#`; see toml.io for how it is written"#]],
    );
    check(
        &channel("settings = {}\r\nlinks = { 'äöü' = {} }"),
        expect![[r#"
            5:11: channel a, link äöü: `connect` is missing; add one such as `connect = "tcp://10.0.0.9:502"`
            5:11: channel a, link äöü: `äöü` is no name for a link; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit"#]],
    );
}

#[test]
fn faults_are_data_as_well() {
    let faults = parsed("[[channel]]\nid = \"a\"").unwrap_err();
    expect![[r#"
        {
          "file": "plant.toml",
          "faults": [
            {
              "line": 1,
              "column": 1,
              "at": "channel a",
              "message": "`driver` is missing; add one such as `driver = \"target/drivers/modbus.wasm\"`"
            }
          ],
          "more": 0
        }"#]].assert_eq(&serde_json::to_string_pretty(&faults).unwrap());
}
