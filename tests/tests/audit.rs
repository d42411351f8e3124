//! Who wrote what: each write is in the audit log with its answer, over a `kill -9` too, and what is done to the log shows.

use std::fs;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Peer};
use serde_json::{Value, json};

const TAG: &str = "/api/v1/tags/line/level/write";

#[test]
fn each_write_is_written_down_with_its_answer_and_what_is_changed_shows() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let toml = format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}" }}
settings = {{ unit_id = 1 }}
[[channel.tag]]
name = "level"
address = "holding:250"
type = "uint16"
access = "rw"
limits = [0, 1000]
[[channel.tag]]
name = "fixed"
address = "holding:251"
type = "uint16"
"#,
        peer.address()
    );
    let host = Bulkhead::start(&toml)?;
    host.get_until("/api/v1/channels/line", |shown| {
        (shown["state"] == "running" && shown["links"][0]["up"] == true).then_some(())
    })?;
    let done = host.post(TAG, &json!({ "value": 7, "by": "anna" }))?;
    assert_eq!(done.status, 200, "{done:?}");
    let refused = host.post(TAG, &json!({ "value": 1001 }))?;
    assert_eq!(refused.status, 422, "{refused:?}");
    let fixed = host.post("/api/v1/tags/line/fixed/write", &json!({ "value": 1 }))?;
    assert_ne!(fixed.status, 200, "{fixed:?}");
    let nobody = host.post(TAG, &json!({ "value": 1, "by": "x".repeat(65) }))?;
    assert_eq!(nobody.status, 400, "{nobody:?}");
    let told = host.client(&["tag", "write", "line/level", "8"])?;
    assert_eq!(told.code(), Some(0), "{told:?}");

    // It outlives a process that is killed.
    let folder = host.kill()?;
    let host = Bulkhead::start_in(folder, &toml, &[])?;
    let page = host.get("/api/v1/audit")?.body;
    let entries = page["entries"].as_array().context("entries")?;
    let seen: Vec<(u64, &Value, &Value, &Value)> = entries
        .iter()
        .map(|entry| {
            let number = entry["number"].as_u64().unwrap_or_default();
            (number, &entry["tag"], &entry["value"], &entry["answer"])
        })
        .collect();
    assert_eq!(
        seen,
        [
            (4, &json!("level"), &json!(8), &json!("done")),
            (3, &json!("fixed"), &json!(1), &json!("not-writable")),
            (2, &json!("level"), &json!(1001), &json!("bad-value")),
            (1, &json!("level"), &json!(7), &json!("done")),
        ]
    );
    assert_eq!(entries[3]["by"], "anna");
    let listed = host.client(&["audit", "list"])?.out.join("\n");
    assert!(listed.contains("anna (http)"), "{listed}");

    let folder = host.stop_gently()?;
    let verify = || folder.run(&["audit", "verify", "data"]);
    let whole = verify()?;
    assert_eq!(whole.code(), Some(0), "{whole:?}");
    let path = folder.path().join("data/audit-000001.jsonl");
    let text = fs::read_to_string(&path)?;
    for changed in [
        text.replacen("\"value\":7", "\"value\":9", 1),
        text.lines()
            .skip(1)
            .map(|line| format!("{line}\n"))
            .collect(),
        text.lines()
            .take(3)
            .map(|line| format!("{line}\n"))
            .collect(),
    ] {
        assert_ne!(changed, text);
        fs::write(&path, changed)?;
        let found = verify()?;
        assert_eq!(found.code(), Some(1), "{found:?}");
    }
    fs::write(&path, &text)?;
    assert_eq!(verify()?.code(), Some(0));
    Ok(())
}
