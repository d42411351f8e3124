//! Tags out to CSV and in again: the same tags come back, and a configuration is changed by one line.

use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::super::{Import, ImportError, Spot};
use super::tags_files::{GROUP, good, origin, reader, with};
use super::{CHANNEL, Checked, Faults, Host, QUICKSTART, TAG, channel};
use crate::ids::ChannelId;

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
        name,address,type,device,settings,scale,offset,limits,report,deadband
        x,"1, 2",int16,q,,,0x10,0..1000.5,change,2%
        y,1,int16,p,"{ order = ""a'b"" }",1e-3,,,,
        from file,3,string,q,,,,,,
        "say ""z""",2,bool,p,,,,,,
    "#]]
    .assert_eq(&exported(&checked, None));
    expect![[r#"
        name,address,type,device,settings,scale,offset,limits,report,deadband
        x,"1, 2",int16,q,,,0x10,0..1000.5,change,2%
        y,1,int16,p,"{ order = ""a'b"" }",1e-3,,,,
        from file,3,string,q,,,,,,
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
        prop::sample::select(vec!["bool", "string", "bytes", "float32[7]", "string[2]"]),
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
        assert_eq!(&*tags.last().unwrap().name, "new", "{text}");
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
        plant.toml:9:8: sink fiel: there is no kind of sink `fiel`; use `stdout`, `file`, `mqtt`, `postgres` or `nats`
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
    expect!["there is no group `g`, nor any other; add it to the configuration with a `name` and a `period`, or name one of those"].assert_eq(&told(CHANNEL, spot, ""));
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
