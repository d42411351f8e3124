//! Files of tags: every fault at once with its row and column, and the rules of tags as in TOML.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use expect_test::{Expect, expect};

use super::super::{TagsFile, parse_with_files, rows, tag as tags};
use super::{Checked, Faults, Host, Origin, PathBuf, TAG, channel};
use crate::ids::ChannelId;

/// A group whose tags stand in a file.
pub(super) const GROUP: &str =
    "[[channel.group]]\nname = \"g\"\nperiod = \"1s\"\ntags_file = \"press.csv\"\n";

pub(super) fn origin() -> Origin {
    Origin {
        name: "plant.toml".into(),
        folder: PathBuf::from("/plant"),
    }
}

/// Reads files out of a list.
pub(super) fn reader<'a>(
    files: &'a [(&'a str, &'a [u8])],
) -> impl Fn(&Path) -> io::Result<TagsFile> + 'a {
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

pub(super) fn with(toml: &str, csv: &[u8]) -> Result<Checked<Host>, Faults> {
    parse_with_files(toml, &origin(), &reader(&[("press.csv", csv)]))
}

pub(super) fn good(toml: &str, csv: &str) -> Checked<Host> {
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
    assert_eq!(&*tags[0].name, "t");
    assert_eq!(tags[1..], expected.channels[0].tags[..]);
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
            press.csv:18:23: channel a, tag t15, column interval: `interval` has no effect as it stands; add `interval` or `both` under `report`, or remove it
            press.csv:18:26: channel a, tag t15, column max_silence: `max_silence` has no effect as it stands: every sample is reported; add `change` under `report`, or remove it
            press.csv:19:20: channel a, tag t16, column report: `interval` under `report` needs an `interval`; add one such as `10s` under `interval`
            press.csv:20:30: channel a, tag t17, column interval: `interval` is `5`, which is no duration; write one with its unit such as "10s"
            press.csv:21:25: tag t18, column settings: `settings` is `order`, which is no table of TOML (string values must be quoted, expected literal string); write one such as `{ order = 'cdab' }`
            press.csv:22:25: tag t19, column settings: `settings` is `{ order = cdab }`, which is no table of TOML (string values must be quoted, expected literal string); write one such as `{ order = 'cdab' }`
            press.csv:23:25: tag t20, column settings: a number in the settings is not finite, which JSON cannot carry; write it as a string
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
            press.csv:1:37: header: unknown column `colour`; remove it, or use one of `name`, `address`, `type`, `device`, `access`, `settings`, `scale`, `offset`, `mask`, `bit`, `clamp`, `limits`, `report`, `deadband`, `interval`, `max_silence`, `write_interval`, `unit` or `description`"#]],
    );
    check_in(
        &channel(&format!(
            "[[channel.device]]\nname = \"p\"\n[[channel.device]]\nname = \"q\"\n{GROUP}tags = [{{ {TAG}, device = \"p\" }}]"
        )),
        b"name,address,device,type,scale,scale,colour\nt,1,p,int16,2,3,red\nu,2,,int16,,,\nv,3,r,bool,x,,\n",
        expect![[r#"
            press.csv:1:32: header: the column `scale` stands twice; remove one
            press.csv:1:38: header: unknown column `colour`; remove it, or use one of `name`, `address`, `type`, `device`, `access`, `settings`, `scale`, `offset`, `mask`, `bit`, `clamp`, `limits`, `report`, `deadband`, `interval`, `max_silence`, `write_interval`, `unit` or `description`
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
            press.csv:2:1: the row has 2 cells, and the header has 3 columns; write a cell for each, also where it is empty
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
        expect![
            "press.csv:1:19: header: the cell begins with a quote and does not end with one; close it, and write each quote within the cell twice"
        ],
    );
    check(
        "name,address,type,,unit\nt,1,int16,,C\nu,1,int16,x,C\n",
        expect![
            "press.csv:3:11: the cell has no column; name one in the header, or put the separators of the row right"
        ],
    );
    check(
        &format!("name,address,type\nt,1,int16{}x\n", ",".repeat(300)),
        expect![
            "press.csv:2:1: the row has 303 cells, and the header has 3 columns; write a cell for each, also where it is empty"
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
    assert_eq!(&*channel_a.tags[99_999].name, "tag 99999");
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
