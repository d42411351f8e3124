//! Writes while a device is polled as fast as it can be: each is answered, those of one tag in their order, and the device holds what was
//! written last.

use std::thread;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Peer};
use serde_json::{Value, json};

/// Tags that are written, by so many people at once, so often each.
const TAGS: u16 = 10;
const ROUNDS: u16 = 100;

fn config(peer: &Peer) -> String {
    let written: String = (0..TAGS)
        .map(|tag| {
            format!(
                "[[channel.tag]]\nname = \"w{tag}\"\naddress = \"holding:{}\"\ntype = \"uint16\"\naccess = \"rw\"\n",
                200 + tag
            )
        })
        .collect();
    // Far apart, so that each needs a request of its own: more in each period than the device can answer.
    let polled: Vec<String> = (0..50)
        .map(|tag| {
            let address = 1_000 + 200 * tag;
            format!("{{ name = \"p{tag}\", address = \"holding:{address}\", type = \"uint16\" }}")
        })
        .collect();
    format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}" }}
settings = {{ unit_id = 1 }}
[[channel.group]]
name = "busy"
period = "10ms"
tags = [{}]
{written}
"#,
        peer.address(),
        polled.join(", ")
    )
}

fn check(mut peer: Peer) -> Result<()> {
    let host = Bulkhead::start(&config(&peer))?;
    host.get_until("/api/v1/tags/line/p49", |tag| {
        (tag["quality"] != "bad-waiting-for-initial-data").then_some(())
    })?;
    let path = |tag: u16| format!("/api/v1/tags/line/w{tag}/write");
    thread::scope(|scope| -> Result<()> {
        let (host, path) = (&host, &path);
        // Half of them one by one, half of them in batches.
        let writers: Vec<_> = (0..TAGS)
            .map(|tag| {
                scope.spawn(move || -> Result<()> {
                    if tag % 2 == 0 {
                        for value in 1..=ROUNDS {
                            let body = json!({ "value": value, "timeout_ms": 50_000 });
                            let reply = host.post(&path(tag), &body)?;
                            anyhow::ensure!(reply.status == 200, "{reply:?}");
                        }
                        return Ok(());
                    }
                    for first in (1..=ROUNDS).step_by(20) {
                        let writes: Vec<Value> = (first..first + 20)
                            .map(|value| json!({ "tag": format!("line/w{tag}"), "value": value }))
                            .collect();
                        let body = json!({ "writes": writes, "timeout_ms": 50_000 });
                        let reply = host.post("/api/v1/tags/write", &body)?;
                        let results = reply.body["results"].as_array().context("results")?;
                        let values = results.iter().map(|done| done["value"].as_u64());
                        let expected = (u64::from(first)..).take(20).map(Some);
                        anyhow::ensure!(values.eq(expected), "{reply:?}");
                    }
                    Ok(())
                })
            })
            .collect();
        for writer in writers {
            writer.join().expect("no thread of this test panics")?;
        }
        Ok(())
    })?;
    let last = [ROUNDS; TAGS as usize];
    assert_eq!(peer.holding(1, 200, TAGS)?, last);

    // Each is in the audit log once, those of one tag in their order.
    let ended = host.client(&["audit", "list", "--limit", "1000000", "--json"])?;
    let mut entries: Vec<Value> = ended
        .out
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    entries.reverse();
    assert_eq!(entries.len(), usize::from(TAGS * ROUNDS));
    for tag in 0..TAGS {
        let name = format!("w{tag}");
        let own = entries.iter().filter(|entry| entry["tag"] == name.as_str());
        let values = own.map(|entry| (entry["value"].as_u64(), entry["answer"].as_str()));
        let expected = (1..=u64::from(ROUNDS)).map(|value| (Some(value), Some("done")));
        assert!(values.eq(expected), "{name}");
    }
    // The device was polled all the while.
    let channel = host.get("/api/v1/channels/line")?.body;
    assert_eq!(channel["incarnation"], 1, "{channel:#}");
    Ok(())
}

#[test]
fn a_thousand_writes_to_pymodbus_under_full_load_are_answered_in_order() -> Result<()> {
    check(Peer::pymodbus()?)
}

#[test]
fn a_thousand_writes_to_the_simulated_device_under_full_load_are_answered_in_order() -> Result<()> {
    check(Peer::simulated(&[])?)
}

#[test]
fn one_of_many_writes_that_cannot_be_does_not_fail_the_others() -> Result<()> {
    let mut peer = Peer::simulated(&[])?;
    let host = Bulkhead::start(&config(&peer))?;
    let body = json!({ "timeout_ms": 50_000, "writes": [
        { "tag": "line/w1", "value": 1 },
        { "tag": "line/nowhere", "value": 1 },
        { "tag": "elsewhere/w1", "value": 1 },
        { "tag": "line/w1", "value": "text" },
        { "tag": "line/p1", "value": 1 },
        { "tag": "line/w1", "value": 65_536 },
        { "tag": "line/w2", "value": 2 },
    ] });
    let reply = host.post("/api/v1/tags/write", &body)?;
    assert_eq!(reply.status, 200, "{reply:?}");
    let results = reply.body["results"].as_array().context("results")?;
    let codes: Vec<&str> = results
        .iter()
        .map(|done| done["error"]["code"].as_str().unwrap_or("done"))
        .collect();
    assert_eq!(
        codes,
        [
            "done",
            "no-such-tag",
            "no-such-channel",
            "bad-value",
            "not-writable",
            "bad-value",
            "done"
        ]
    );
    assert_eq!(peer.holding(1, 201, 2)?, [1, 2]);
    for wrong in [
        json!({ "writes": [] }),
        json!({ "writes": [{ "tag": "a" }] }),
    ] {
        let refused = host.post("/api/v1/tags/write", &wrong)?;
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    Ok(())
}
