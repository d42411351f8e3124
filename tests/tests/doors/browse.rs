//! `bulkhead tag browse`: what a tag can be made of, and that it can.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Peer};
use serde_json::{Value, json};

use super::{SIGNAL, json_lines, refused};

#[test]
fn what_is_listed_can_be_made_tags_of() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    let ended = host.client(&["tag", "browse", "a", "--json"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let items = json_lines(&ended);
    assert!(items.len() >= 6, "{items:#?}");

    let mut tags = String::new();
    for item in &items {
        let part = |key: &str| item[key].as_str().context("text");
        writeln!(
            tags,
            "{{ name = \"{}\", address = \"{}\", type = \"{}\", access = \"{}\" }},",
            part("name")?,
            part("address")?,
            part("type")?,
            part("access")?,
        )?;
    }
    host.rewrite_config(&SIGNAL.replace("tags = [", &format!("tags = [\n{tags}")))?;
    let reloaded = host.client(&["reload"])?;
    assert_eq!(reloaded.code(), Some(0), "{reloaded:?}");
    let good = items.len() + 2;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == good).then_some(())
    })?;

    let table = host.client(&["tag", "browse", "a"])?;
    assert_eq!(table.out.len(), items.len() + 1, "{table:?}");
    assert!(table.out[0].starts_with("NAME"), "{table:?}");
    // A command that it does not list is refused by name, and so is a channel that there is not.
    let other = host.post("/api/v1/channels/a/commands/erase", &json!({}))?;
    assert_eq!(refused(&other), (404, "no-such-command"), "{other:?}");
    let nobody = host.client(&["tag", "browse", "x"])?;
    assert_eq!(nobody.code(), Some(1), "{nobody:?}");
    Ok(())
}

#[test]
fn a_unit_is_asked_for_the_tables_that_it_has() -> Result<()> {
    let mut peer = Peer::simulated(&["--units", "1-2"])?;
    let toml = format!(
        "[[channel]]\nid = \"line\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://{}\" }}\n\
         device = [{{ name = \"one\", address = \"1\" }}, {{ name = \"two\", address = \"2\" }}]\n\
         tag = [{{ name = \"t\", device = \"one\", address = \"40001\", type = \"int16\" }}]\n\
         [[channel]]\nid = \"silent\"\ndriver = \"$DRIVERS/guests/silent.wasm\"\n",
        peer.address()
    );
    let host = Bulkhead::start(&toml)?;
    let before = peer.stats()?["requests"].clone();
    let ended = host.client(&["tag", "browse", "line", "--device", "two", "--json"])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let items = json_lines(&ended);
    let shown: Vec<[&Value; 3]> = items
        .iter()
        .map(|item| [&item["address"], &item["type"], &item["access"]])
        .collect();
    assert_eq!(
        json!(shown),
        json!([
            ["coil:0", "bool", "rw"],
            ["discrete:0", "bool", "r"],
            ["input:0", "uint16", "r"],
            ["holding:0", "uint16", "rw"],
        ])
    );
    let asked = peer.stats()?["requests"].as_u64() > before.as_u64();
    assert!(asked, "the unit was asked");

    let which = host.client(&["tag", "browse", "line"])?;
    assert_eq!(which.code(), Some(1), "{which:?}");
    assert!(
        which
            .err
            .concat()
            .contains("name one of the devices one, two"),
        "{which:?}"
    );
    peer.set_faults(&["silence"])?;
    let path = "/api/v1/channels/line/commands/browse";
    let away = host.post(path, &json!({ "payload": { "device": "two" } }))?;
    assert_eq!(refused(&away).0, 504, "{away:?}");
    // A driver that does not offer it is not asked.
    let path = "/api/v1/channels/silent/commands/browse";
    assert_eq!(refused(&host.post(path, &json!({}))?).0, 501);
    Ok(())
}
