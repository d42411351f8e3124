//! Tags: list, show, read, write.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bulkhead_tests::Bulkhead;
use serde_json::{Value, json};

use super::{SIGNAL, refused};

/// `SIGNAL`, and a channel with tags of other kinds and access, among them names that need encoding.
const MORE: &str = "[[channel]]\nid = \"b\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"g\"\nperiod = \"50ms\"\ntags = [\n\
    { name = \"öl & mehr #1?\", address = \"hold(5)\", type = \"int16\", access = \"rw\", scale = 0.1, offset = 1, unit = \"°C\", description = \"d\" },\n\
    { name = \"flag\", address = \"hold(true)\", type = \"bool\", access = \"rw\" }]\n\
    [[channel.tag]]\nname = \"secret\"\naddress = \"hold(1)\"\ntype = \"uint8\"\naccess = \"w\"\n";

const OIL: &str = "/api/v1/tags/b/%C3%B6l%20%26%20mehr%20%231%3F";

fn host() -> Result<Bulkhead> {
    let host = Bulkhead::start(&format!("{SIGNAL}{MORE}"))?;
    host.get_until("/api/v1/status", |status| {
        (status["tags"]["good"] == 4).then_some(())
    })?;
    Ok(host)
}

fn names(page: &Value) -> Vec<String> {
    let tags = page["tags"].as_array().into_iter().flatten();
    tags.map(|tag| {
        let part = |key: &str| tag[key].as_str().unwrap_or_default();
        format!("{}/{}", part("channel"), part("tag"))
    })
    .collect()
}

#[test]
fn tags_are_listed() -> Result<()> {
    let host = host()?;
    const ALL: [&str; 5] = ["a/count", "a/held", "b/öl & mehr #1?", "b/flag", "b/secret"];
    let list = |query: &str| host.get(&format!("/api/v1/tags{query}"));
    for (query, expected) in [
        ("", &ALL[..]),
        ("?channel=b", &ALL[2..]),
        ("?channel=a,b&limit=10000", &ALL[..]),
        ("?tag=*/held", &ALL[1..2]),
        ("?tag=f*", &ALL[3..4]),
        ("?tag=%C3%B6l*&channel=b", &ALL[2..3]),
        ("?tag=nothing", &[]),
    ] {
        assert_eq!(names(&list(query)?.body), expected, "{query}");
    }
    // Page by page: each once, in order.
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    for _ in 0..3 {
        let page = list(&query)?.body;
        seen.extend(names(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={}", encoded(cursor)),
            None => break,
        }
    }
    assert_eq!(seen, ALL);
    for (query, expected) in [
        ("?limit=0", (400, "bad-request")),
        ("?limit=10001", (400, "bad-request")),
        ("?cursor=a", (400, "bad-request")),
        ("?cursor=a/x", (400, "bad-request")),
        ("?channel=x", (404, "no-such-channel")),
        ("?colour=red", (400, "bad-request")),
    ] {
        assert_eq!(refused(&list(query)?), expected, "{query}");
    }
    Ok(())
}

/// All but letters and digits, as a query's value takes it.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[test]
fn a_tag_is_shown_with_all_that_is_known() -> Result<()> {
    let host = host()?;
    let tag = host.get(OIL)?.body;
    let expected = [
        ("channel", json!("b")),
        ("tag", json!("öl & mehr #1?")),
        ("device", json!("b")),
        ("data_type", json!("int16")),
        ("access", json!("rw")),
        ("unit", json!("°C")),
        ("value", json!(1.5)),
        ("quality", json!("good")),
        ("address", json!("hold(5)")),
        ("description", json!("d")),
        ("group", json!("g")),
        ("period_ms", json!(50)),
        ("scale", json!(0.1)),
        ("offset", json!(1.0)),
        ("report", json!("always")),
    ];
    for (key, value) in expected {
        assert_eq!(tag[key], value, "{key}: {tag:#}");
    }
    // The time stands there twice, and means the same.
    let nanos = tag["server_time_ns"].as_u64().context("a number")?;
    let text = tag["server_time"].as_str().context("a text")?;
    let fraction = format!(".{:09}Z", nanos % 1_000_000_000);
    assert!(text.ends_with(&fraction), "{text} and {nanos}");

    let secret = host.get("/api/v1/tags/b/secret")?.body;
    assert_eq!(
        [&secret["value"], &secret["quality"], &secret["group"]],
        [
            &Value::Null,
            &json!("bad-waiting-for-initial-data"),
            &Value::Null
        ]
    );
    for (path, expected) in [
        ("/api/v1/tags/a/x", (404, "no-such-tag")),
        ("/api/v1/tags/x/count", (404, "no-such-channel")),
        ("/api/v1/tags/a", (404, "no-such-path")),
    ] {
        assert_eq!(refused(&host.get(path)?), expected, "{path}");
    }
    Ok(())
}

#[test]
fn tags_are_read_and_written() -> Result<()> {
    let host = host()?;
    let post = |path: &str, body: Value| host.post(path, &body);
    let written = post(
        "/api/v1/tags/a/held/write",
        json!({ "value": 200, "read_back": true }),
    )?;
    assert_eq!(
        (written.status, written.body),
        (
            200,
            json!({ "channel": "a", "tag": "held", "value": 200, "read_back": 200 })
        )
    );
    let read = post("/api/v1/tags/a/held/read", json!({}))?.body;
    assert_eq!(
        [&read["value"], &read["quality"]],
        [&json!(200), &json!("good")]
    );
    // In the tag's own units, both ways.
    let written = post(
        &format!("{OIL}/write"),
        json!({ "value": -2.4, "read_back": true }),
    )?
    .body;
    assert_eq!(written["read_back"], -2.4, "{written:#}");
    host.get_until(OIL, |tag| (tag["value"] == -2.4).then_some(()))?;
    assert_eq!(
        post("/api/v1/tags/b/secret/write", json!({ "value": 9 }))?.status,
        200
    );

    // Many at once, in the order asked for; those that fail fail alone.
    let asked = [
        "b/flag", "a/held", "x/count", "a/x", "nothing", "b/secret", "a/held",
    ];
    let answer = post("/api/v1/tags/read", json!({ "tags": asked }))?.body;
    let results: Vec<Value> = answer["results"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|result| match result.get("error") {
            Some(error) => json!([result["reference"], error["code"]]),
            None => json!([result["tag"], result["value"]]),
        })
        .collect();
    let alone = json!([
        ["flag", true],
        ["held", 200],
        ["x/count", "no-such-channel"],
        ["a/x", "no-such-tag"],
        ["nothing", "bad-request"],
        ["b/secret", "not-readable"],
        ["held", 200]
    ]);
    assert_eq!(json!(results), alone);
    Ok(())
}

#[test]
fn what_cannot_be_read_or_written_is_refused_by_name() -> Result<()> {
    let host = host()?;
    let before = host.get("/api/v1/channels/a")?.body["counters"]["requests"].clone();
    let too_many: BTreeSet<String> = (0..1_001).map(|number| format!("a/{number}")).collect();
    for (path, body, expected) in [
        (
            "a/count/write",
            json!({ "value": 1 }),
            (403, "not-writable"),
        ),
        ("b/secret/read", json!({}), (403, "not-readable")),
        ("a/x/write", json!({ "value": 1 }), (404, "no-such-tag")),
        (
            "x/held/write",
            json!({ "value": 1 }),
            (404, "no-such-channel"),
        ),
        ("a/held/write", json!({ "value": 256 }), (422, "bad-value")),
        ("a/held/write", json!({ "value": -1 }), (422, "bad-value")),
        ("a/held/write", json!({ "value": 1.5 }), (422, "bad-value")),
        ("a/held/write", json!({ "value": "7" }), (422, "bad-value")),
        ("a/held/write", json!({ "value": null }), (422, "bad-value")),
        ("a/held/write", json!({ "value": [1] }), (422, "bad-value")),
        ("b/flag/write", json!({ "value": 1 }), (422, "bad-value")),
        ("a/held/write", json!({}), (400, "bad-request")),
        (
            "a/held/write",
            json!({ "value": 1, "colour": 2 }),
            (400, "bad-request"),
        ),
        (
            "a/held/write",
            json!({ "value": 1, "timeout_ms": 0 }),
            (400, "bad-request"),
        ),
        (
            "a/held/write",
            json!({ "value": 1, "timeout_ms": 300_001 }),
            (400, "bad-request"),
        ),
        ("a/held/write", json!([1]), (400, "bad-request")),
        (
            "a/held/read",
            json!({ "timeout_ms": -1 }),
            (400, "bad-request"),
        ),
        ("read", json!({ "tags": [] }), (400, "bad-request")),
        ("read", json!({ "tags": too_many }), (400, "bad-request")),
        ("read", json!({ "tags": "a/held" }), (400, "bad-request")),
    ] {
        let reply = host.post(&format!("/api/v1/tags/{path}"), &body)?;
        assert_eq!(refused(&reply), expected, "{path} {body}: {reply:?}");
    }
    // None of this has reached a driver.
    let after = host.get("/api/v1/channels/a")?.body["counters"]["requests"].clone();
    assert_eq!(before, after);
    assert_eq!(host.get("/api/v1/tags/a/held")?.body["value"], 20);
    Ok(())
}

#[test]
fn a_tag_is_written_no_more_often_than_its_operator_allows() -> Result<()> {
    let tags: String = ["one", "many", "free"]
        .map(|name| {
            let interval = if name == "free" { "" } else { "write_interval = \"1h\"\n" };
            format!(
                "[[channel.tag]]\nname = \"{name}\"\naddress = \"hold(1)\"\ntype = \"uint8\"\naccess = \"rw\"\n{interval}"
            )
        })
        .concat();
    let host = Bulkhead::start(&format!("{SIGNAL}{tags}"))?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["state"] == "running").then_some(())
    })?;
    let asked = || -> Result<u64> {
        let shown = host.get("/api/v1/channels/a")?.body;
        shown["counters"]["requests"].as_u64().context("a counter")
    };
    let before = asked()?;
    let path = "/api/v1/tags/a/one/write";
    // What is refused for another reason does not count.
    let refused_value = host.post(path, &json!({ "value": 256 }))?;
    assert_eq!(refused(&refused_value), (422, "bad-value"));
    let done = host.post(path, &json!({ "value": 2 }))?;
    assert_eq!(done.status, 200, "{done:?}");
    let soon = host.post(path, &json!({ "value": 3 }))?;
    assert_eq!(refused(&soon), (429, "rate-limited"));
    let wait = &soon.body["error"]["retry_after_ms"];
    assert!(
        (1..=3_600_000).contains(&wait.as_u64().context("a wait")?),
        "{soon:?}"
    );
    let ended = host.client(&["tag", "write", "a/one", "4"])?;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.err.join("\n").contains("ask again in"), "{ended:?}");

    let write = |tag: &str, value: u8| json!({ "tag": format!("a/{tag}"), "value": value });
    let writes = json!({ "writes": [
        write("many", 5), write("free", 6), write("many", 7), write("free", 8), write("one", 9),
    ]});
    let reply = host.post("/api/v1/tags/write", &writes)?;
    let results = reply.body["results"].as_array().context("results")?;
    let codes: Vec<&str> = results
        .iter()
        .map(|result| result["error"]["code"].as_str().unwrap_or("done"))
        .collect();
    assert_eq!(
        codes,
        ["done", "done", "rate-limited", "done", "rate-limited"],
        "{reply:?}"
    );
    assert_eq!(asked()? - before, 4, "the driver sees none of the others");
    for (tag, value) in [("one", 2), ("many", 5), ("free", 8)] {
        let read = host.post(&format!("/api/v1/tags/a/{tag}/read"), &json!({}))?;
        assert_eq!(read.body["value"], value, "{read:?}");
    }
    let shown = host.get("/api/v1/tags/a/one")?.body;
    assert_eq!(shown["write_interval_ms"], 3_600_000, "{shown:#}");

    // A reload forgets nothing of it.
    let other = tags.replace("hold(1)", "hold(2)");
    host.rewrite_config(&format!("{SIGNAL}{other}"))?;
    let reloaded = host.post("/api/v1/reload", &json!({}))?;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    let still = host.post(path, &json!({ "value": 3 }))?;
    assert_eq!(refused(&still), (429, "rate-limited"));

    // Each of them is written down.
    let page = host.get("/api/v1/audit")?.body;
    let entries = page["entries"].as_array().context("entries")?;
    let limited = entries
        .iter()
        .filter(|entry| entry["answer"] == "rate-limited")
        .map(|entry| entry["value"].as_u64());
    let mut limited: Vec<_> = limited.collect();
    limited.sort_unstable();
    assert_eq!(limited, [3, 3, 4, 7, 9].map(Some), "{page:#}");
    Ok(())
}
