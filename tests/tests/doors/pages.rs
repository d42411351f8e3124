//! Lists that come in pieces, and a reload in the midst of them: nothing is left out.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Reply};
use serde_json::{Value, json};

use super::{json_lines, refused};

/// Tags on demand, in the order of their numbers.
fn tags(numbers: impl Iterator<Item = u32>) -> String {
    let tags = numbers.map(|number| {
        format!(
            "{{ name = \"{}\", address = \"hold(1)\", type = \"uint32\" }},\n",
            name(number)
        )
    });
    let tags: String = tags.collect();
    format!(
        "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
         limits = {{ memory = \"256MiB\" }}\ntag = [\n{tags}]\n\
         [[channel]]\nid = \"b\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
         tag = [{{ name = \"last\", address = \"sine\", type = \"float64\" }}]\n"
    )
}

/// Long, so that many of them do not fit into what lies between a host and its reader.
fn name(number: u32) -> String {
    format!("{number:0>120}")
}

fn reload(host: &Bulkhead, toml: &str) -> Result<()> {
    host.rewrite_config(toml)?;
    let reply = host.post("/api/v1/reload", &json!({}))?;
    ensure!(reply.body["applied"] == true, "{reply:?}");
    Ok(())
}

/// The names on a page, and how to ask for the next one.
fn page(reply: &Reply) -> (Vec<String>, Option<String>) {
    let tags = reply.body["tags"].as_array().into_iter().flatten();
    let names = tags.map(|tag| tag["tag"].as_str().unwrap_or_default().to_owned());
    let cursor = reply.body["next_cursor"].as_str().map(str::to_owned);
    (names.collect(), cursor)
}

#[test]
fn a_list_does_not_go_on_over_a_reload() -> Result<()> {
    let host = Bulkhead::start(&tags(0..6))?;
    let ask = |cursor: &str| host.get(&format!("/api/v1/tags?limit=4&cursor={cursor}"));
    let (first, cursor) = page(&host.get("/api/v1/tags?limit=4")?);
    assert_eq!(first, [name(0), name(1), name(2), name(3)]);
    let cursor = cursor.context("there is more")?;

    // A look at a plan, and a reload of the same, change no list.
    host.post("/api/v1/reload", &json!({}))?;
    host.rewrite_config(&tags((3..6).chain(0..2)))?;
    host.post("/api/v1/reload", &json!({ "dry_run": true }))?;
    let second = page(&ask(&cursor)?);
    assert_eq!(second, (vec![name(4), name(5), "last".to_owned()], None));

    // All of it moves: going on behind the fourth place would leave out three tags that stay.
    reload(&host, &tags((3..6).chain(0..2)))?;
    assert_eq!(refused(&ask(&cursor)?), (409, "list-changed"));
    let (first, cursor) = page(&host.get("/api/v1/tags?limit=4")?);
    assert_eq!(first, [name(3), name(4), name(5), name(0)]);
    let cursor = cursor.context("there is more")?;
    assert_eq!(
        page(&ask(&cursor)?),
        (vec![name(1), "last".to_owned()], None)
    );
    for path in ["channels", "links", "dead-letters"] {
        let old = format!("/api/v1/{path}?cursor={cursor}");
        assert_eq!(host.get(&old)?.status, 200, "{path}");
    }
    // What the commands show is whole.
    let listed = json_lines(&host.client(&["tag", "list", "--json"])?);
    assert_eq!(listed.len(), 6);

    let host = host.start_again(&tags((3..6).chain(0..2)))?;
    for path in ["tags", "channels", "links", "dead-letters"] {
        let old = format!("/api/v1/{path}?cursor={cursor}");
        assert_eq!(refused(&host.get(&old)?), (409, "list-changed"), "{path}");
        let strange = format!("/api/v1/{path}?cursor=press-3%2Ftemp");
        assert_eq!(
            refused(&host.get(&strange)?),
            (400, "bad-request"),
            "{path}"
        );
    }
    Ok(())
}

#[test]
fn a_snapshot_holds_every_tag_over_a_reload() -> Result<()> {
    const TAGS: u32 = 30_000;
    const GONE: u32 = 5_000;
    let host = Bulkhead::start(&tags(0..TAGS))?;
    let mut stream = host.stream("/api/v1/stream?snapshot=true")?;
    let first = stream.next().context("a first event")??;
    assert_eq!((&*first.0, &first.1["tag"]), ("snapshot", &json!(name(0))));
    // Nobody reads on, so the host waits in the midst of it. Then every place becomes another tag's.
    reload(&host, &tags(GONE..TAGS))?;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut after = Value::Null;
    for event in stream {
        let (kind, data) = event?;
        if kind != "snapshot" {
            after = json!([kind, data]);
            break;
        }
        seen.insert(data["tag"].as_str().context("a name")?.to_owned());
    }
    assert_ne!(after, Value::Null, "the stream goes on");
    let missing: Vec<u32> = (GONE..TAGS)
        .filter(|number| !seen.contains(&name(*number)))
        .collect();
    assert!(
        missing.is_empty(),
        "{} tags are left out, such as {:?}",
        missing.len(),
        &missing[..missing.len().min(5)]
    );
    assert!(seen.contains("last"));
    Ok(())
}
