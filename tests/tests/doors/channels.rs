//! Channels: list, show, start, stop, restart; and that their lives are numbered for good.

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Folder, Recorder};
use serde_json::{Value, json};

use super::{SIGNAL, refused};

/// Two channels, of which the second waits to be started.
fn two() -> String {
    let second = SIGNAL
        .replace("\"a\"", "\"b\"")
        .replace("[[channel.group]]", "enabled = false\n[[channel.group]]");
    format!("{SIGNAL}{second}")
}

fn state(host: &Bulkhead, channel: &str, wanted: &str) -> Result<Value> {
    host.get_until(&format!("/api/v1/channels/{channel}"), |shown| {
        (shown["state"] == wanted).then(|| shown.clone())
    })
}

#[test]
fn channels_are_shown() -> Result<()> {
    let host = Bulkhead::start(&two())?;
    let running = state(&host, "a", "running")?;
    assert_eq!(running["incarnation"], 1, "{running:#}");
    let group = &running["groups"][0];
    assert_eq!(
        [&group["name"], &group["period_ms"], &group["tags"]],
        [&json!("fast"), &json!(50), &json!(2)]
    );
    host.get_until("/api/v1/channels/a", |shown| {
        let punctuality = &shown["groups"][0]["punctuality"];
        // The channel has this one group.
        let skipped = shown["counters"]["polls_skipped"].as_u64()?;
        let counted = punctuality["polls"].as_u64()? > 2 && punctuality["skipped"] == skipped;
        let [late, most] = ["deviation_p50_ns", "deviation_most_ns"];
        (counted && punctuality[late].as_u64()? > 0 && punctuality[most].as_u64()? > 0)
            .then_some(())
    })?;
    assert_eq!(running["devices"][0]["name"], "a");
    let polled = host.get_until("/api/v1/channels/a", |shown| {
        let counters = &shown["counters"];
        (counters["polls"].as_u64()? > 2 && shown["tags"]["good"] == 2).then(|| counters.clone())
    })?;
    assert!(
        polled["samples"].as_u64() >= Some(4) && polled["faults"] == 0,
        "{polled:#}"
    );

    let status = host.get("/api/v1/status")?.body;
    assert_eq!(status["pid"], host.process().id());
    assert_eq!(status["channels"], json!({ "running": 1, "stopped": 1 }));
    assert_eq!(status["tags"], json!({ "good": 2, "total": 4 }));
    assert_eq!(status["sinks"], json!([]));

    let page = |path: &str| -> Result<(Vec<Value>, Value)> {
        let body = host.get(path)?.body;
        let channels = body["channels"].as_array().cloned().unwrap_or_default();
        let ids = channels
            .iter()
            .map(|channel| channel["id"].clone())
            .collect();
        Ok((ids, body["next_cursor"].clone()))
    };
    assert_eq!(
        page("/api/v1/channels")?,
        (vec![json!("a"), json!("b")], Value::Null)
    );
    let (first, cursor) = page("/api/v1/channels?limit=1")?;
    assert_eq!(first, [json!("a")]);
    let cursor = cursor.as_str().context("there is more")?;
    assert_eq!(
        page(&format!("/api/v1/channels?limit=1&cursor={cursor}"))?,
        (vec![json!("b")], Value::Null)
    );
    for (path, expected) in [
        ("/api/v1/channels?cursor=x", (400, "bad-request")),
        ("/api/v1/channels?limit=0", (400, "bad-request")),
        ("/api/v1/channels?limit=1&limit=2", (400, "bad-request")),
        ("/api/v1/channels?page=1", (400, "bad-request")),
        ("/api/v1/channels/x", (404, "no-such-channel")),
    ] {
        assert_eq!(refused(&host.get(path)?), expected, "{path}");
    }
    Ok(())
}

#[test]
fn channels_are_steered_and_refuse_what_makes_no_sense() -> Result<()> {
    let host = Bulkhead::start(&two())?;
    // Beyond its start, whose events would be seen or not.
    host.get_until("/api/v1/tags/a/held", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;
    let events = Recorder::start(host.stream("/api/v1/stream?kind=state")?);
    let step = |path: &str| host.post(&format!("/api/v1/channels/{path}"), &json!({}));
    let denied = |path: &str, word: &str| -> Result<()> {
        let reply = step(path)?;
        assert_eq!(refused(&reply), (409, "denied"), "{path}: {reply:?}");
        let message = reply.body["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{path}: {message}");
        Ok(())
    };
    denied("a/start", "channel a is running already")?;
    denied("b/stop", "channel b is stopped already")?;
    denied("b/restart", "channel b is stopped")?;
    for verb in ["start", "stop", "restart"] {
        assert_eq!(
            refused(&step(&format!("x/{verb}"))?),
            (404, "no-such-channel")
        );
    }

    // A double start: the second is refused, whether the first is done or not.
    assert_eq!(step("b/start")?.status, 200);
    denied("b/start", "already")?;
    assert_eq!(state(&host, "b", "running")?["incarnation"], 1);

    assert_eq!(step("a/stop")?.status, 200);
    let stopped = state(&host, "a", "stopped")?;
    assert_eq!(stopped["tags"], json!({ "good": 0, "total": 2 }));
    let tag = host.get("/api/v1/tags/a/held")?.body;
    assert_eq!(
        [&tag["quality"], &tag["value"]],
        [&json!("bad-out-of-service"), &json!(20)],
        "{tag:#}"
    );
    // What is stopped takes no requests.
    for (path, body) in [
        ("/api/v1/tags/a/held/write", json!({ "value": 7 })),
        ("/api/v1/tags/a/held/read", json!({})),
    ] {
        let reply = host.post(path, &body)?;
        assert_eq!(refused(&reply), (409, "not-running"), "{path}");
    }

    assert_eq!(step("a/start")?.status, 200);
    assert_eq!(state(&host, "a", "running")?["incarnation"], 2);
    assert_eq!(step("a/restart")?.status, 200);
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["incarnation"] == 3 && shown["state"] == "running").then_some(())
    })?;
    // A restart that was asked for spends no attempt and is no fault.
    let shown = host.get("/api/v1/channels/a")?.body;
    assert_eq!(
        (
            &shown["attempts"],
            &shown["counters"]["faults"],
            &shown["last_exit"]
        ),
        (&json!(0), &json!(0), &Value::Null)
    );
    host.get_until("/api/v1/tags/a/held", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;

    events.wait("a runs for the third time", |seen| {
        let last = seen.iter().rfind(|(_, event)| event["channel"] == "a");
        last.is_some_and(|(_, event)| event["incarnation"] == 3 && event["state"] == "running")
    })?;
    let seen = events.so_far();
    let of = |channel: &str| -> Vec<(u64, String)> {
        let events = seen
            .iter()
            .filter(|(name, event)| name == "state" && event["channel"] == channel);
        events
            .map(|(_, event)| {
                let state = event["state"].as_str().unwrap_or_default();
                (
                    event["incarnation"].as_u64().unwrap_or_default(),
                    state.to_owned(),
                )
            })
            .collect()
    };
    let expected = |states: &[(u64, &str)]| -> Vec<(u64, String)> {
        states
            .iter()
            .map(|(life, state)| (*life, (*state).to_owned()))
            .collect()
    };
    assert_eq!(
        of("a"),
        expected(&[
            (1, "stopping"),
            (1, "stopped"),
            (1, "starting"),
            (2, "running"),
            (2, "restarting"),
            (2, "starting"),
            (3, "running"),
        ])
    );
    assert_eq!(of("b"), expected(&[(0, "starting"), (1, "running")]));
    Ok(())
}

#[test]
fn lives_are_numbered_over_restarts_and_crashes_of_the_host() -> Result<()> {
    let life = |host: &Bulkhead| -> Result<u64> {
        let shown = state(host, "a", "running")?;
        Ok(shown["incarnation"].as_u64().unwrap_or_default())
    };
    let host = Bulkhead::start(SIGNAL)?;
    assert_eq!(life(&host)?, 1);
    host.post("/api/v1/channels/a/restart", &json!({}))?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["incarnation"] == 2).then_some(())
    })?;
    // In order: the next number.
    let host = host.start_again(SIGNAL)?;
    assert_eq!(life(&host)?, 3);
    assert_eq!(host.get("/api/v1/tags/a/count")?.status, 200);
    drop(host);

    // Killed: numbers may be skipped, and never come twice.
    let folder = Folder::new()?;
    folder.write_config(SIGNAL)?;
    let mut last = 0;
    for _ in 0..3 {
        let running = folder.start(&["run", Folder::CONFIG])?;
        let number = running.err().wait_for(0, |line| {
            let after = line.split_once("instance=wasm/a#")?.1;
            let (number, rest) = after.split_once(' ')?;
            rest.contains("to=running")
                .then(|| number.parse::<u64>().ok())?
        })?;
        assert!(number > last, "{number} after {last}");
        last = number;
        drop(running);
    }
    Ok(())
}
