//! Devices written by others, through the whole host: what `bulkhead run` reads with `modbus.wasm` is what the device
//! holds, in every type, order and table, with as few requests as there can be; what `bulkhead tag write` writes is what
//! `mbpoll` finds there afterwards, and what the device says to it is what the user is told.
//!
//! The values stand in `tests/peers/README.md`; that the devices hold them is checked in `peers.rs`, without the host.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bulkhead_tests::mbpoll::{self, Table};
use bulkhead_tests::{Bulkhead, Ended, Peer, Requests};
use serde_json::{Value, json};

const ORDERS: [&str; 4] = ["ABCD", "CDAB", "BADC", "DCBA"];

/// What unit 2 holds in its registers, be they holding or input registers: offset with suffix, type, value.
fn registers() -> Vec<(String, &'static str, Value)> {
    let mut all = vec![
        ("100".to_owned(), "uint16", json!(2)),
        ("101".to_owned(), "uint16", json!(43981)),
        ("102".to_owned(), "int16", json!(-12345)),
        ("102".to_owned(), "uint16", json!(53191)),
        ("196#B".to_owned(), "int16", json!(-12345)),
        ("197#B".to_owned(), "uint16", json!(43981)),
        ("198".to_owned(), "uint16", json!(0)),
        ("199".to_owned(), "uint16", json!(65535)),
        ("199".to_owned(), "int16", json!(-1)),
        // Arrays, strings, raw bytes (base64 of 0xabcd 0xcfc7).
        ("101".to_owned(), "uint16[3]", json!([43981, 53191, 32777])),
        ("102".to_owned(), "int16[2]", json!([-12345, -32759])),
        ("104#ABCD".to_owned(), "int32[1]", json!([-123_456_789])),
        ("176.16".to_owned(), "string", json!("Pump 7 / line A")),
        ("176.6".to_owned(), "string", json!("Pump 7")),
        ("184.16L".to_owned(), "string", json!("Pump 7 / line A")),
        ("192.8".to_owned(), "string", json!("21 µ°C")),
        ("101.4".to_owned(), "bytes", json!("q83Pxw==")),
    ];
    for bit in 0..16 {
        let on = [0, 3, 15].contains(&bit);
        all.push((format!("103.{bit}"), "bool", json!(on)));
    }
    for (at, order) in ORDERS.iter().enumerate() {
        let mut push = |first: usize, words: usize, kind, value| {
            all.push((format!("{}#{order}", first + words * at), kind, value));
        };
        push(104, 2, "int32", json!(-123_456_789));
        push(112, 2, "uint32", json!(3_456_789_012_u32));
        push(120, 2, "float32", json!(f64::from(123.456_f32)));
        push(128, 4, "int64", json!(-1_234_567_890_123_456_789_i64));
        push(144, 4, "uint64", json!(12_345_678_901_234_567_890_u64));
        push(160, 4, "float64", json!(-9876.54321));
    }
    // The other notation for the same orders.
    for (address, kind) in [
        ("106#BL", "int32"),
        ("108#LB", "int32"),
        ("110#BB", "int32"),
    ] {
        all.push((address.to_owned(), kind, json!(-123_456_789)));
    }
    all
}

/// A tag that is read: its address, its type, further keys, what the device holds.
struct Known {
    address: String,
    kind: &'static str,
    keys: &'static str,
    value: Value,
}

impl Known {
    fn name(&self) -> String {
        // The address holds no `/`; the keys keep apart what has the same address otherwise.
        format!(
            "{} {}{}",
            self.address,
            self.kind,
            self.keys.replace('"', "'")
        )
    }

    fn toml(&self) -> String {
        let Self {
            address,
            kind,
            keys,
            ..
        } = self;
        let name = self.name();
        format!("  {{ name = \"{name}\", address = \"{address}\", type = \"{kind}\"{keys} }},\n")
    }
}

/// Everything that unit 2 holds, in both styles of address.
fn known() -> Vec<Known> {
    let tag = |address: String, kind, value| Known {
        address,
        kind,
        keys: "",
        value,
    };
    let mut all = Vec::new();
    for (place, kind, value) in registers() {
        let end = place.find(['.', '#']).unwrap_or(place.len());
        let (offset, suffix) = place.split_at(end);
        let number: u32 = offset.parse().expect("an offset is a number");
        let number = number + 1;
        for address in [
            format!("holding:{offset}{suffix}"),
            format!("input:{offset}{suffix}"),
            format!("4{number:04}{suffix}"),
            format!("3{number:05}{suffix}"),
        ] {
            all.push(tag(address, kind, value.clone()));
        }
    }
    for bit in 100..130 {
        all.push(tag(format!("coil:{bit}"), "bool", json!(bit % 3 == 0)));
        all.push(tag(format!("discrete:{bit}"), "bool", json!(bit % 5 == 0)));
        all.push(tag(format!("0{:04}", bit + 1), "bool", json!(bit % 3 == 0)));
        all.push(tag(format!("1{:05}", bit + 1), "bool", json!(bit % 5 == 0)));
    }
    let bits = |from: u32, by: u32| (from..from + 19).map(|bit| bit % by == 0).collect();
    let coils: Vec<bool> = bits(130, 3);
    let discrete: Vec<bool> = bits(130, 5);
    all.push(tag("coil:130".to_owned(), "bool[19]", json!(coils)));
    all.push(tag("discrete:130".to_owned(), "bool[19]", json!(discrete)));
    // What an address can say, the settings can say too; and what the host makes of a number.
    for (address, kind, keys, value) in [
        (
            "holding:106",
            "int32",
            ", settings = { order = \"CDAB\" }",
            json!(-123_456_789),
        ),
        (
            "holding:103",
            "bool",
            ", settings = { bit = 15 }",
            json!(true),
        ),
        (
            "holding:184",
            "string",
            ", settings = { length = 16, packing = \"L\" }",
            json!("Pump 7 / line A"),
        ),
        (
            "holding:102",
            "int16",
            ", scale = 0.1, offset = 5",
            json!(-1229.5),
        ),
    ] {
        all.push(Known {
            address: address.to_owned(),
            kind,
            keys,
            value,
        });
    }
    all
}

/// A channel for the units 1 to 3. Unit 2 is polled once in an hour, and at once when the link comes up.
fn config(peer: &Peer, known: &[Known]) -> String {
    let tags: String = known.iter().map(Known::toml).collect();
    let mut units = String::new();
    for unit in 1..=3 {
        units.push_str(&format!(
            "[[channel.device]]\nname = \"unit {unit}\"\naddress = \"{unit}\"\n"
        ));
        for address in [100, 200] {
            units.push_str(&format!(
                "[[channel.tag]]\nname = \"unit {unit} at {address}\"\ndevice = \"unit {unit}\"\n\
                 address = \"holding:{address}\"\ntype = \"uint16\"\n"
            ));
        }
    }
    format!(
        "[[channel]]\nid = \"plant\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://{}\" }}\nsettings = {{ timeout_ms = 20_000 }}\n\
         {units}[[channel.group]]\nname = \"all\"\nperiod = \"1h\"\ndevice = \"unit 2\"\ntags = [\n{tags}]\n",
        peer.address()
    )
}

/// What has been asked of the device since.
fn since(before: &Requests, now: &Requests) -> Vec<((u8, u8), u64)> {
    let count = |key: &(u8, u8)| now[key] - before.get(key).copied().unwrap_or(0);
    let asked = now.keys().map(|key| (*key, count(key)));
    asked.filter(|(_, count)| *count > 0).collect()
}

fn check_reads(mut peer: Peer) -> Result<()> {
    let known = known();
    let host = Bulkhead::start(&config(&peer, &known))?;

    // Polled.
    let polled = host.get_until("/api/v1/tags?limit=10000&tag=plant/*%20*", |page| {
        let tags = page["tags"].as_array()?;
        let all = known.iter().map(|tag| {
            let name = tag.name();
            let found = tags.iter().find(|found| found["tag"] == name.as_str())?;
            (found["quality"] == "good").then(|| (name, found["value"].clone()))
        });
        all.collect::<Option<BTreeMap<String, Value>>>()
    })?;
    for tag in &known {
        assert_eq!(polled[&tag.name()], tag.value, "polled: {}", tag.name());
    }
    // Each table with one request, however many tags stand in it.
    let counts = peer.requests()?;
    assert_eq!(
        since(&Requests::new(), &counts),
        [1, 2, 3, 4].map(|function| ((2, function), 1)),
        "requests of one poll"
    );

    // On demand, through the command line: the same again.
    let mut references: Vec<String> = known
        .iter()
        .map(|tag| format!("plant/{}", tag.name()))
        .collect();
    let mut values: Vec<Value> = known.iter().map(|tag| tag.value.clone()).collect();
    for unit in [1, 2, 3] {
        for (address, value) in [(100, unit), (200, unit * 1000 + 200)] {
            references.push(format!("plant/unit {unit} at {address}"));
            values.push(json!(value));
        }
    }
    let arguments: Vec<&str> = ["tag", "read", "--json", "--timeout", "50s"]
        .into_iter()
        .chain(references.iter().map(String::as_str))
        .collect();
    let ended = host.client(&arguments)?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(ended.out.len(), references.len());
    for ((line, reference), value) in ended.out.iter().zip(&references).zip(&values) {
        let reading: Value = serde_json::from_str(line)?;
        let tag = reference.strip_prefix("plant/").context("made with it")?;
        let found = [&reading["tag"], &reading["quality"], &reading["value"]];
        assert_eq!(found, [&json!(tag), &json!("good"), value], "read: {line}");
    }
    let again = peer.requests()?;
    assert_eq!(
        since(&counts, &again),
        [
            // In unit 2 all between 100 and 200 is wanted; elsewhere the two are too far apart for one request.
            ((1, 3), 2),
            ((2, 1), 1),
            ((2, 2), 1),
            ((2, 3), 1),
            ((2, 4), 1),
            ((3, 3), 2)
        ],
        "requests of one read"
    );
    let ended = host.stop()?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    Ok(())
}

#[test]
fn what_pymodbus_holds_is_read() -> Result<()> {
    check_reads(Peer::pymodbus()?)
}

#[test]
fn what_libmodbus_holds_is_read() -> Result<()> {
    check_reads(Peer::libmodbus()?)
}

#[test]
fn what_the_simulated_device_holds_is_read() -> Result<()> {
    check_reads(Peer::simulated(&["--units", "1-3"])?)
}

/// A tag that is written: its address and type, what is typed, the function that writes it, and what mbpoll finds then.
struct Write {
    address: &'static str,
    kind: &'static str,
    typed: &'static str,
    /// What the host says that the device holds.
    held: &'static str,
    function: u8,
    table: Table,
    first: u16,
    found: &'static [&'static str],
}

const fn register(
    address: &'static str,
    kind: &'static str,
    (typed, held): (&'static str, &'static str),
    function: u8,
    first: u16,
    found: &'static [&'static str],
) -> Write {
    Write {
        address,
        kind,
        typed,
        held,
        function,
        table: Table::Holding,
        first,
        found,
    }
}

const fn coil(
    address: &'static str,
    kind: &'static str,
    (typed, held): (&'static str, &'static str),
    function: u8,
    first: u16,
    found: &'static [&'static str],
) -> Write {
    Write {
        table: Table::Coils,
        ..register(address, kind, (typed, held), function, first, found)
    }
}

/// Registers in decimal. 0xf8a4 = 63652, 0x32eb = 13035; the others are spelled out where they stand.
// A table that is read line by line.
#[rustfmt::skip]
const WRITES: &[Write] = &[
    coil("coil:300", "bool", ("on", "true"), 5, 299, &["0", "1", "0"]),
    coil("00301", "bool", ("0", "false"), 5, 300, &["0"]),
    coil(
        "coil:310",
        "bool[9]",
        (
            "1,0,1,1,0,0,0,0,1",
            "[true, false, true, true, false, false, false, false, true]",
        ),
        15,
        310,
        &["1", "0", "1", "1", "0", "0", "0", "0", "1", "0"],
    ),
    register(
        "holding:300",
        "uint16",
        ("0xbeef", "48879"),
        6,
        300,
        &["48879"],
    ),
    register("40302", "int16", ("-12345", "-12345"), 6, 301, &["53191"]),
    register(
        "holding:302#B",
        "uint16",
        ("0xabcd", "43981"),
        6,
        302,
        &["52651"],
    ), // 0xcdab
    register(
        "holding:304",
        "uint16[3]",
        ("1,2,65535", "[1, 2, 65535]"),
        16,
        304,
        &["1", "2", "65535", "2307"],
    ),
    register(
        "holding:310#ABCD",
        "int32",
        ("-123456789", "-123456789"),
        16,
        310,
        &["63652", "13035"],
    ),
    register(
        "holding:312#CDAB",
        "int32",
        ("-123456789", "-123456789"),
        16,
        312,
        &["13035", "63652"],
    ),
    register(
        "holding:314#BADC",
        "int32",
        ("-123456789", "-123456789"),
        16,
        314,
        &["42232", "60210"],
    ), // 0xa4f8 0xeb32
    register(
        "holding:316#DCBA",
        "int32",
        ("-123456789", "-123456789"),
        16,
        316,
        &["60210", "42232"],
    ),
    register(
        "holding:320",
        "uint32",
        ("3456789012", "3456789012"),
        16,
        320,
        &["52746", "27156"],
    ), // 0xce0a 0x6a14
    register(
        "holding:322#ABCD",
        "float32",
        ("-1.5", "-1.5"),
        16,
        322,
        &["49088", "0"],
    ), // 0xbfc0
    register(
        "holding:324#CDAB",
        "float32",
        ("-1.5", "-1.5"),
        16,
        324,
        &["0", "49088"],
    ),
    register(
        "holding:326#BADC",
        "float32",
        ("-1.5", "-1.5"),
        16,
        326,
        &["49343", "0"],
    ), // 0xc0bf
    register(
        "holding:328#DCBA",
        "float32",
        ("-1.5", "-1.5"),
        16,
        328,
        &["0", "49343"],
    ),
    register(
        "holding:330",
        "int64",
        ("-1234567890123456789", "-1234567890123456789"),
        16,
        330,
        &["61149", "61195", "33302", "32491"], // 0xeedd 0xef0b 0x8216 0x7eeb
    ),
    register(
        "holding:334#CDAB",
        "uint64",
        ("12345678901234567890", "12345678901234567890"),
        16,
        334,
        &["2770", "60191", "43404", "43860"], // 0x0ad2 0xeb1f 0xa98c 0xab54
    ),
    register(
        "holding:338#DCBA",
        "float64",
        ("-9876.54321", "-9876.54321"),
        16,
        338,
        &["28352", "59271", "17738", "50112"], // 0x6ec0 0xe787 0x454a 0xc3c0
    ),
    register(
        "holding:342.6",
        "string",
        ("Pump", "Pump"),
        16,
        342,
        &["20597", "28016", "0"],
    ), // 0x5075 0x6d70
    register(
        "holding:345.6L",
        "string",
        ("Pump", "Pump"),
        16,
        345,
        &["30032", "28781", "0"],
    ), // 0x7550 0x706d
    register(
        "holding:348.4",
        "bytes",
        ("0x0102fffe", "AQL//g=="),
        16,
        348,
        &["258", "65534"],
    ),
    // The register starts as 2350 = 0b1001_0010_1110: one bit goes on, one off, the others stay.
    register("holding:350.0", "bool", ("true", "true"), 22, 350, &["2351"]),
    register(
        "holding:350.11",
        "bool",
        ("false", "false"),
        22,
        350,
        &["303"],
    ),
];

impl Write {
    fn name(&self) -> String {
        format!("{} {}", self.address, self.kind)
    }

    fn toml(&self) -> String {
        let Self { address, kind, .. } = self;
        format!(
            "[[channel.tag]]\nname = \"{}\"\naddress = \"{address}\"\ntype = \"{kind}\"\naccess = \"rw\"\n",
            self.name()
        )
    }
}

fn channel(peer: &Peer, id: &str, settings: &str, tags: &str) -> String {
    format!(
        "[[channel]]\nid = \"{id}\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://{}\" }}\nsettings = {{ timeout_ms = 20_000{settings} }}\n{tags}",
        peer.address()
    )
}

fn requests_of(ended: &Ended, expected: i32) -> &Ended {
    assert_eq!(ended.code(), Some(expected), "{ended:?}");
    ended
}

fn check_writes(mut peer: Peer) -> Result<()> {
    let tags: String = WRITES.iter().map(Write::toml).collect();
    let unit = "[[channel.device]]\nname = \"unit\"\naddress = \"2\"\n";
    let scaled = "[[channel.tag]]\nname = \"scaled\"\naddress = \"holding:360\"\ntype = \"int16\"\naccess = \"rw\"\n\
                  scale = 0.1\nunit = \"bar\"\n[[channel.tag]]\nname = \"coil\"\naddress = \"coil:360\"\n\
                  type = \"bool\"\naccess = \"w\"\n";
    let host = Bulkhead::start(&format!(
        "{}\n{}",
        channel(&peer, "plant", "", &format!("{unit}{tags}{scaled}")),
        channel(
            &peer,
            "old",
            ", write_function = \"multiple\"",
            &format!("{unit}{scaled}")
        )
    ))?;

    for write in WRITES {
        let reference = format!("plant/{}", write.name());
        let before = peer.requests()?;
        let ended = host.client(&["tag", "write", &reference, write.typed, "--read-back"])?;
        requests_of(&ended, 0);
        assert_eq!(
            ended.out,
            [format!(
                "{reference} written: {held}; the device holds {held}",
                held = write.held
            )],
        );
        let asked = since(&before, &peer.requests()?);
        let writes: Vec<_> = asked
            .iter()
            .filter(|((_, function), _)| *function > 4)
            .collect();
        assert_eq!(writes, [&((2, write.function), 1)], "{reference}");

        let count = u16::try_from(write.found.len())?;
        let found = mbpoll::read(peer.port, 2, write.table, write.first, count)?;
        assert_eq!(found, write.found, "{reference}");
    }

    // In the tag's own units; without a read-back the device is asked once only.
    for (id, register_function, coil_function) in [("plant", 6, 5), ("old", 16, 15)] {
        let before = peer.requests()?;
        let scaled = format!("{id}/scaled");
        let ended = host.client(&["tag", "write", &scaled, "-12.3", "--json"])?;
        let written: Value = serde_json::from_str(&requests_of(&ended, 0).out.join(""))?;
        assert_eq!(
            written,
            json!({ "channel": id, "tag": "scaled", "value": -12.3 })
        );
        requests_of(
            &host.client(&["tag", "write", &format!("{id}/coil"), "true"])?,
            0,
        );
        let mut expected = [((2, coil_function), 1), ((2, register_function), 1)];
        expected.sort();
        assert_eq!(since(&before, &peer.requests()?), expected);
        // mbpoll counts at the device as well, so only now.
        assert_eq!(
            mbpoll::read(peer.port, 2, Table::Holding, 360, 1)?,
            ["65413"]
        );
        assert_eq!(mbpoll::read(peer.port, 2, Table::Coils, 360, 1)?, ["1"]);
        mbpoll::write(peer.port, 2, Table::Holding, 360, &["7"])?;
        mbpoll::write(peer.port, 2, Table::Coils, 360, &["0"])?;
        // What another client has written is what is read.
        let ended = host.client(&["tag", "read", &scaled, "--json"])?;
        let reading: Value = serde_json::from_str(&requests_of(&ended, 0).out.join(""))?;
        assert_eq!(
            [&reading["value"], &reading["unit"]],
            [&json!(0.7), &json!("bar")]
        );
    }
    Ok(())
}

#[test]
fn what_is_written_to_pymodbus_is_there() -> Result<()> {
    check_writes(Peer::pymodbus()?)
}

#[test]
fn what_is_written_to_libmodbus_is_there() -> Result<()> {
    check_writes(Peer::libmodbus()?)
}

#[test]
fn what_is_written_to_the_simulated_device_is_there() -> Result<()> {
    check_writes(Peer::simulated(&["--units", "1-3"])?)
}

/// A write that is refused.
struct Refusal {
    unit: u8,
    address: &'static str,
    typed: &'static str,
    /// The code of the API, and that of the device.
    code: (&'static str, Option<u32>),
    /// What the user is told.
    words: &'static str,
    /// Whether the device was asked at all.
    asked: bool,
}

const fn by_device(unit: u8, address: &'static str, code: u32, words: &'static str) -> Refusal {
    Refusal {
        unit,
        address,
        typed: "1001",
        code: ("failed", Some(code)),
        words,
        asked: true,
    }
}

const NO_ADDRESS: &str = "the unit has no such address (exception 2)";

fn check_refusals(mut peer: Peer, refusals: &[Refusal]) -> Result<()> {
    let common = [
        by_device(2, "holding:1200", 2, NO_ADDRESS),
        by_device(
            9,
            "holding:300",
            11,
            "the gateway got no answer from the unit (exception 11)",
        ),
        Refusal {
            typed: "65536",
            code: ("bad-value", None),
            words: "65536",
            asked: false,
            ..by_device(2, "holding:300", 0, "")
        },
        Refusal {
            code: ("not-writable", None),
            words: "input:300",
            asked: false,
            ..by_device(2, "input:300", 0, "")
        },
    ];
    let all: Vec<&Refusal> = common.iter().chain(refusals).collect();
    let mut tags = String::new();
    for unit in [2, 9] {
        tags.push_str(&format!(
            "[[channel.device]]\nname = \"{unit}\"\naddress = \"{unit}\"\n"
        ));
    }
    for Refusal { unit, address, .. } in &all {
        let access = if address.starts_with("input") {
            "r"
        } else {
            "rw"
        };
        tags.push_str(&format!(
            "[[channel.tag]]\nname = \"{unit} {address}\"\ndevice = \"{unit}\"\naddress = \"{address}\"\n\
             type = \"uint16\"\naccess = \"{access}\"\n"
        ));
    }
    let host = Bulkhead::start(&channel(&peer, "plant", "", &tags))?;
    for refusal in all {
        let Refusal {
            unit,
            address,
            typed,
            ..
        } = refusal;
        let reference = format!("plant/{unit} {address}");
        let before = peer.requests()?;
        let ended = host.client(&["tag", "write", &reference, typed, "--json"])?;
        requests_of(&ended, 1);
        let answer: Value = serde_json::from_str(&ended.err.join(""))
            .with_context(|| format!("{reference}: {ended:?}"))?;
        let (code, device_code) = refusal.code;
        assert_eq!(
            [&answer["error"]["code"], &answer["error"]["device_code"]],
            [&json!(code), &json!(device_code)],
            "{reference}: {answer}"
        );
        let asked = since(&before, &peer.requests()?);
        let expected = if refusal.asked {
            vec![((*unit, 6), 1)]
        } else {
            vec![]
        };
        assert_eq!(asked, expected, "{reference}");

        let ended = host.client(&["tag", "write", &reference, typed])?;
        let told = requests_of(&ended, 1).err.join("\n");
        assert!(
            ended.out.is_empty() && told.starts_with("error: ") && told.contains(refusal.words),
            "{reference}: {told}"
        );
    }
    // A refusal harms nothing that comes after it.
    requests_of(
        &host.client(&["tag", "write", "plant/2 holding:300", "17"])?,
        0,
    );
    assert_eq!(mbpoll::read(peer.port, 2, Table::Holding, 300, 1)?, ["17"]);
    Ok(())
}

#[test]
fn what_pymodbus_refuses_is_told() -> Result<()> {
    check_refusals(
        Peer::pymodbus()?,
        &[by_device(2, "holding:101", 2, NO_ADDRESS)],
    )
}

#[test]
fn what_libmodbus_refuses_is_told() -> Result<()> {
    check_refusals(Peer::libmodbus()?, &[])
}

#[test]
fn what_the_simulated_device_refuses_is_told() -> Result<()> {
    let refusals = [
        by_device(
            2,
            "holding:298",
            3,
            "the unit does not take this quantity or value (exception 3)",
        ),
        by_device(2, "holding:299", 4, "the unit has failed (exception 4)"),
    ];
    let peer = Peer::simulated(&["--units", "1-3", "--registers", "1000"])?;
    check_refusals(peer, &refusals)
}
