//! The Modbus driver over every way in which Modbus travels, through the whole host and against devices written by others:
//! RTU over TCP, RTU on a serial line (a pair of pseudo-terminals), TLS, and devices that call in.
//!
//! What the devices hold stands in `tests/peers/README.md`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Authority, Bulkhead, Folder, Peer, Recorder, Recording, Running, free_port};
use serde_json::Value;

/// Of each unit: what is read, its type, and what is there.
const KNOWN: [(&str, &str, &str); 9] = [
    ("holding:101", "uint16", "43981"),
    ("input:102", "int16", "-12345"),
    ("holding:106#CDAB", "int32", "-123456789"),
    ("holding:144", "uint64", "12345678901234567890"),
    ("holding:176.16", "string", "\"Pump 7 / line A\""),
    (
        "holding:103",
        "bool[16]",
        "[true,false,false,true,false,false,false,false,false,false,false,false,false,false,false,true]",
    ),
    ("holding:101", "uint16[3]", "[43981,53191,32777]"),
    ("coil:100", "bool[4]", "[false,false,true,false]"),
    (
        "discrete:100",
        "bool[6]",
        "[true,false,false,false,false,true]",
    ),
];

/// A channel for the units 1 to 3, each polled once in an hour and at once when the link comes up.
fn config(link: &str, settings: &str, devices: [&str; 3]) -> String {
    let mut toml = format!(
        "[[channel]]\nid = \"plant\"\ndriver = \"$DRIVERS/modbus.wasm\"\nlinks.plc = {{ {link} }}\n\
         settings = {{ timeout_ms = 20_000, {settings} }}\n"
    );
    for (unit, device) in (1..=3).zip(devices) {
        toml.push_str(&format!(
            "[[channel.device]]\nname = \"u{unit}\"\naddress = \"{unit}\"\n{device}\n"
        ));
        for (address, kind) in [
            ("holding:210", "uint16"),
            ("holding:212", "float32"),
            ("holding:214.9", "bool"),
            ("holding:216#BCD", "uint32"),
            ("holding:220", "int16[10]"),
            ("coil:210", "bool"),
        ] {
            toml.push_str(&format!(
                "[[channel.tag]]\nname = \"u{unit} {address}\"\ndevice = \"u{unit}\"\naddress = \"{address}\"\n\
                 type = \"{kind}\"\naccess = \"rw\"\n"
            ));
        }
        let tags: String = KNOWN
            .iter()
            .map(|(address, kind, _)| {
                format!("{{ name = \"u{unit} {address} {kind}\", address = \"{address}\", type = \"{kind}\" }},\n")
            })
            .collect();
        toml.push_str(&format!(
            "[[channel.group]]\nname = \"g{unit}\"\nperiod = \"1h\"\ndevice = \"u{unit}\"\ntags = [\n{tags}]\n"
        ));
    }
    toml
}

/// Waits until these units have been polled, and compares.
fn check_polled(host: &Bulkhead, units: &[u8]) -> Result<()> {
    let names = || {
        units.iter().flat_map(|unit| {
            KNOWN
                .iter()
                .map(move |(address, kind, value)| (format!("u{unit} {address} {kind}"), *value))
        })
    };
    let polled = host.get_until("/api/v1/tags?limit=10000", |page| {
        let tags = page["tags"].as_array()?;
        let all = names().map(|(name, _)| {
            let found = tags.iter().find(|found| found["tag"] == name.as_str())?;
            (found["quality"] == "good").then(|| (name, found["value"].clone()))
        });
        all.collect::<Option<BTreeMap<String, Value>>>()
    })?;
    for (name, value) in names() {
        let value: Value = serde_json::from_str(value)?;
        assert_eq!(polled[&name], value, "{name}");
    }
    Ok(())
}

/// Writes with read-back, and looks at the device from within.
fn check_written(host: &Bulkhead, peer: &mut Peer, unit: u8) -> Result<()> {
    for (address, typed, first, found) in [
        ("holding:210", "1234", 210, &[1234][..]),
        ("holding:212", "-1.5", 212, &[0xbfc0, 0]),
        ("holding:216#BCD", "12345678", 216, &[0x1234, 0x5678]),
        (
            "holding:220",
            "[1,-1,2,-2,3,-3,4,-4,5,-5]",
            220,
            &[1, 0xffff, 2, 0xfffe, 3, 0xfffd, 4, 0xfffc, 5, 0xfffb],
        ),
    ] {
        write(host, unit, address, typed)?;
        let count = u16::try_from(found.len())?;
        assert_eq!(peer.holding(unit, first, count)?, found, "{address}");
    }
    let before = peer.holding(unit, 214, 1)?[0];
    write(host, unit, "holding:214.9", "true")?;
    assert_eq!(peer.holding(unit, 214, 1)?, [before | 1 << 9]);
    write(host, unit, "holding:214.9", "false")?;
    assert_eq!(peer.holding(unit, 214, 1)?, [before & !(1 << 9)]);
    write(host, unit, "coil:210", "true")?;
    assert_eq!(peer.coils(unit, 210, 1)?, [true]);
    Ok(())
}

fn write(host: &Bulkhead, unit: u8, address: &str, typed: &str) -> Result<()> {
    let tag = format!("plant/u{unit} {address}");
    let ended = host.client(&["tag", "write", "--json", "--read-back", &tag, typed])?;
    anyhow::ensure!(ended.code() == Some(0), "{tag}: {ended:?}");
    let answer: Value = serde_json::from_str(&ended.out.join(""))?;
    let typed: Value = serde_json::from_str(typed)?;
    anyhow::ensure!(answer["read_back"] == typed, "{tag}: {answer}");
    Ok(())
}

/// How often a function was asked of a unit.
fn asked(peer: &mut Peer, unit: u8, function: u8) -> Result<u64> {
    let requests = peer.requests()?;
    Ok(requests.get(&(unit, function)).copied().unwrap_or(0))
}

fn over(peer: &Peer) -> String {
    format!("connect = \"tcp://{}\"", peer.address())
}

#[test]
fn pymodbus_by_rtu_over_tcp() -> Result<()> {
    let mut peer = Peer::pymodbus_as("rtu:0")?;
    let host = Bulkhead::start(&config(&over(&peer), "framing = \"rtu\"", [""; 3]))?;
    check_polled(&host, &[1, 2, 3])?;
    check_written(&host, &mut peer, 2)?;
    assert_eq!(asked(&mut peer, 2, 22)?, 2, "bits go out by function 22");
    assert_eq!(asked(&mut peer, 2, 23)?, 0);
    let ended = host.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    Ok(())
}

#[test]
fn pymodbus_writes_and_reads_in_one_exchange() -> Result<()> {
    let mut peer = Peer::pymodbus_as("rtu:0")?;
    let settings = "framing = \"rtu\", write_and_read = true, mask_write = \"never\"";
    let host = Bulkhead::start(&config(&over(&peer), settings, [""; 3]))?;
    check_written(&host, &mut peer, 3)?;
    assert_eq!(
        asked(&mut peer, 3, 23)?,
        4,
        "registers go out by function 23"
    );
    assert_eq!(asked(&mut peer, 3, 22)?, 0);
    assert_eq!(asked(&mut peer, 3, 16)?, 0);
    assert_eq!(asked(&mut peer, 3, 6)?, 2, "the bit, twice");
    Ok(())
}

#[test]
fn the_simulated_device_by_rtu_over_tcp() -> Result<()> {
    let mut peer = Peer::simulated(&["--framing", "rtu", "--units", "1-3"])?;
    let settings = "framing = \"rtu\", write_and_read = true";
    let host = Bulkhead::start(&config(&over(&peer), settings, [""; 3]))?;
    check_polled(&host, &[1, 2, 3])?;
    check_written(&host, &mut peer, 1)?;
    assert_eq!(asked(&mut peer, 1, 22)?, 2);
    assert_eq!(asked(&mut peer, 1, 23)?, 4);
    let stats = peer.stats()?;
    assert_eq!(stats["malformed"], 0, "{stats}");
    assert_eq!(stats["connections"], 1, "{stats}");
    Ok(())
}

/// Two ends of a serial line.
struct Line {
    _socat: Running,
    ends: [String; 2],
}

fn lay_line(folder: &Folder) -> Result<Line> {
    let ends = ["ttyA", "ttyB"].map(|name| folder.path().join(name).display().to_string());
    let pty = |end: &String| format!("PTY,link={end},raw,echo=0");
    let mut socat = Command::new("socat");
    let socat = Running::start(socat.args(["-d", "-d", &pty(&ends[0]), &pty(&ends[1])]))
        .context("install socat with `apt-get install socat`")?;
    socat.err().wait_for(0, |line| {
        line.contains("starting data transfer").then_some(())
    })?;
    Ok(Line {
        _socat: socat,
        ends,
    })
}

#[test]
fn pymodbus_on_a_serial_line() -> Result<()> {
    let folder = Folder::new()?;
    let line = lay_line(&folder)?;
    let mut peer = Peer::pymodbus_as(&format!("serial:{}", line.ends[0]))?;
    let link = format!("connect = \"serial://{}\", speed = 19_200", line.ends[1]);
    let host = Bulkhead::start(&config(&link, "retries = 0", [""; 3]))?;
    check_polled(&host, &[1, 2, 3])?;
    check_written(&host, &mut peer, 2)?;
    assert_eq!(asked(&mut peer, 2, 22)?, 2);
    let ended = host.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    Ok(())
}

#[test]
fn pymodbus_over_tls() -> Result<()> {
    let folder = Folder::new()?;
    let authority = Authority::new(folder.path(), "plant-ca")?;
    let own = authority.sign("server", "IP:127.0.0.1", 1)?;
    let argument = format!("tls:0:{}:{}", own.cert.display(), own.key.display());
    let mut peer = Peer::pymodbus_as(&argument)?;
    let link = format!(
        "connect = \"tls://{}\", ca = \"{}\"",
        peer.address(),
        authority.ca().display()
    );
    let host = Bulkhead::start(&config(&link, "", [""; 3]))?;
    check_polled(&host, &[1, 2, 3])?;
    check_written(&host, &mut peer, 2)
}

/// A device that calls in: what it is to the host is a device that listens, behind a wire of our own.
struct Caller {
    ends: [TcpStream; 2],
}

impl Caller {
    /// Calls as soon as somebody listens, says its greeting, and then hands on bytes between the two.
    fn call(port: u16, greeting: &[u8], peer: &Peer) -> Result<Self> {
        let device = TcpStream::connect(peer.address())?;
        let mut host = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    thread::yield_now();
                }
                Err(error) => return Err(error.into()),
            }
        };
        host.write_all(greeting)?;
        for (from, to) in [(&host, &device), (&device, &host)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || {
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(Shutdown::Both).ok();
            });
        }
        Ok(Self {
            ends: [host, device],
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        for end in &self.ends {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

#[test]
fn pymodbus_calls_in() -> Result<()> {
    for (framing, argument) in [("tcp", "0"), ("rtu", "rtu:0")] {
        let mut peer = Peer::pymodbus_as(argument)?;
        let port = free_port();
        let link = format!("listen = \"tcp://127.0.0.1:{port}\"");
        let settings = format!("framing = \"{framing}\"");
        let host = Bulkhead::start(&config(&link, &settings, [""; 3]))?;
        let first = Caller::call(port, b"", &peer)?;
        read_until(&host, 2, "good")?;
        check_read(&host, &[1, 2, 3])?;
        check_written(&host, &mut peer, 2)?;
        drop(first);
        polled_until(&host, 1, "bad-not-connected")?;
        let _second = Caller::call(port, b"", &peer)?;
        read_until(&host, 1, "good")?;
        check_read(&host, &[1, 2, 3])?;
    }
    Ok(())
}

#[test]
fn callers_are_told_apart() -> Result<()> {
    let peers = [Peer::pymodbus_as("rtu:0")?, Peer::pymodbus_as("rtu:0")?];
    let port = free_port();
    let link = format!("listen = \"tcp://127.0.0.1:{port}\"");
    let settings = "framing = \"rtu\", callers = \"greeting\"";
    let greets = |greeting: &str| format!("settings = {{ greeting = \"{greeting}\" }}");
    let devices = [
        greets("pump-house"),
        greets("hex:00ff"),
        greets("pump-house"),
    ];
    let devices: [&str; 3] = std::array::from_fn(|at| devices[at].as_str());
    let host = Bulkhead::start(&config(&link, settings, devices))?;
    let _pumps = Caller::call(port, b"pump-house", &peers[0])?;
    read_until(&host, 1, "good")?;
    check_read(&host, &[1, 3])?;
    read_until(&host, 2, "bad-not-connected")?;
    let stranger = Caller::call(port, b"who-am-i", &peers[1])?;
    host.process()
        .err()
        .wait_for(0, |line| line.contains("none of the units").then_some(()))?;
    drop(stranger);
    let _single = Caller::call(port, &[0, 0xff], &peers[1])?;
    read_until(&host, 2, "good")?;
    check_read(&host, &[1, 2, 3])?;
    let [mut pumps, mut single] = peers;
    assert_eq!(asked(&mut pumps, 2, 3)?, 0, "unit 2 is behind the other");
    assert_eq!(asked(&mut single, 1, 3)? + asked(&mut single, 3, 3)?, 0);
    Ok(())
}

/// Reads, and gives what each tag is: its quality and value.
fn read(host: &Bulkhead, tags: &[String]) -> Result<Vec<(String, Value)>> {
    let references = tags.iter().map(|tag| format!("plant/{tag}"));
    let references: Vec<String> = references.collect();
    let arguments = ["tag", "read", "--json", "--timeout", "50s"].into_iter();
    let arguments: Vec<&str> = arguments
        .chain(references.iter().map(String::as_str))
        .collect();
    let ended = host.client(&arguments)?;
    anyhow::ensure!(ended.out.len() == tags.len(), "{ended:?}");
    let readings = ended.out.iter().zip(tags).map(|(line, tag)| {
        let mut reading: Value = serde_json::from_str(line)?;
        anyhow::ensure!(reading["tag"] == tag.as_str(), "{line}");
        let quality = reading["quality"].as_str().unwrap_or_default().to_owned();
        Ok((quality, reading["value"].take()))
    });
    readings.collect()
}

/// Reads all that is known of these units.
fn check_read(host: &Bulkhead, units: &[u8]) -> Result<()> {
    for unit in units {
        let names = KNOWN
            .iter()
            .map(|(address, kind, _)| format!("u{unit} {address} {kind}"));
        let names: Vec<String> = names.collect();
        for ((quality, found), (address, _, value)) in read(host, &names)?.into_iter().zip(KNOWN) {
            let value: Value = serde_json::from_str(value)?;
            assert_eq!(
                (quality.as_str(), found),
                ("good", value),
                "{unit}: {address}"
            );
        }
    }
    Ok(())
}

/// Reads one register of a unit until it is of this quality.
fn read_until(host: &Bulkhead, unit: u8, quality: &str) -> Result<()> {
    let tag = [format!("u{unit} holding:210")];
    let mut found = Vec::new();
    for _ in 0..MOST_READS {
        found = read(host, &tag)?;
        if found.iter().all(|(found, _)| found == quality) {
            return Ok(());
        }
    }
    anyhow::bail!("unit {unit} is never {quality}: {found:?}")
}

/// Waits until what is polled of a unit is of this quality. (A read on request would wait for the link.)
fn polled_until(host: &Bulkhead, unit: u8, quality: &str) -> Result<()> {
    let (address, kind, _) = KNOWN[0];
    let name = format!("u{unit} {address} {kind}");
    host.get_until("/api/v1/tags?limit=10000", |page| {
        let mut tags = page["tags"].as_array()?.iter();
        let found = tags.find(|found| found["tag"] == name.as_str())?;
        (found["quality"] == quality).then_some(())
    })
}

/// Each is a process of its own, so this takes far longer than any redial.
const MOST_READS: u32 = 2_000;

/// A client written by others on a serial line, whose other end is the simulated device: what one takes for a frame the other
/// has sent.
#[test]
fn mbpoll_reads_the_simulated_device_by_rtu() -> Result<()> {
    let folder = Folder::new()?;
    let mut peer = Peer::simulated(&["--framing", "rtu", "--units", "2"])?;
    let line = folder.path().join("tty").display().to_string();
    let socat = Running::start(Command::new("socat").args([
        "-d",
        "-d",
        &format!("PTY,link={line},raw,echo=0"),
        &format!("TCP:{}", peer.address()),
    ]))
    .context("install socat with `apt-get install socat`")?;
    socat.err().wait_for(0, |line| {
        line.contains("starting data transfer").then_some(())
    })?;
    let mbpoll = |options: &[&str], values: &[&str]| -> Result<String> {
        let common = [
            "-m", "rtu", "-b", "19200", "-P", "none", "-0", "-1", "-q", "-a", "2",
        ];
        let ended = Running::start(
            Command::new("mbpoll")
                .args(common)
                .args(options)
                .args(["--", &line])
                .args(values),
        )?
        .wait()?;
        anyhow::ensure!(ended.code() == Some(0), "{ended:?}");
        Ok(ended.out.join("\n"))
    };
    let out = mbpoll(&["-t", "4", "-r", "100", "-c", "2"], &[])?;
    assert!(out.contains("2") && out.contains("43981"), "{out}");
    mbpoll(&["-t", "4", "-r", "210"], &["1234"])?;
    mbpoll(&["-t", "4", "-r", "211"], &["1", "2", "3"])?;
    mbpoll(&["-t", "0", "-r", "210"], &["1"])?;
    assert_eq!(peer.holding(2, 210, 4)?, [1234, 1, 2, 3]);
    assert_eq!(peer.coils(2, 210, 1)?, [true]);
    assert_eq!(peer.stats()?["malformed"], 0);
    Ok(())
}

/// One sample of a stream.
struct Sample<'a> {
    tag: &'a str,
    good: bool,
    value: &'a Value,
}

fn samples(seen: &Recording) -> impl Iterator<Item = Sample<'_>> {
    let samples = seen.iter().filter(|(name, _)| name == "sample");
    samples.map(|(_, data)| Sample {
        tag: data["tag"].as_str().unwrap_or_default(),
        good: data["quality"] == "good",
        value: &data["value"],
    })
}

/// Answers that go wrong on their way: nothing but what the device holds is ever published as good, each tag has its sample in
/// each poll, and all is well as soon as the answers are.
#[test]
fn spoilt_answers_are_never_values() -> Result<()> {
    let mut peer = Peer::simulated(&["--framing", "rtu", "--units", "1-2"])?;
    let toml = format!(
        r#"
        [[channel]]
        id = "plant"
        driver = "$DRIVERS/modbus.wasm"
        links.plc = {{ {}, base_delay = "10ms", max_delay = "50ms" }}
        settings = {{ framing = "rtu", timeout_ms = 150, retries = 0, max_gap_registers = 0 }}
        [[channel.device]]
        name = "one"
        address = "1"
        [[channel.device]]
        name = "two"
        address = "2"
        [[channel.group]]
        name = "one"
        period = "20ms"
        device = "one"
        tags = [
          {{ name = "1-1300", address = "holding:300", type = "uint16" }},
          {{ name = "1-43981", address = "holding:101", type = "uint16" }},
          {{ name = "1-1400", address = "holding:400", type = "uint16" }},
        ]
        [[channel.group]]
        name = "two"
        period = "20ms"
        device = "two"
        tags = [
          {{ name = "2-2300", address = "holding:300", type = "uint16" }},
          {{ name = "2-2400", address = "holding:400", type = "uint16" }},
        ]
        "#,
        over(&peer)
    );
    // Tags are named after what the device holds there: unit * 1000 + address, from 200 on.
    let host = Bulkhead::start(&toml)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?channel=plant")?);
    let all_good = |recorder: &Recorder, from: usize| {
        recorder.wait("all is well", |seen| {
            ["1-1300", "1-43981", "1-1400", "2-2300", "2-2400"]
                .iter()
                .all(|tag| {
                    samples(seen)
                        .skip(from)
                        .any(|sample| sample.tag == *tag && sample.good)
                })
        })
    };
    all_good(&recorder, 0)?;
    for fault in [
        "wrong-checksum:every=2",
        "truncate:every=3",
        "short:every=2",
        "byte-count:1:every=2",
        "byte-count:-2:every=3",
        "oversize:every=4",
        "wrong-unit:every=2",
        "wrong-function:every=2",
        "random:every=3",
        "twice:every=2",
        "cut:every=5",
        "silence:every=4",
        "silence:unit=1",
        "close:every=4",
        "one-byte:1:every=2",
        "delay:100:every=3",
        "delay:200:every=3",
    ] {
        let before = faults(&mut peer)?;
        peer.set_faults(&[fault])?;
        while faults(&mut peer)? < before + 3 {
            let count = recorder.so_far().len();
            recorder.wait(fault, |seen| seen.len() > count)?;
        }
        peer.set_faults(&[])?;
        let from = samples(&recorder.so_far()).count();
        all_good(&recorder, from).with_context(|| format!("after {fault}"))?;
    }
    let seen = recorder.so_far();
    let wrong: Vec<String> = samples(&seen)
        .filter(|sample| sample.good && !sample.tag.ends_with(&format!("-{}", sample.value)))
        .map(|sample| format!("{}: {}", sample.tag, sample.value))
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

/// How many answers the simulated device has spoilt.
fn faults(peer: &mut Peer) -> Result<u64> {
    let stats = peer.stats()?;
    stats["faults"].as_u64().context("it counts them")
}
