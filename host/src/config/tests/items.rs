//! Faults of devices, groups, tags, sinks and their names, and of how many there are.

use std::sync::Arc;

use expect_test::expect;

use super::{CHANNEL, Faults, channel, check, good, grouped, parsed, tag};
use crate::config::Tag;

#[test]
fn devices() {
    check(
        &channel("[[channel.device]]\nadress = \"1\""),
        expect![[r#"
            4:1: channel a, device number 1: `name` is missing; add one such as `name = "press"`
            5:1: channel a, device number 1: unknown key `adress`; did you mean `address`?"#]],
    );
    check(
        &channel(
            "[[channel.device]]\nname = \"a\"\n[[channel.device]]\nname = \"a\"\nlink = \"plc\"",
        ),
        expect![[r#"
            7:8: channel a, device a: device `a` stands on line 5 already; give one of them another name
            8:8: channel a, device a: there is no link `plc`; grant it under `links`, or use one of those there: the channel has no link with a name"#]],
    );
    check(
        &channel(
            "links.plc.connect = \"tcp://plc:1\"\n[[channel.device]]\nname = \"a\"\nlink = \"pcl\"\naddress = 1\nsettings = []",
        ),
        expect![[r#"
            7:8: channel a, device a: there is no link `pcl`; grant it under `links`, or use one of those there: the channel has `plc`
            8:11: channel a, device a: `address` is an integer; write a string such as `address = "1"`
            9:12: channel a, device a: `settings` is an array; write a table such as `settings = { .. }`"#]],
    );
    let many = "[[channel.device]]\nname = \"d\"\n".repeat(4_097);
    let faults = parsed(&channel(&many)).unwrap_err();
    assert!(faults.more > 0 && faults.faults.len() == Faults::MAX);
    let many: String = (0..4_097)
        .map(|n| format!("[[channel.device]]\nname = \"d{n}\"\n"))
        .collect();
    check(
        &channel(&many),
        expect!["8196:1: channel a: more than 4096 devices; split the channel in two"],
    );
}

#[test]
fn groups() {
    check(
        &channel("[[channel.group]]"),
        expect![[r#"
            4:1: channel a, group number 1: `name` is missing; add one such as `name = "fast"`
            4:1: channel a, group number 1: `period` is missing; add one such as `period = "100ms"`
            4:1: channel a, group number 1: the group has no tags; add some under `tags` or in a `tags_file`, or remove the group"#]],
    );
    check(
        &channel(
            "[[channel.group]]\nname = \"g\"\nperiod = \"1ms\"\ntags = []\ntags_file = \"x.csv\"",
        ),
        expect![[r#"
            6:10: channel a, group g: `period` is `1ms`; use 10ms to 1day
            8:13: channel a, group g: `x.csv` cannot be read: there are no files here; name a CSV file"#]],
    );
    check(
        &channel("[[channel.group]]\nname = \"g\"\nperiod = 100\ntags = [\"t\"]"),
        expect![[r#"
            6:10: channel a, group g: `period` is an integer; write a duration with its unit such as "100ms"
            7:9: channel a, group g: `tags` is a string; write tables in it: `tags = [{ .. }]`"#]],
    );
    check(
        &channel("[[channel.group]]\nname = \"g\"\nperiod = \"2d\"\ntags = \"t\""),
        expect![[r#"
            6:10: channel a, group g: `period` is `2d`; use 10ms to 1day
            7:8: channel a, group g: `tags` is a string; write a list of tables: `[[tags]]` with two brackets, or `tags = [{ .. }]`"#]],
    );
    check(
        &format!("{}{}", grouped(""), grouped("").replace(CHANNEL, "")),
        expect![[r#"
            9:8: channel a, group g: group `g` stands on line 5 already; give one of them another name
            11:18: channel a, tag t: tag `t` stands on line 7 already; give one of them another name"#]],
    );
    let many: String = (0..1_025)
        .map(|n| format!("[[channel.group]]\nname = \"g{n}\"\nperiod = \"1s\"\ntags = [{{ name = \"t{n}\", address = \"1\", type = \"bool\" }}]\n"))
        .collect();
    check(
        &channel(&many),
        expect!["4100:1: channel a: more than 1024 groups; split the channel in two"],
    );
}

#[test]
fn tags() {
    check(
        &channel("[[channel.tag]]"),
        expect![[r#"
        4:1: channel a, tag number 1: `address` is missing; add one such as `address = "40001"`
        4:1: channel a, tag number 1: `name` is missing; add one such as `name = "temp"`
        4:1: channel a, tag number 1: `type` is missing; add one such as `type = "float32"`"#]],
    );
    check(
        &tag("adress = \"1\""),
        expect!["8:1: channel a, tag t: unknown key `adress`; did you mean `address`?"],
    );
    check(
        &tag("").replace("\"1\"", "\"\"").replace("int16", "int"),
        expect![[r#"
            6:11: channel a, tag t: `address` is empty; write it as the driver's documentation says
            7:8: channel a, tag t: `int` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`"#]],
    );
    check(
        &tag("")
            .replace("int16", "int16[0]")
            .replace("\"1\"", "40001"),
        expect![[r#"
            6:11: channel a, tag t: `address` is an integer; write a string such as `address = "40001"`
            7:8: channel a, tag t: `int16[0]` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`"#]],
    );
    check(
        &tag("").replace("int16", "bytes[2]"),
        expect![[
            r#"7:8: channel a, tag t: `bytes[2]` is an array of bytes, which no value holds; make each element a tag of type bytes"#
        ]],
    );
    check(
        &tag("access = \"x\"\nreport = \"never\"\nscale = 0\noffset = inf"),
        expect![[r#"
            8:10: channel a, tag t: `access` is `x`; use one of `r`, `w` or `rw`
            9:10: channel a, tag t: `report` is `never`; use one of `always`, `change`, `interval` or `both`
            10:9: channel a, tag t: `scale` is 0, which makes every value the same; use another number
            11:10: channel a, tag t: `offset` is not finite; use a number such as 0.0"#]],
    );
    check(
        &tag("scale = \"0.1\""),
        expect!["8:9: channel a, tag t: `scale` is a string; write a number such as 1.0"],
    );
    check(
        &tag("deadband = 1"),
        expect![[
            r#"8:12: channel a, tag t: `deadband` has no effect as it stands; add `report = "change"`, or remove it"#
        ]],
    );
    check(
        &tag("deadband = -1\nreport = \"change\""),
        expect!["8:12: channel a, tag t: `deadband` is -1; use 0 or more"],
    );
    check(
        &tag("scale = 2\noffset = 1\ndeadband = 1\nreport = \"change\"").replace("int16", "bool"),
        expect![[r#"
            8:9: channel a, tag t: `scale` is for numbers, and the type is `bool`; remove it
            9:10: channel a, tag t: `offset` is for numbers, and the type is `bool`; remove it
            10:12: channel a, tag t: `deadband` is for numbers, and the type is `bool`; remove it"#]],
    );
    check(
        &tag(&format!("unit = \"{}\"\ndescription = 1", "x".repeat(65))),
        expect![[r#"
            8:8: channel a, tag t: `unit` is longer than 64 characters; shorten it
            9:15: channel a, tag t: `description` is an integer; write a string such as `description = "oil, before the filter"`"#]],
    );
    check(
        &grouped(r#", access = "w""#),
        expect![[
            r#"7:63: channel a, tag t: a tag that can only be written cannot be polled; make it "rw", or move it to `[[channel.tag]]`"#
        ]],
    );
    check(&tag("access = \"w\""), expect![["in order"]]);
}

#[test]
fn reports_bits_and_bounds() {
    check(
        &tag(
            "report = \"both\"\ninterval = \"10s\"\nmax_silence = \"1m\"\nlimits = [0, 50.5]\ndeadband = \"2%\"\nclamp = [-1, 100]",
        ),
        expect!["in order"],
    );
    check(&tag("mask = \"0xff00\""), expect!["in order"]);
    check(&tag("bit = 15"), expect!["in order"]);
    check(
        &tag("bit = 16"),
        expect!["8:7: channel a, tag t: `bit` is `16`; use 0 to 15"],
    );
    check(
        &tag("bit = 1\nmask = \"0x2\""),
        expect!["8:7: channel a, tag t: `bit` and `mask` exclude one another; remove one"],
    );
    check(
        &tag("bit = 1\nscale = 2\nlimits = [0, 1]"),
        expect![[r#"
        9:9: channel a, tag t: `scale` is for numbers, and the type is `bool`; remove it
        10:10: channel a, tag t: `limits` is for numbers, and the type is `bool`; remove it"#]],
    );
    check(
        &tag("bit = 1\naccess = \"rw\""),
        expect![[
            r#"8:7: channel a, tag t: a tag with `bit` can only be read: the rest of the number would have to be written with it; make it `access = "r"`, or address the bits themselves if the driver can"#
        ]],
    );
    check(
        &tag("mask = \"0x0\""),
        expect![[
            r#"8:8: channel a, tag t: `mask` is `0x0`; use the bits of `int16` as a hexadecimal number, "0x1" to "0xffff""#
        ]],
    );
    check(
        &tag("mask = \"0x10000\""),
        expect![[
            r#"8:8: channel a, tag t: `mask` is `0x10000`; use the bits of `int16` as a hexadecimal number, "0x1" to "0xffff""#
        ]],
    );
    check(
        &tag("mask = \"ff\""),
        expect![[
            r#"8:8: channel a, tag t: `mask` is `ff`; use the bits of `int16` as a hexadecimal number, "0x1" to "0xffff""#
        ]],
    );
    check(
        &tag("mask = \"0x+1\""),
        expect![[
            r#"8:8: channel a, tag t: `mask` is `0x+1`; use the bits of `int16` as a hexadecimal number, "0x1" to "0xffff""#
        ]],
    );
    check(
        &tag("mask = \"0xg\""),
        expect![[
            r#"8:8: channel a, tag t: `mask` is `0xg`; use the bits of `int16` as a hexadecimal number, "0x1" to "0xffff""#
        ]],
    );
    check(
        &tag("mask = \"0x1\"").replace("int16", "float32"),
        expect![
            "8:8: channel a, tag t: `mask` is for whole numbers, and the type is `float32`; remove it"
        ],
    );
    check(
        &tag(r#"limits = [1]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = [1, 1]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = [2, 1]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = [0, inf]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = ["0", 1]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = 1"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag(r#"limits = [0, 1, 2]"#),
        expect![
            "8:10: channel a, tag t: `limits` is no pair of numbers, the lower one first; write one such as `limits = [0, 100]`"
        ],
    );
    check(
        &tag("report = \"interval\""),
        expect![[
            r#"8:10: channel a, tag t: `report = "interval"` needs an `interval`; add one such as `interval = "10s"`"#
        ]],
    );
    check(
        &tag("interval = \"1s\"\nmax_silence = \"1s\""),
        expect![[r#"
            8:12: channel a, tag t: `interval` has no effect as it stands; add `report = "interval"` or `"both"`, or remove it
            9:15: channel a, tag t: `max_silence` has no effect as it stands: every sample is reported; add `report = "change"`, or remove it"#]],
    );
    check(
        &tag("write_interval = \"1s\""),
        expect![[
            r#"8:18: channel a, tag t: `write_interval` has no effect as it stands: the tag is not written; add `access = "rw"`, or remove it"#
        ]],
    );
    check(
        &tag("access = \"rw\"\nwrite_interval = \"2d\""),
        expect!["9:18: channel a, tag t: `write_interval` is `2d`; use 10ms to 1day"],
    );
    check(
        &tag("access = \"w\"\nwrite_interval = \"10500us\""),
        expect!["in order"],
    );
    check(
        &tag("report = \"change\"\ndeadband = \"2%\""),
        expect![
            "9:12: channel a, tag t: a `deadband` in percent is one of the tag's `limits`; add them, such as `limits = [0, 100]`, or write a number in its units"
        ],
    );
    check(
        &tag("report = \"change\"\nlimits = [0, 1]\ndeadband = \"2\""),
        expect![[
            r#"10:12: channel a, tag t: `deadband` is `2`; use a number in the units of the tag, or "0%" to "100%" of its `limits`"#
        ]],
    );
    check(
        &tag("report = \"change\"\nlimits = [0, 1]\ndeadband = \"101%\""),
        expect![[
            r#"10:12: channel a, tag t: `deadband` is `101%`; use a number in the units of the tag, or "0%" to "100%" of its `limits`"#
        ]],
    );
    check(
        &tag("report = \"change\"\nlimits = [0, 1]\ndeadband = \"-1%\""),
        expect![[
            r#"10:12: channel a, tag t: `deadband` is `-1%`; use a number in the units of the tag, or "0%" to "100%" of its `limits`"#
        ]],
    );
    check(
        &tag("report = \"change\"\nlimits = [0, 1]\ndeadband = \"x%\""),
        expect![[
            r#"10:12: channel a, tag t: `deadband` is `x%`; use a number in the units of the tag, or "0%" to "100%" of its `limits`"#
        ]],
    );
}

#[test]
fn names() {
    for (name, expected) in [
        (
            "",
            expect![
                "5:8: channel a, tag number 1: the name is empty; use 1 to 128 characters without `/`, control characters and outer blanks"
            ],
        ),
        (
            "a/b",
            expect![
                "5:8: channel a, tag a/b: the name contains `/`, which parts a channel from its tag; use 1 to 128 characters without `/`, control characters and outer blanks"
            ],
        ),
        (
            r"a\n\u001b[31mb",
            expect![[
                r#"5:8: channel a, tag a\n\u{1b}[31mb: the name contains a control character; use 1 to 128 characters without `/`, control characters and outer blanks"#
            ]],
        ),
        (
            " a",
            expect![
                "5:8: channel a, tag  a: the name begins or ends with a blank; use 1 to 128 characters without `/`, control characters and outer blanks"
            ],
        ),
        ("Druck Öl (bar)", expect![["in order"]]),
        (&"ö".repeat(128), expect![["in order"]]),
        (
            &"ö".repeat(129),
            expect![
                "5:8: channel a, tag öööööööööööööööööööööööööööööööööööööööööööööööööööööööööööö…: the name is too long; use 1 to 128 characters without `/`, control characters and outer blanks"
            ],
        ),
    ] {
        check(&tag("").replace("\"t\"", &format!("\"{name}\"")), expected);
    }
    check(
        &format!("{}{}", grouped(""), tag("").replace(CHANNEL, "")),
        expect![
            "9:8: channel a, tag t: tag `t` stands on line 7 already; give one of them another name"
        ],
    );
}

#[test]
fn a_tag_says_which_of_several_devices_it_means() {
    let devices = "[[channel.device]]\nname = \"a\"\n[[channel.device]]\nname = \"b\"\n";
    let with = |text: String| text.replace(CHANNEL, &format!("{CHANNEL}{devices}"));
    check(
        &with(grouped("")),
        expect![[
            r#"8:1: channel a, group g: the channel has several devices, and the group does not say which it means; add `device = ".."` with one of `a`, `b`"#
        ]],
    );
    check(
        &with(tag("")),
        expect![[
            r#"8:1: channel a, tag t: the channel has several devices, and the tag does not say which it means; add `device = ".."` with one of `a`, `b`"#
        ]],
    );
    check(&with(tag("device = \"b\"")), expect![["in order"]]);
    check(
        &with(tag("device = \"c\"")),
        expect!["12:10: channel a, tag t: there is no device `c`; the channel has `a`, `b`"],
    );
    check(
        &tag("device = \"c\""),
        expect!["8:10: channel a, tag t: there is no device `c`; the channel has `a`"],
    );
    let half = grouped("").replace(
        "}]",
        r#"}, { name = "u", address = "1", type = "bool", device = "b" }]"#,
    );
    check(
        &with(half),
        expect![[
            r#"11:9: channel a, tag t: the channel has several devices, and the tag does not say which it means; add `device = ".."` with one of `a`, `b`"#
        ]],
    );
    let group = with(grouped("").replace("period", "device = \"b\"\nperiod"));
    assert_eq!(good(&group).channels[0].tags[0].device.0, 1);
}

#[test]
fn sinks() {
    check(
        &channel("[[sink]]"),
        expect![[r#"4:1: sink number 1: `kind` is missing; add one such as `kind = "stdout"`"#]],
    );
    check(
        &channel("[[sink]]\nkind = \"sparkplug\"\nurl = \"mqtt://127.0.0.1:1883\""),
        expect![
            "5:8: sink sparkplug: the kind `sparkplug` is not supported yet by this version; use `stdout`, `file`, `mqtt`, `postgres` or `nats`"
        ],
    );
    check(
        &channel("[[sink]]\nkind = \"kafka\""),
        expect![
            "5:8: sink kafka: there is no kind of sink `kafka`; use `stdout`, `file`, `mqtt`, `postgres` or `nats`"
        ],
    );
    check(
        &channel("[[sink]]\nkind = \"stdout\"\npath = \"x\"\nqueue = 0"),
        expect![[r#"
            6:1: sink stdout: unknown key `path`; remove it, or use one of `kind`, `name`, `queue`, `channels`, `groups`, `tags`, `batch`, `linger` or `outbox`
            7:9: sink stdout: `queue` is `0`; use 1 to 65536"#]],
    );
    check(
        &channel("[[sink]]\nkind = \"file\"\nname = \"a/b\""),
        expect![[r#"
            4:1: sink a/b: `path` is missing; add one such as `path = "samples.jsonl"`
            6:8: sink a/b: the name contains `/`, which parts a channel from its tag; use 1 to 128 characters without `/`, control characters and outer blanks"#]],
    );
    check(
        &channel("[[sink]]\nkind = \"stdout\"\n[[sink]]\nkind = \"stdout\""),
        expect![
            "7:8: sink stdout: sink `stdout` stands on line 5 already; give one of them another name"
        ],
    );
    check(
        &channel(
            "[[sink]]\nkind = \"file\"\npath = \"x\"\n[[sink]]\nkind = \"file\"\nname = \"b\"\npath = \"x\"",
        ),
        expect!["10:8: sink b: the sink on line 4 writes this file already; use another path"],
    );
    let many: String = (0..65)
        .map(|n| {
            format!(
                "[[sink]]
kind = \"stdout\"
name = \"s{n}\"
"
            )
        })
        .collect();
    check(
        &channel(&many),
        expect!["196:1: more than 64 sinks; remove some"],
    );
}

#[test]
fn totals_are_bounded() {
    let many: String = (0..10_001)
        .map(|n| format!("[[channel]]\nid = \"c{n}\"\ndriver = \"d\"\n"))
        .collect();
    check(
        &many,
        expect![
            "30001:1: more than 10000 channels; move the rest to another host, with a file of its own"
        ],
    );
    let tags: String = (0..100_001)
        .map(|n| format!("{{name=\"{n}\",address=\"1\",type=\"bool\"}},"))
        .collect();
    let group = "[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags = [";
    check(
        &channel(&format!("{group}\n{tags}]")),
        expect![
            "8:3888891: channel a, group g: more than 100000 tags; move the rest to another host"
        ],
    );
}

/// What was read goes back as a whole where nothing of it is kept.
#[test]
fn gathered_tags_are_the_same_and_share_as_before() {
    let tag = |name: &str, more: &str| {
        format!("{{ name = \"{name}\", address = \"1\", type = \"int16\"{more} }},")
    };
    let tags = tag("a", ", settings = { x = 0.0 }")
        + &tag("b", ", settings = { x = 0.0 }, description = \"left\"")
        + &tag("c", ", settings = { x = -0.0 }, unit = \"bar\"");
    let group = format!("[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags = [{tags}]");
    let read = parsed(&channel(&group)).unwrap().value;
    let from = read.channels[0].tags.clone();
    let same = read.clone();
    let gathered = read.gathered();
    assert_eq!(gathered, same);
    let to = gathered.channels[0].tags.clone();
    for tags in [&from, &to] {
        assert!(Arc::ptr_eq(&tags[0].treatment, &tags[1].treatment));
        assert!(Arc::ptr_eq(&tags[0].settings, &tags[1].settings));
        assert!(!Arc::ptr_eq(&tags[0].settings, &tags[2].settings));
    }
    for (one, other) in from.iter().zip(to.iter()) {
        assert!(!Arc::ptr_eq(&one.treatment, &other.treatment));
        assert!(!Arc::ptr_eq(&one.settings, &other.settings));
        assert!(!std::ptr::eq(one.name.as_ptr(), other.name.as_ptr()));
    }
}

/// There may be a hundred thousand tags, and most are treated like others.
#[test]
fn tags_that_are_treated_alike_share_their_treatment() {
    let units: Vec<String> = (0..40).map(|number| format!("u{}", number % 20)).collect();
    let with_units = |units: &[String]| {
        let tag = |(number, unit): (usize, &String)| {
            format!(
                "{{ name = \"t{number}\", address = \"1\", type = \"int16\", scale = 0.1, unit = \"{unit}\" }},"
            )
        };
        let tags: String = units.iter().enumerate().map(tag).collect();
        let group = format!("[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags = [{tags}]");
        let config = parsed(&channel(&group)).unwrap().value;
        config.channels[0].tags.clone()
    };
    let same = |one: &Tag, other: &Tag| Arc::ptr_eq(&one.treatment, &other.treatment);
    let tags = with_units(&["bar".into(), "°C".into(), "bar".into(), "°C".into()]);
    assert!(same(&tags[0], &tags[2]) && same(&tags[1], &tags[3]) && !same(&tags[0], &tags[1]));
    // With more than are looked at each is right all the same.
    for (tag, unit) in with_units(&units).iter().zip(&units) {
        assert_eq!((&tag.treatment.unit, tag.treatment.scale), (unit, 0.1));
    }
}
