//! Files of tags: every fault at once with its row and column, and the rules of tags as in TOML. Out to CSV and in again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::super::{Import, ImportError, Spot, TagsFile, parse_with_files, rows, tag as tags};
use super::{CHANNEL, Checked, Faults, Host, Origin, PathBuf, QUICKSTART, TAG, channel};
use crate::ids::ChannelId;

/// A group whose tags stand in a file.
const GROUP: &str = "[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags_file = \"press.csv\"\n";

fn origin() -> Origin {
    Origin {
        name: "plant.toml".into(),
        folder: PathBuf::from("/plant"),
    }
}

/// Reads files out of a list.
fn reader<'a>(files: &'a [(&'a str, &'a [u8])]) -> impl Fn(&Path) -> io::Result<TagsFile> + 'a {
    move |path| {
        let found = files
            .iter()
            .find(|(name, _)| Path::new("/plant").join(name) == path);
        let (name, bytes) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(TagsFile {
            name: (*name).to_owned(),
            bytes: bytes.to_vec(),
        })
    }
}

fn with(toml: &str, csv: &[u8]) -> Result<Checked<Host>, Faults> {
    parse_with_files(toml, &origin(), &reader(&[("press.csv", csv)]))
}

fn good(toml: &str, csv: &str) -> Checked<Host> {
    with(toml, csv.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
}

/// A channel whose only group has its tags in this file.
fn check(csv: &str, expected: Expect) {
    check_in(&channel(GROUP), csv.as_bytes(), expected);
}

fn check_in(toml: &str, csv: &[u8], expected: Expect) {
    let found = match with(toml, csv) {
        Ok(checked) => format!("in order: {} tags", checked.value.channels[0].tags.len()),
        Err(faults) => faults.to_string(),
    };
    expected.assert_eq(&found);
}

#[test]
fn a_row_is_the_tag_that_a_table_is() {
    let csv = "name,address,type,device,access,settings,scale,offset,mask,clamp,limits,report,deadband,interval,max_silence,unit,description\n\
        temp,40001,int16,press,r,\"{ order = \"\"cdab\"\", deep = [1, 2.5] }\",0.1,-5,0x0ff0,-10..200.5,0..1e2,both,2%,1m 30s,1h,°C,\"oil, before\nthe filter\"\n\
        door,10001,bool,,,,,,,,,,,,,,\n\
        held,40002,float64[2],press,rw,{ order = 'abcd' },,,,,,change,0.5,,,bar,\n";
    let toml = r#"
        { name = "temp", address = "40001", type = "int16", device = "press", access = "r", settings = { order = "cdab", deep = [1, 2.5] },
          scale = 0.1, offset = -5, mask = "0x0ff0", clamp = [-10, 200.5], limits = [0, 1e2], report = "both", deadband = "2%",
          interval = "1m 30s", max_silence = "1h", unit = "°C", description = "oil, before\nthe filter" },
        { name = "door", address = "10001", type = "bool" },
        { name = "held", address = "40002", type = "float64[2]", device = "press", access = "rw", settings = { order = "abcd" },
          report = "change", deadband = 0.5, unit = "bar" },
    "#;
    let toml = toml.replace("\n          ", " ");
    let device = "[[channel.device]]\nname = \"press\"\n";
    let from_toml = channel(&format!(
        "{device}{}",
        GROUP.replace("tags_file = \"press.csv\"", &format!("tags = [{toml}]"))
    ));
    let from_file = channel(&format!("{device}{GROUP}"));
    let expected = good(&from_toml, "").value;
    assert_eq!(expected.channels[0].tags.len(), 3);
    // However spreadsheets write it.
    let semicolons = csv.replace(", ", "\u{1}").replace(',', ";");
    let semicolons = semicolons.replace('\u{1}', ", ");
    for csv in [
        csv.to_owned(),
        format!("\u{feff}{csv}"),
        csv.replace(",,\n", ",,\r\n")
            .replace("description\n", "description\r\n"),
        format!("\n{csv},,,,,,,,,,,,,,,,\n\n"),
        csv.trim_end().to_owned(),
        csv.replace("name,address,type", "\"name\",address, type ")
            .replace("40001", "\"40001\""),
        csv.replace("description\n", "description,,\n")
            .replace(",,\n", ",,,,\n"),
        semicolons,
    ] {
        assert_eq!(good(&from_file, &csv).value, expected, "{csv}");
    }
    // Outside of groups too, and beside tags of TOML.
    let beside = channel(&format!(
        "tags_file = \"press.csv\"\n{device}[[channel.tag]]\n{}\n",
        TAG.replace(", ", "\n")
    ));
    let tags = good(&beside, csv).value.channels.remove(0).tags;
    assert_eq!(tags[0].name, "t");
    assert_eq!(tags[1..], expected.channels[0].tags);
    let both = channel(&format!("{device}{GROUP}tags = [{{ {TAG} }}]"));
    let host = good(&both, csv).value;
    let names: Vec<&str> = host.channels[0].tags.iter().map(|tag| &*tag.name).collect();
    assert_eq!(names, ["t", "temp", "door", "held"]);
    assert_eq!(host.channels[0].groups[0].tags.len(), 4);
}

#[test]
fn one_file_serves_many_channels() {
    let csv = "name,address,type\ntemp,1,int16\nflow,2,int16\n";
    let second = channel(GROUP).replace("id = \"a\"", "id = \"b\"");
    let host = good(&format!("{}{second}", channel(GROUP)), csv).value;
    assert_eq!(host.channels[0].tags, host.channels[1].tags);
    assert_eq!(host.channels[1].tags.len(), 2);
    let twice = channel(&format!(
        "{GROUP}{}",
        GROUP.replace("\"g\"", "\"h\"").replace("1s", "2s")
    ));
    check_in(
        &twice,
        csv.as_bytes(),
        expect![
            "plant.toml:11:13: channel a, group h: these are the tags of channel a, group g already, and a name stands once in a channel; name another file"
        ],
    );
}

#[test]
fn faults_have_the_file_the_row_and_the_column() {
    check(
        "name,address,type,access,scale,offset,bit,mask,clamp,limits,report,deadband,interval,max_silence,unit,settings\n\
         ,1,int16,,,,,,,,,,,,,\n\
         a/b,1,int16,,,,,,,,,,,,,\n\
         t1,,int16,,,,,,,,,,,,,\n\
         t2,1,int,,,,,,,,,,,,,\n\
         t3,1,int16,rwx,,,,,,,,,,,,\n\
         t4,1,int16,w,,,,,,,,,,,,\n\
         t5,1,int16,,0,,,,,,,,,,,\n\
         t6,1,int16,,\"0,1\",x,,,,,,,,,,\n\
         t7,1,int16,,inf,,,,,,,,,,,\n\
         t8,1,int16,,,,16,,,,,,,,,\n\
         t9,1,int16,,,,1.5,,,,,,,,,\n\
         t10,1,int16,rw,,,1,0x1,,,,,,,,\n\
         t11,1,int16,rw,,,,0x1,,,,,,,,\n\
         t12,1,int16,,,,,,100..0,\"[0, 100]\",,,,,,\n\
         t13,1,bool,,2,,,,0..1,,,,,,,\n\
         t14,1,int16,,,,,,,,change,2%,,,,\n\
         t15,1,int16,,,,,,,,,1,1s,1s,,\n\
         t16,1,int16,,,,,,,,interval,,,,,\n\
         t17,1,int16,,,,,,,,interval,,5,,,\n\
         t18,1,int16,,,,,,,,,,,,,order\n\
         t19,1,int16,,,,,,,,,,,,,{ order = cdab }\n\
         t20,1,int16,,,,,,,,,,,,,{ n = inf }\n\
         t1,1,int16,,,,,,,,,,,,,\n",
        expect![[r#"
            press.csv:2:1: channel a, group g, tag number 1, column name: `name` is missing; add one such as `temp` under `name`
            press.csv:3:1: channel a, tag a/b, column name: the name contains `/`, which parts a channel from its tag; use 1 to 128 characters without `/`, control characters and outer blanks
            press.csv:4:1: channel a, tag t1, column address: `address` is missing; add one such as `40001` under `address`
            press.csv:5:6: channel a, tag t2, column type: `int` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`
            press.csv:6:12: channel a, tag t3, column access: `access` is `rwx`; use one of `r`, `w` or `rw`
            press.csv:7:12: channel a, tag t4, column access: a tag that can only be written cannot be polled; make it "rw", or move it to `[[channel.tag]]`
            press.csv:8:13: channel a, tag t5, column scale: `scale` is 0, which makes every value the same; use another number
            press.csv:9:13: channel a, tag t6, column scale: `scale` is `0,1`; write a number such as 1.0
            press.csv:9:19: channel a, tag t6, column offset: `offset` is `x`; write a number such as 0.0
            press.csv:10:13: channel a, tag t7, column scale: `scale` is not finite; use a number such as 1.0
            press.csv:11:15: channel a, tag t8, column bit: `bit` is `16`; use 0 to 15
            press.csv:12:15: channel a, tag t9, column bit: `bit` is a float; write a whole number such as 0
            press.csv:13:18: channel a, tag t10, column bit: `bit` and `mask` exclude one another; remove one
            press.csv:14:19: channel a, tag t11, column mask: a tag with `mask` can only be read: the rest of the number would have to be written with it; make it `r` under `access`, or address the bits themselves if the driver can
            press.csv:15:18: channel a, tag t12, column clamp: `clamp` is no pair of numbers, the lower one first; write one such as `0..100` under `clamp`
            press.csv:15:25: channel a, tag t12, column limits: `limits` is no pair of numbers, the lower one first; write one such as `0..100` under `limits`
            press.csv:16:13: channel a, tag t13, column scale: `scale` is for numbers, and the type is `bool`; remove it
            press.csv:16:18: channel a, tag t13, column clamp: `clamp` is for numbers, and the type is `bool`; remove it
            press.csv:17:27: channel a, tag t14, column deadband: a `deadband` in percent is one of the tag's `limits`; add them, such as `0..100` under `limits`, or write a number in its units
            press.csv:18:21: channel a, tag t15, column deadband: `deadband` has no effect as it stands; add `change` under `report`, or remove it
            press.csv:18:23: channel a, tag t15, column interval: `interval` has no effect as it stands; add `interval` under `report` or `both`, or remove it
            press.csv:18:26: channel a, tag t15, column max_silence: `max_silence` has no effect as it stands: every sample is reported; add `change` under `report`, or remove it
            press.csv:19:20: channel a, tag t16, column report: `interval` under `report` needs an `interval`; add one such as `10s` under `interval`
            press.csv:20:30: channel a, tag t17, column interval: `interval` is `5`, which is no duration; write one with its unit such as "10s"
            press.csv:21:25: column settings: `settings` is `order`: not valid TOML: string values must be quoted, expected literal string; see toml.io for how it is written
            press.csv:22:25: column settings: `settings` is `{ order = cdab }`: not valid TOML: string values must be quoted, expected literal string; see toml.io for how it is written
            press.csv:23:25: column settings: a number in the settings is not finite, which JSON cannot carry; write it as a string
            press.csv:24:1: channel a, tag t1, column name: tag `t1` stands on line 4 already; give one of them another name"#]],
    );
}

#[test]
fn faults_of_both_files_come_at_once() {
    check_in(
        &channel(&format!(
            "[[channel.device]]\nname = \"p\"\n[[channel.device]]\nname = \"q\"\n{GROUP}tags = [{{ name = \"t\", adress = \"1\", type = \"int16\" }}]"
        )),
        b"name,adress,device,type,scale,scale,colour\nt,1,p,int16,2,3,red\nu,2,,int16,,,\nv,3,r,bool,,,\n",
        expect![[r#"
            plant.toml:8:1: channel a, group g: the channel has several devices, and the group does not say which it means; add `device = ".."` with one of `p`, `q`
            plant.toml:12:9: channel a, tag t: `address` is missing; add one such as `address = "40001"`
            plant.toml:12:23: channel a, tag t: unknown key `adress`; did you mean `address`?
            press.csv:1:1: header: there is no column `address`; add it
            press.csv:1:6: header: unknown column `adress`; did you mean `address`?
            press.csv:1:31: header: the column `scale` stands twice; remove one
            press.csv:1:37: header: unknown column `colour`; remove it, or use one of `name`, `address`, `type`, `device`, `access`, `settings`, `scale`, `offset`, `mask`, `bit`, `clamp`, `limits`, `report`, `deadband`, `interval`, `max_silence`, `unit` or `description`"#]],
    );
    check_in(
        &channel(&format!(
            "[[channel.device]]\nname = \"p\"\n[[channel.device]]\nname = \"q\"\n{GROUP}tags = [{{ {TAG}, device = \"p\" }}]"
        )),
        b"name,address,device,type,scale,scale,colour\nt,1,p,int16,2,3,red\nu,2,,int16,,,\nv,3,r,bool,x,,\n",
        expect![[r#"
            press.csv:1:32: header: the column `scale` stands twice; remove one
            press.csv:1:38: header: unknown column `colour`; remove it, or use one of `name`, `address`, `type`, `device`, `access`, `settings`, `scale`, `offset`, `mask`, `bit`, `clamp`, `limits`, `report`, `deadband`, `interval`, `max_silence`, `unit` or `description`
            press.csv:2:1: channel a, tag t, column name: tag `t` stands on line 12 of plant.toml already; give one of them another name
            press.csv:3:1: channel a, tag u: the channel has several devices, and the tag does not say which it means; add `..` under `device` with one of `p`, `q`
            press.csv:4:5: channel a, tag v, column device: there is no device `r`; the channel has `p`, `q`
            press.csv:4:12: channel a, tag v, column scale: `scale` is `x`; write a number such as 1.0
            press.csv:4:12: channel a, tag v, column scale: `scale` is for numbers, and the type is `bool`; remove it"#]],
    );
    let faults = with(&channel(GROUP), b"name,address,type\nt,1,int\n").unwrap_err();
    expect![[r#"
        {
          "file": "plant.toml",
          "faults": [
            {
              "file": "press.csv",
              "line": 2,
              "column": 5,
              "at": "channel a, tag t, column type",
              "message": "`int` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`"
            }
          ],
          "more": 0
        }"#]].assert_eq(&serde_json::to_string_pretty(&faults).unwrap());
}

#[test]
fn faults_of_the_form() {
    check(
        "",
        expect![
            "press.csv:1:1: the file is empty; begin it with a row that names the columns, such as `name,address,type`"
        ],
    );
    check(
        "\n\r\n",
        expect![
            "press.csv:1:1: the file is empty; begin it with a row that names the columns, such as `name,address,type`"
        ],
    );
    check(
        "temp,40001,int16\nflow,40002,int16\n",
        expect![
            "press.csv:1:1: the first row of the file names no column of a tag; begin it with a row that names the columns, such as `name,address,type`"
        ],
    );
    check(
        "name\taddress\ttype\nt\t1\tint16\n",
        expect![
            "press.csv:1:1: the first row of the file names no column of a tag; begin it with a row that names the columns, such as `name,address,type`"
        ],
    );
    check(
        "name,address,type\n",
        expect![
            "plant.toml:7:13: channel a, group g: the group has no tags; add a row for each to the file, or remove the group"
        ],
    );
    check(
        "name,address,type\n,,\n",
        expect![
            "plant.toml:7:13: channel a, group g: the group has no tags; add a row for each to the file, or remove the group"
        ],
    );
    // What a cell is must be clear.
    check(
        "name,address,type\nt,1\nu,1,int16,x\nv,1,int16,,\nw,\"1\"2,int16\nx,\"a \"\"b\"\"\",int16\ny,5\" pipe,int16\n",
        expect![[r#"
            press.csv:2:1: the row has 2 cells, and the header has 3 columns; write a separator for each empty cell too
            press.csv:3:11: the cell has no column; name one in the header, or put the separators of the row right
            press.csv:5:3: column address: the cell begins with a quote and does not end with one; close it, and write each quote within the cell twice"#]],
    );
    check(
        "name,address,type\nt,\"1,int16\nu,2,int16\n",
        expect![
            "press.csv:2:3: column address: the cell begins with a quote and does not end with one; close it, and write each quote within the cell twice"
        ],
    );
    check(
        "name,address,type,\"unit\nt,1,int16,C\n",
        expect![[r#"
        plant.toml:7:13: channel a, group g: the group has no tags; add a row for each to the file, or remove the group
        press.csv:1:19: header: the cell begins with a quote and does not end with one; close it, and write each quote within the cell twice"#]],
    );
    check(
        "name,address,type,,unit\nt,1,int16,,C\nu,1,int16,x,C\n",
        expect![
            "press.csv:3:11: the cell has no column; name one in the header, or put the separators of the row right"
        ],
    );
    // Lines within quotes are lines of the file.
    check(
        "name,address,type,description\r\nt,1,int16,\"one\r\ntwo\nthree\"\r\nu,1,int,\"é\"\r\n",
        expect![
            "press.csv:5:5: channel a, tag u, column type: `int` is no type; use one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, string, bytes, or one with a number of elements such as `int16[8]`"
        ],
    );
    check(
        &format!("name{}", ",".repeat(300)),
        expect!["press.csv:1:1: header: more than 256 columns; remove those without a name"],
    );
}

#[test]
fn faults_of_the_file_itself() {
    let here = channel(GROUP);
    check_in(
        &here,
        b"name,address,type,unit\nt,1,int16,bar\nu,1,int16,\xb0C\n",
        expect!["press.csv:3:11: no text in UTF-8 from here on; save the file as CSV in UTF-8"],
    );
    check_in(
        &here,
        b"\xff\xfen\0a\0m\0e\0",
        expect!["press.csv:1:1: no text in UTF-8 from here on; save the file as CSV in UTF-8"],
    );
    let large = vec![b'x'; super::super::MAX_BYTES + 1];
    check_in(
        &here,
        &large,
        expect!["press.csv:1:1: the file is larger than 16MiB; split it over several groups"],
    );
    check_in(
        &here.replace("press.csv", "nowhere.csv"),
        b"",
        expect![
            "plant.toml:7:13: channel a, group g: `nowhere.csv` cannot be read: entity not found; check the path, which begins in the folder of this file"
        ],
    );
    check_in(
        &here.replace("\"press.csv\"", "\"\""),
        b"",
        expect![[
            r#"plant.toml:7:13: channel a, group g: `tags_file` is no path; write one such as "press.csv""#
        ]],
    );
    check_in(
        &here.replace("\"press.csv\"", "1"),
        b"",
        expect![[
            r#"plant.toml:7:13: channel a, group g: `tags_file` is an integer; write a string such as `tags_file = "press.csv"`"#
        ]],
    );
    check_in(
        &channel("tags_file = \"nowhere.csv\""),
        b"",
        expect![
            "plant.toml:4:13: channel a: `nowhere.csv` cannot be read: entity not found; check the path, which begins in the folder of this file"
        ],
    );
    check_in(
        &channel("tags_file = \"press.csv\""),
        b"name,address,type\n",
        expect!["in order: 0 tags"],
    );
    // All together.
    let whole: Vec<u8> = b"name,address,type\n"
        .iter()
        .copied()
        .chain(std::iter::repeat_n(b'\n', super::super::MAX_BYTES - 18))
        .collect();
    let groups: String = (0..5)
        .map(|n| {
            GROUP
                .replace("\"g\"", &format!("\"g{n}\""))
                .replace("press", &format!("press{n}"))
        })
        .collect();
    let files: Vec<(String, &[u8])> = (0..5).map(|n| (format!("press{n}.csv"), &*whole)).collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (&**name, *bytes))
        .collect();
    let faults = parse_with_files(&channel(&groups), &origin(), &reader(&files)).unwrap_err();
    expect![[r#"
        plant.toml:7:13: channel a, group g0: the group has no tags; add a row for each to the file, or remove the group
        plant.toml:11:13: channel a, group g1: the group has no tags; add a row for each to the file, or remove the group
        plant.toml:15:13: channel a, group g2: the group has no tags; add a row for each to the file, or remove the group
        plant.toml:19:13: channel a, group g3: the group has no tags; add a row for each to the file, or remove the group
        plant.toml:23:13: channel a, group g4: the files of tags hold more than 64MiB together; split the plant over several hosts"#]].assert_eq(&faults.to_string());
}

#[test]
fn a_hundred_thousand_rows_are_read_and_no_more() {
    let mut csv = "name,address,type,scale,report,deadband,unit\n".to_owned();
    for n in 0..100_000 {
        writeln!(csv, "tag {n},{n},int16,0.1,change,0.5,°C").unwrap();
    }
    let checked = good(&channel(GROUP), &csv);
    let channel_a = &checked.value.channels[0];
    assert_eq!(
        (channel_a.tags.len(), channel_a.groups[0].tags.len()),
        (100_000, 100_000)
    );
    assert_eq!(channel_a.tags[99_999].name, "tag 99999");
    let place = checked
        .locations
        .locate(&channel_a.id, "tag tag 99999.scale")
        .unwrap();
    assert_eq!(
        (
            place.file.as_deref(),
            place.position.line,
            place.position.column
        ),
        (Some("press.csv"), 100_001, 23)
    );
    // One more, whether in the same file or in TOML.
    let more = format!("{csv}one,1,int16,,,,\ntwo,1,int16,,,,\n");
    check(
        &more,
        expect!["press.csv:100002:1: more than 100000 tags; move the rest to another host"],
    );
    check_in(
        &channel(&format!("{GROUP}tags = [{{ {TAG} }}]")),
        csv.as_bytes(),
        expect![
            "press.csv:100001:1: channel a, group g: more than 100000 tags; move the rest to another host"
        ],
    );
    // Where every row is at fault, the first thousand are told.
    let faults = with(&channel(GROUP), csv.replace("int16", "int17").as_bytes()).unwrap_err();
    assert_eq!((faults.faults.len(), faults.more), (1_000, 99_000));
    assert_eq!(faults.faults[999].position.line, 1_001);
}

#[test]
fn later_faults_find_their_row() {
    let csv =
        "name,address,type,settings\ntemp,1,int16,{ order = 'x' }\n\"temp.address\",\"2\",int16,\n";
    let toml = channel(&format!(
        "tags_file = \"free.csv\"\n{GROUP}tags = [{{ {TAG} }}]"
    ));
    let files: [(&str, &[u8]); 2] = [
        ("press.csv", csv.as_bytes()),
        (
            "free.csv",
            b"\xef\xbb\xbfaddress;name;type\r\n9;\xc2\xb0C;bool\r\n",
        ),
    ];
    let checked = parse_with_files(&toml, &origin(), &reader(&files))
        .unwrap_or_else(|faults| panic!("{faults}"));
    let id = ChannelId::new("a").unwrap();
    let place = |at: &str| {
        let place = checked.locations.locate(&id, at).unwrap();
        let file = place.file.unwrap_or_else(|| "plant.toml".into());
        format!("{file}:{}:{}", place.position.line, place.position.column)
    };
    for (at, expected) in [
        ("tag temp", "press.csv:2:1"),
        ("tag temp.type", "press.csv:2:8"),
        ("tag temp.settings.order[1]", "press.csv:2:14"),
        ("tag temp.address", "press.csv:2:6"),
        ("tag temp.address.address", "press.csv:3:16"),
        ("tag temp.scale", "press.csv:2:1"),
        ("tag °C.address", "free.csv:2:1"),
        ("tag °C.type", "free.csv:2:6"),
        ("tag t.type", "plant.toml:9:45"),
        ("tag nobody.type", "plant.toml:1:1"),
        ("group g.tags_file", "plant.toml:8:13"),
    ] {
        assert_eq!(place(at), expected, "{at}");
    }
    let faults = checked.locations.faults(
        &id,
        [("tag temp.address", "1 is no address; use 2".to_owned())],
    );
    let faults = Faults::new("plant.toml", faults, 0).unwrap();
    assert_eq!(
        faults.to_string(),
        "press.csv:2:6: channel a, tag temp.address: 1 is no address; use 2"
    );
    let paths: Vec<&Path> = checked.locations.tags_files().collect();
    assert_eq!(
        paths,
        [Path::new("/plant/free.csv"), Path::new("/plant/press.csv")]
    );
}

#[test]
fn every_key_of_a_tag_is_a_column() {
    for key in tags::TAG.known {
        assert!(rows::kind(key).is_some(), "{key} has no kind of cell");
    }
    assert_eq!(rows::kind("tags"), None);
}

fn exported(checked: &Checked<Host>, group: Option<&str>) -> String {
    let id = &checked.value.channels[0].id;
    checked.locations.tags(id, group).unwrap().to_csv()
}

#[test]
fn what_is_written_is_exported() {
    let toml = channel(&format!(
        "[[channel.device]]\nname = \"p\"\n[[channel.device]]\nname = \"q\"\n{GROUP}device = \"q\"\ntags = [\n\
         {{ name = \"x\", address = \"1, 2\", type = \"int16\", limits = [0, 1_000.5], report = \"change\", deadband = \"2%\", offset = 0x10 }},\n\
         {{ name = \"y\", address = \"1\", type = \"int16\", device = \"p\", settings = {{ order = \"a'b\" }}, scale = 1e-3 }}]\n\
         [[channel.tag]]\nname = \"say \\\"z\\\"\"\naddress = \"2\"\ntype = \"bool\"\ndevice = \"p\""
    ));
    let checked = good(&toml, "name;address;type;unit\nfrom file;3;string;\n");
    expect![[r#"
        name,address,type,device,settings,scale,limits,report,deadband
        x,"1, 2",int16,q,,,0..1000.5,change,2%
        y,1,int16,p,"{ order = ""a'b"" }",1e-3,,,
        from file,3,string,q,,,,,
        "say ""z""",2,bool,p,,,,,
    "#]]
    .assert_eq(&exported(&checked, None));
    expect![[r#"
        name,address,type,device,settings,scale,limits,report,deadband
        x,"1, 2",int16,q,,,0..1000.5,change,2%
        y,1,int16,p,"{ order = ""a'b"" }",1e-3,,,
        from file,3,string,q,,,,,
    "#]]
    .assert_eq(&exported(&checked, Some("g")));
    let id = ChannelId::new("a").unwrap();
    assert_eq!(checked.locations.tags(&id, Some("h")), None);
    assert_eq!(
        checked.locations.tags(&ChannelId::new("b").unwrap(), None),
        None
    );
}

/// A tag of TOML, its name apart: keys and values that are in order together.
fn keys() -> impl Strategy<Value = String> {
    let text = "[ -~äß\\n]{1,20}";
    let numbers = (-1e9..1e9f64, 0.001..1e6f64).prop_map(|(low, width)| (low, low + width));
    let number = ("[a-z0-9,;\" ]{1,9}", "u?int(8|16|32|64)", any::<(bool, bool)>(), numbers, 0.0..9e3f64, 1u64..9_999, prop::bool::ANY)
        .prop_map(|(address, kind, (scaled, bounded), (low, high), deadband, interval, percent)| {
            let mut keys = format!("address = {address:?}, type = {kind:?}");
            if scaled {
                keys.push_str(&format!(", scale = {high:?}, offset = {low:?}"));
            }
            if bounded {
                keys.push_str(&format!(", limits = [{low:?}, {high:?}], clamp = [{low:e}, {high:e}]"));
            }
            match percent && bounded {
                true => keys.push_str(&format!(", report = \"both\", interval = \"{interval}s\", deadband = \"{}%\"", deadband % 100.0)),
                false => keys.push_str(&format!(", report = \"change\", max_silence = \"{interval}ms\", deadband = {deadband:?}")),
            }
            keys.replace("interval = \"0", "interval = \"1").replace("max_silence = \"", "max_silence = \"1m ")
        });
    let other = (
        prop::sample::select(vec!["bool", "string", "bytes", "float32[7]"]),
        "[1-9][0-9]{0,4}",
    )
        .prop_map(|(kind, address)| {
            format!("address = \"{address}\", type = \"{kind}\", access = \"rw\"")
        });
    let bits = (0u8..8, any::<bool>()).prop_map(|(bit, is_mask)| {
        let part = if is_mask {
            format!("mask = \"{:#x}\"", 1u16 << bit | 1)
        } else {
            format!("bit = {bit}")
        };
        format!("address = \"1\", type = \"uint16\", {part}")
    });
    let settings = prop::collection::btree_map(
        "[a-z .ä]{0,5}",
        (
            text,
            any::<i64>(),
            any::<f64>().prop_filter("finite", |f| f.is_finite()),
        ),
        0..3,
    )
    .prop_map(|table| {
        let entries: Vec<String> = table
            .iter()
            .map(|(key, (text, integer, float))| {
                format!(
                    "{} = {{ t = {}, i = {integer}, f = [{float:?}, true] }}",
                    toml_text(key),
                    toml_text(text)
                )
            })
            .collect();
        format!("settings = {{ {} }}", entries.join(", "))
    });
    (prop_oneof![number, other, bits], settings, text, text).prop_map(
        |(keys, settings, unit, description)| {
            format!(
                "{keys}, {settings}, unit = {}, description = {}",
                toml_text(&unit),
                toml_text(&description)
            )
        },
    )
}

fn toml_text(text: &str) -> String {
    // JSON's strings are TOML's, but for a character that is not generated.
    serde_json::to_string(text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Out to CSV and in again: the same checked tags, whatever they are.
    #[test]
    fn export_then_import_changes_nothing(
        tags in prop::collection::btree_map("[a-z,;\"'äß.%]{1,12}", keys(), 1..12),
    ) {
        let tags: Vec<String> = tags.iter().map(|(name, keys)| format!("{{ name = {}, {keys} }}", toml_text(name))).collect();
        let toml = channel(&GROUP.replace("tags_file = \"press.csv\"", &format!("tags = [{}]", tags.join(",\n"))));
        let before = good(&toml, "");
        let csv = exported(&before, Some("g"));
        let after = good(&channel(GROUP), &csv);
        prop_assert_eq!(&after.value.channels, &before.value.channels, "{}", csv);
        prop_assert_eq!(exported(&after, None), csv);
    }

    /// Whatever the bytes: no panic, and faults that lie within the file.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
        let beginning: &[u8] = if header { b"name,address,type,settings,scale\n" } else { b"" };
        let bytes = [beginning, &bytes].concat();
        if let Err(faults) = with(&channel(GROUP), &bytes) {
            check_places(&faults, &String::from_utf8_lossy(&bytes))?;
        }
    }

    /// A good file with pieces cut out, doubled or put in.
    #[test]
    fn no_mutation_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, 0..PIECES.len(), 0u8..3), 1..6),
    ) {
        let mut text = "name,address,type,scale,limits,settings,unit\n\"a\",1,int16,0.1,0..5,{ o = 'x' },\"°C\"\nb,2,bool,,,,\"x\ny\"\n".to_owned();
        for (place, length, piece, edit) in edits {
            let from = text.floor_char_boundary(place.index(text.len() + 1));
            let to = text.floor_char_boundary((from + length).min(text.len()));
            let original = text.clone();
            match edit {
                0 => text.replace_range(from..to, ""),
                1 => text.insert_str(from, &original[from..to]),
                _ => text.replace_range(from..to, PIECES[piece]),
            }
        }
        match with(&channel(GROUP), text.as_bytes()) {
            Ok(checked) => {
                let again = exported(&checked, None);
                prop_assert_eq!(good(&channel(GROUP), &again).value, checked.value, "{}", again);
            }
            Err(faults) => check_places(&faults, &text)?,
        }
    }
}

const PIECES: [&str; 14] = [
    "\"", ",", ";", "\n", "\r\n", "\r", "\"\"", "..", "{", "}", "\u{0}", "ß", "\u{feff}", "nan",
];

fn check_places(faults: &Faults, csv: &str) -> Result<(), TestCaseError> {
    let lines = csv.split('\n').count();
    for fault in &faults.faults {
        let most = if fault.file.is_some() { lines } else { 7 };
        prop_assert!(
            (1..=most).contains(&(fault.position.line as usize)),
            "{faults}"
        );
        prop_assert!(
            fault.message.contains("; ") || fault.message.contains("did you mean"),
            "{faults}"
        );
    }
    Ok(())
}

fn imported(toml: &str, spot: Spot<'_>, csv: &str) -> Result<(String, Checked<Host>), ImportError> {
    let origin = origin();
    let import = Import {
        text: toml,
        origin: &origin,
        spot,
    };
    let files = [("new.csv", csv.as_bytes())];
    import.with_tags_file("new.csv", &reader(&files))
}

#[test]
fn an_import_adds_one_line() {
    let csv = "name,address,type\nnew,1,int16\n";
    let spot = |group| Spot {
        channel: "a",
        group,
    };
    let group = "[[channel.group]] # slow ones\nname = \"g\" # as they say\nperiod = \"1s\"\n";
    for (toml, spot, before, line) in [
        (
            channel(group),
            spot(Some("g")),
            "as they say",
            "\ntags_file = 'new.csv'",
        ),
        (
            channel(group).replace('\n', "\r\n"),
            spot(Some("g")),
            "as they say",
            "\r\ntags_file = 'new.csv'",
        ),
        (
            channel("group = [{ name = \"g\", period = \"1s\" }]"),
            spot(Some("g")),
            "name = \"g\"",
            ", tags_file = 'new.csv'",
        ),
        (
            CHANNEL.to_owned(),
            spot(None),
            "id = \"a\"",
            "\ntags_file = 'new.csv'",
        ),
        (
            "[[channel]]\ndriver = \"d\"\nid = \"a\"".to_owned(),
            spot(None),
            "id = \"a\"",
            "\ntags_file = 'new.csv'",
        ),
        (
            channel(&format!("{group}tags = [{{ {TAG} }}]\n")),
            spot(Some("g")),
            "as they say",
            "\ntags_file = 'new.csv'",
        ),
    ] {
        let (text, checked) =
            imported(&toml, spot, csv).unwrap_or_else(|error| panic!("{toml}\n{error}"));
        let expected = toml.replacen(before, &format!("{before}{line}"), 1);
        assert_eq!(text, expected);
        let tags = &checked.value.channels[0].tags;
        assert_eq!(tags.last().unwrap().name, "new", "{text}");
        let origin = origin();
        let again = Import {
            text: &text,
            origin: &origin,
            spot,
        };
        assert_eq!(again.tags_file().unwrap().as_deref(), Some("new.csv"));
        assert_eq!(
            Import {
                text: &toml,
                ..again
            }
            .tags_file()
            .unwrap(),
            None
        );
    }
}

#[test]
fn an_import_that_would_be_at_fault_says_so_by_the_lines_of_today() {
    let toml = channel(&format!(
        "{}tags = [{{ {TAG} }}]\n[[sink]]\nkind = \"fiel\"",
        GROUP.replace("tags_file = \"press.csv\"\n", "")
    ));
    let spot = Spot {
        channel: "a",
        group: Some("g"),
    };
    let told = |toml: &str, spot, csv| imported(toml, spot, csv).unwrap_err().to_string();
    expect![[r#"
        plant.toml:9:8: sink fiel: there is no kind of sink `fiel`; use `stdout` or `file`
        new.csv:2:1: channel a, tag t, column name: tag `t` stands on line 7 of plant.toml already; give one of them another name"#]].assert_eq(&told(&toml, spot, "name,address,type\nt,1,int16\n"));
    expect!["there is no group `h`, but `g`; add it to the configuration with a `name` and a `period`, or name one of those"].assert_eq(&told(
        &toml,
        Spot {
            group: Some("h"),
            ..spot
        },
        "",
    ));
    expect!["there is no channel `b`, but `a`; name one of those"].assert_eq(&told(
        &toml,
        Spot {
            channel: "b",
            group: None,
        },
        "",
    ));
    expect!["there is no group `g`, but none; add it to the configuration with a `name` and a `period`, or name one of those"].assert_eq(&told(CHANNEL, spot, ""));
    expect!["plant.toml:1:11: not valid TOML: unclosed array table, expected `]`; see toml.io for how it is written"].assert_eq(&told("[[channel]\n", spot, ""));
}

#[test]
fn the_quickstart_can_be_exported() {
    let before = good(QUICKSTART, "");
    let mut counts = BTreeMap::new();
    for channel in &before.value.channels {
        let table = before.locations.tags(&channel.id, None).unwrap();
        counts.insert(channel.id.as_str(), table.rows.len());
        assert_eq!(table.columns[..3], ["name", "address", "type"]);
    }
    assert_eq!(counts.into_values().sum::<usize>(), 10);
}
