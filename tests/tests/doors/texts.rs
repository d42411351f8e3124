//! A tag that is an array of texts, as people and programs write it and see it.

use anyhow::Result;
use bulkhead_tests::{Bulkhead, paths};
use serde_json::{Value, json};

use super::{json_lines, refused};

/// Whatever is written, the device has its own.
fn host() -> Result<Bulkhead> {
    let driver = paths::guest("puppet")?;
    Bulkhead::start(&format!(
        r#"
[[channel]]
id = "a"
driver = "{}"
settings = {{ rules = [{{ on = "write", about = 0, do = [
    {{ publish = {{ tag = 0, value = {{ texts = ["left, \"l\"", ""] }} }} }},
    {{ write-done = {{ value = {{ texts = ["left", "right"] }} }} }},
] }}] }}
[[channel.tag]]
name = "names"
address = "names"
type = "string[2]"
access = "rw"
[[sink]]
kind = "file"
path = "samples.jsonl"
"#,
        driver.display()
    ))
}

#[test]
fn an_array_of_texts_is_written_and_shown() -> Result<()> {
    let host = host()?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["state"] == "running").then_some(())
    })?;
    let path = "/api/v1/tags/a/names";
    let written = host.post(
        &format!("{path}/write"),
        &json!({ "value": ["a", "b"], "read_back": true }),
    )?;
    assert_eq!(written.status, 200, "{written:?}");
    let tag = host.get_until(path, |tag| (tag["quality"] == "good").then(|| tag.clone()))?;
    assert_eq!(tag["value"], json!(["left, \"l\"", ""]), "{tag:#}");
    assert_eq!(tag["data_type"], "string[2]");

    let typed = r#"["a, b", "c"]"#;
    let ended = host.client(&["tag", "write", "--json", "--read-back", "a/names", typed])?;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let answer = &json_lines(&ended)[0];
    assert_eq!(answer["read_back"], json!(["left", "right"]), "{answer}");
    let page = host.get("/api/v1/audit")?.body;
    assert_eq!(page["entries"][0]["value"], json!(["a, b", "c"]), "{page}");
    let shown = host.client(&["tag", "show", "a/names"])?;
    let shown = shown.out.join("\n");
    assert!(shown.contains(r#"["left, \"l\"", ""]"#), "{shown}");
    Ok(())
}

#[test]
fn what_is_no_such_array_is_refused_in_words() -> Result<()> {
    let host = host()?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["state"] == "running").then_some(())
    })?;
    for (value, part) in [
        (json!(["a"]), "an array of texts, of length 1, was given"),
        (json!(["a", "b", "c"]), "of length 3, was given"),
        (json!(["a", 1]), "other things than strings"),
        (json!([1, 2]), "other things than strings"),
        (json!("ab"), "of type string[2]; text was given"),
    ] {
        let reply = host.post("/api/v1/tags/a/names/write", &json!({ "value": value }))?;
        assert_eq!(refused(&reply), (422, "bad-value"), "{value}");
        let said = reply.body["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(part), "{value}: {said}");
    }
    for (typed, part) in [
        ("a, b", "JSON array of strings"),
        (r#"["a"]"#, "an array of texts, of length 1, was given"),
    ] {
        let ended = host.client(&["tag", "write", "a/names", typed])?;
        assert_ne!(ended.code(), Some(0), "{ended:?}");
        assert!(ended.err.join("\n").contains(part), "{ended:?}");
    }
    let shown = host.get("/api/v1/channels/a")?.body;
    assert_eq!(
        shown["counters"]["requests"],
        json!(0),
        "the driver saw none: {shown:#}"
    );
    let tag: Value = host.get("/api/v1/tags/a/names")?.body;
    assert_eq!(tag["value"], Value::Null, "{tag:#}");
    Ok(())
}
