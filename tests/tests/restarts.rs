//! What follows a fault, as an operator sees it: attempts, broken, the slow retry, reset, and the host's own pace.
//!
//! When and whether is decided by pure functions with tables and a simulation of their own (`host/src/restart`,
//! `host/src/lifecycle`); here it is the whole host that does it.

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Recorder};
use serde_json::{Value, json};

/// A channel whose driver traps when its settings say so.
fn traps(id: &str, when: &str, enabled: bool, restart: &str) -> String {
    format!(
        "[[channel]]\nid = \"{id}\"\ndriver = \"$GUESTS/traps.wasm\"\nenabled = {enabled}\n\
         settings = {{ when = \"{when}\" }}\nrestart = {{ jitter = 0, {restart} }}\n\
         [[channel.tag]]\nname = \"number\"\naddress = \"n\"\ntype = \"float64\"\naccess = \"rw\"\n"
    )
}

fn shown(host: &Bulkhead, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    host.get_until(&format!("/api/v1/channels/{id}"), |channel| {
        wanted(channel).then(|| channel.clone())
    })
}

/// The states of a channel: which, and why.
fn states(seen: &[(String, Value)], id: &str) -> Vec<(String, String)> {
    seen.iter()
        .filter(|(name, data)| name == "state" && data["channel"] == *id)
        .map(|(_, data)| {
            let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
            (text("state"), text("reason"))
        })
        .collect()
}

fn count(states: &[(String, String)], wanted: &str) -> usize {
    states.iter().filter(|(state, _)| state == wanted).count()
}

#[test]
fn a_broken_channel_is_tried_again_slowly_and_spends_nothing_by_it() -> Result<()> {
    let host = Bulkhead::start(&traps(
        "t",
        "start",
        false,
        "max_attempts = 2, delay = \"10ms\", retry_broken = \"100ms\"",
    ))?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=state")?);
    assert_eq!(
        host.post("/api/v1/channels/t/start", &json!({}))?.status,
        200
    );
    recorder.wait("it is broken for the third time", |seen| {
        count(&states(seen, "t"), "broken") == 3
    })?;
    let seen = states(&recorder.so_far(), "t");
    let names: Vec<&str> = seen.iter().map(|(state, _)| state.as_str()).collect();
    let story = "starting backoff starting backoff starting broken starting broken starting broken";
    assert_eq!(names.join(" "), story);
    let mut starts = seen.iter().filter(|(state, _)| state == "starting").skip(3);
    assert!(
        starts.all(|(_, why)| why.contains("restart.retry_broken")),
        "{seen:#?}"
    );
    for (_, why) in seen.iter().filter(|(state, _)| state == "broken") {
        for part in ["trapped", "after 2 attempts", "tried again in 100.0ms"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }
    let broken = shown(&host, "t", |channel| channel["state"] == "broken")?;
    assert_eq!(broken["attempts"], 2, "{broken:#}");
    assert!(broken["next_attempt_ns"].is_u64(), "{broken:#}");
    // Operators can be told: the stream has it, and so has the log.
    host.process().err().wait_for(0, |line| {
        let parts = ["ERROR", "channel is broken", "wasm/t#3"];
        parts.iter().all(|part| line.contains(part)).then_some(())
    })?;

    // It rests when it is told to, for good.
    assert_eq!(
        host.post("/api/v1/channels/t/stop", &json!({}))?.status,
        200
    );
    let stopped = shown(&host, "t", |channel| channel["state"] == "stopped")?;
    assert_eq!(stopped["next_attempt_ns"], Value::Null);
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn reset_begins_with_all_attempts() -> Result<()> {
    let toml = [
        traps(
            "broken",
            "start",
            true,
            "max_attempts = 0, retry_broken = \"never\"",
        ),
        traps("waits", "start", true, "first_delay = \"1h\""),
        traps("runs", "write", true, "reset_after = \"1h\""),
        traps("rests", "never", false, ""),
    ];
    let host = Bulkhead::start(&toml.concat())?;
    let broken = shown(&host, "broken", |channel| channel["state"] == "broken")?;
    assert_eq!(
        (
            &broken["incarnation"],
            &broken["attempts"],
            &broken["next_attempt"]
        ),
        (&json!(1), &json!(0), &Value::Null)
    );
    let why = broken["reason"].as_str().unwrap_or_default();
    assert!(!why.contains("tried again"), "{why}");
    let waits = shown(&host, "waits", |channel| channel["state"] == "backoff")?;
    assert_eq!(
        (&waits["incarnation"], &waits["attempts"]),
        (&json!(1), &json!(1))
    );
    assert!(waits["next_attempt_ns"].is_u64());

    // Those that have no instance begin at once, by HTTP and by the command line.
    assert_eq!(
        host.post("/api/v1/channels/broken/reset", &json!({}))?
            .status,
        200
    );
    shown(&host, "broken", |channel| {
        channel["state"] == "broken" && channel["incarnation"] == 2
    })?;
    let reset = host.client(&["channel", "reset", "waits", "--json"])?;
    assert_eq!(reset.code(), Some(0), "{reset:#?}");
    shown(&host, "waits", |channel| {
        channel["state"] == "backoff" && channel["incarnation"] == 2
    })?;

    // One that runs goes on, with its attempts back.
    shown(&host, "runs", |channel| channel["state"] == "running")?;
    let reply = host.post("/api/v1/tags/runs/number/write", &json!({ "value": 1 }))?;
    assert_eq!(reply.body["error"]["code"], "restarted", "{reply:?}");
    let back = |channel: &Value| channel["state"] == "running" && channel["incarnation"] == 2;
    assert_eq!(shown(&host, "runs", back)?["attempts"], 1);
    let reply = host.post("/api/v1/channels/runs/reset", &json!({}))?;
    assert_eq!(
        (reply.status, &reply.body["attempts"], back(&reply.body)),
        (200, &json!(0), true),
        "{reply:?}"
    );

    // One that rests has nothing to forget.
    let refused = host.client(&["channel", "reset", "rests"])?;
    assert_eq!(refused.code(), Some(1), "{refused:#?}");
    let told = refused.err.join(" ");
    assert!(
        told.contains("channel rests is stopped") && told.contains("start it"),
        "{told}"
    );
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn attempts_fall_when_the_health_has_lasted() -> Result<()> {
    let host = Bulkhead::start(&traps("t", "write", true, "reset_after = \"2s\""))?;
    shown(&host, "t", |channel| channel["state"] == "running")?;
    let trap = || host.post("/api/v1/tags/t/number/write", &json!({ "value": 1 }));
    assert_eq!(trap()?.body["error"]["code"], "restarted");
    let running = |life: u64| {
        move |channel: &Value| channel["state"] == "running" && channel["incarnation"] == life
    };
    let again = shown(&host, "t", running(2))?;
    assert_eq!(again["attempts"], 1, "one good turn resets nothing");
    // Nothing happens but that time passes.
    let well = shown(&host, "t", |channel| channel["attempts"] == 0)?;
    assert!(
        running(2)(&well) && well["counters"]["faults"] == 1,
        "{well:#}"
    );
    // The next fault is the first of a new count.
    assert_eq!(trap()?.body["error"]["code"], "restarted");
    assert_eq!(shown(&host, "t", running(3))?["attempts"], 1);
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn the_host_restarts_many_channels_one_after_the_other_and_people_do_not_wait() -> Result<()> {
    const CHANNELS: usize = 5;
    const APART_NS: u64 = 1_000_000_000;
    let mut toml = "[host]\nrestarts_per_second = 1\nrestart_burst = 1\n".to_owned();
    for number in 0..CHANNELS {
        let attempts = "max_attempts = 1, retry_broken = \"never\"";
        toml += &traps(&format!("t{number}"), "start", false, attempts);
    }
    toml += &traps("free", "never", false, "");
    let host = Bulkhead::start(&toml)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    let start = |id: &str| host.post(&format!("/api/v1/channels/{id}/start"), &json!({}));
    for number in 0..CHANNELS {
        assert_eq!(start(&format!("t{number}"))?.status, 200);
    }
    recorder.wait("all have faulted", |seen| {
        (0..CHANNELS).all(|number| count(&states(seen, &format!("t{number}")), "backoff") == 1)
    })?;
    assert_eq!(start("free")?.status, 200);
    recorder.wait("all are broken, and the free one runs", |seen| {
        (0..CHANNELS).all(|number| count(&states(seen, &format!("t{number}")), "broken") == 1)
            && count(&states(seen, "free"), "running") == 1
    })?;
    let seen = recorder.so_far();
    let at = |name: &str, word: &str| -> Vec<u64> {
        seen.iter()
            .filter(|(kind, data)| kind == name && data[name] == *word)
            .filter_map(|(_, data)| data["at_ns"].as_u64())
            .collect()
    };
    let first_fault = *at("exit", "trapped").first().context("a fault")?;
    // Besides those that people asked for: one for each of the culprits and one for the free channel.
    let mut restarts: Vec<u64> = Vec::new();
    for number in 0..CHANNELS {
        let id = format!("t{number}");
        let mut starts = seen.iter().filter(|(kind, data)| {
            kind == "state" && data["channel"] == *id && data["state"] == "starting"
        });
        let second = starts.nth(1).context("a restart")?;
        assert!(starts.next().is_none(), "{id} has one attempt");
        restarts.extend(second.1["at_ns"].as_u64());
    }
    restarts.sort_unstable();
    for (turn, restart) in (0u64..).zip(&restarts) {
        assert!(
            *restart >= first_fault + turn * APART_NS,
            "restart {turn} came after {} ns",
            restart - first_fault
        );
    }
    // The free one was started by hand while others waited for their turn.
    let free = seen
        .iter()
        .position(|(_, data)| data["channel"] == "free" && data["state"] == "starting");
    let last_broken = seen.iter().rposition(|(_, data)| data["state"] == "broken");
    assert!(free < last_broken, "it waited for the others");
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}
