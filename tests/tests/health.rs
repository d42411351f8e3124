//! Drivers that are asked how they are, and what the host tells whoever asks it.

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Recorder, Recording};
use serde_json::{Value, json};

/// A channel that can be made ill by writing to it, and is asked ten times a second.
fn ails(id: &str, health: &str) -> String {
    format!(
        "[[channel]]\nid = \"{id}\"\ndriver = \"$GUESTS/ails.wasm\"\n\
         health = {{ interval = \"100ms\", {health} }}\n\
         restart = {{ max_attempts = 1, jitter = 0, retry_broken = \"never\" }}\n\
         [[channel.group]]\nname = \"all\"\nperiod = \"20ms\"\n\
         tags = [{{ name = \"mood\", address = \"m\", type = \"float64\", access = \"rw\" }}]\n"
    )
}

fn feel(host: &Bulkhead, id: &str, mood: u32) -> Result<()> {
    let reply = host.post(
        &format!("/api/v1/tags/{id}/mood/write"),
        &json!({ "value": mood }),
    )?;
    anyhow::ensure!(reply.status == 200, "{reply:?}");
    Ok(())
}

fn shown(host: &Bulkhead, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    host.get_until(&format!("/api/v1/channels/{id}"), |channel| {
        wanted(channel).then(|| channel.clone())
    })
}

/// The states and exits of a channel.
fn story(seen: &Recording, id: &str) -> Vec<String> {
    seen.iter()
        .filter(|(_, data)| data["channel"] == *id)
        .filter_map(|(name, data)| match name.as_str() {
            "state" => Some(data["state"].as_str()?.to_owned()),
            "exit" => Some(format!("exit: {}", data["exit"].as_str()?)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_driver_that_says_it_is_ill_degrades_its_channel_until_it_is_well() -> Result<()> {
    // The timeout is long: a machine under load must not turn slowness into silence.
    let host = Bulkhead::start(&ails("a", "timeout = \"60s\""))?;
    shown(&host, "a", |channel| channel["tags"]["good"] == 1)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=state")?);
    feel(&host, "a", 1)?;
    let ill = shown(&host, "a", |channel| channel["state"] == "degraded")?;
    let why = ill["reason"].as_str().unwrap_or_default();
    assert!(
        why.contains("not well") && why.contains("the pump is dry"),
        "{why}"
    );
    // It works on, and spends no attempt; a second answer alike is no news.
    let polls = |channel: &Value| channel["counters"]["polls"].as_u64().unwrap_or_default();
    let before = polls(&ill);
    let later = shown(&host, "a", |channel| polls(channel) > before + 20)?;
    assert_eq!(
        (
            &later["state"],
            &later["attempts"],
            &later["counters"]["faults"]
        ),
        (&json!("degraded"), &json!(0), &json!(0))
    );
    let ready = host.get("/readyz")?;
    assert_eq!((ready.status, &ready.body["ready"]), (200, &json!(true)));
    assert_eq!(ready.body["not_running"][0]["state"], "degraded");
    feel(&host, "a", 0)?;
    shown(&host, "a", |channel| channel["state"] == "running")?;
    recorder.wait("it is well again", |seen| story(seen, "a").len() == 2)?;
    assert_eq!(story(&recorder.so_far(), "a"), ["degraded", "running"]);
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_driver_that_is_silent_is_replaced_and_then_given_up() -> Result<()> {
    // The guest that answers nothing at all, and one that works on and is silent only when it is asked.
    let silent = ails("s", "timeout = \"50ms\", failures = 3")
        .replace("ails.wasm", "silent.wasm")
        .replace("restart =", "enabled = false\nrestart =");
    let toml = ails("a", "timeout = \"1s\", failures = 2") + &silent;
    let host = Bulkhead::start(&toml)?;
    shown(&host, "a", |channel| channel["tags"]["good"] == 1)?;
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    assert_eq!(
        host.post("/api/v1/channels/s/start", &json!({}))?.status,
        200
    );
    feel(&host, "a", 2)?;
    let of_a = [
        "degraded",
        "exit: unresponsive",
        "backoff",
        "starting",
        "running",
    ];
    recorder.wait("both are where they end", |seen| {
        story(seen, "a").len() >= of_a.len()
            && story(seen, "s").last().is_some_and(|word| word == "broken")
    })?;
    let replaced = shown(&host, "a", |channel| {
        channel["state"] == "running" && channel["incarnation"] == 2
    })?;
    assert_eq!(replaced["attempts"], 1, "{replaced:#}");
    let exit = &replaced["last_exit"];
    assert_eq!(
        (&exit["exit"], &exit["during"]),
        (&json!("unresponsive"), &json!("idle"))
    );
    for (key, part) in [("message", "2 of 2 in a row"), ("remedy", "health.timeout")] {
        let text = exit[key].as_str().unwrap_or_default();
        assert!(text.contains(part), "{part}: {text}");
    }
    // Degraded at the first silence, gone at the last.
    let seen = recorder.so_far();
    assert_eq!(story(&seen, "a"), of_a);
    let lives = "starting running degraded exit: unresponsive backoff \
                 starting running degraded exit: unresponsive broken";
    assert_eq!(story(&seen, "s").join(" "), lives);
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn the_host_says_whether_it_is_live_and_ready_and_why_not() -> Result<()> {
    let trap = "[[channel]]\nid = \"t\"\ndriver = \"$GUESTS/traps.wasm\"\nsettings = { when = \"start\" }\n\
                restart = { max_attempts = 0, retry_broken = \"1h\" }\n";
    let rests = "[[channel]]\nid = \"r\"\ndriver = \"$GUESTS/traps.wasm\"\nenabled = false\nsettings = {}\n";
    let host = Bulkhead::start(&format!("{}{trap}{rests}", ails("a", "failures = 3")))?;
    shown(&host, "a", |channel| channel["state"] == "running")?;
    shown(&host, "t", |channel| channel["state"] == "broken")?;
    for path in ["/readyz", "/api/v1/health/ready"] {
        let ready = host.get(path)?;
        assert_eq!(ready.status, 503, "{path}: {ready:?}");
        assert_eq!(
            (
                &ready.body["ready"],
                &ready.body["running"],
                &ready.body["left_off"]
            ),
            (&json!(false), &json!(1), &json!(0))
        );
        let others = ready.body["not_running"].as_array().context("a list")?;
        let of = |index: usize| -> Result<(&Value, &Value, &Value)> {
            let other = others.get(index).context("there are two")?;
            Ok((&other["channel"], &other["state"], &other["missing"]))
        };
        assert_eq!(of(0)?, (&json!("t"), &json!("broken"), &json!(true)));
        assert_eq!(of(1)?, (&json!("r"), &json!("stopped"), &json!(false)));
        assert_eq!(others.len(), 2, "{others:#?}");
        let why = others[0]["reason"].as_str().unwrap_or_default();
        assert!(
            why.contains("trapped") && others[0]["next_attempt_ns"].is_u64(),
            "{others:#?}"
        );
    }
    // What a driver does is none of the host's own life.
    for path in ["/livez", "/api/v1/health/live"] {
        let live = host.get(path)?;
        assert_eq!(
            (live.status, live.body),
            (200, json!({ "live": true, "hanging": [] })),
            "{path}"
        );
    }
    // Somebody lets it rest: then all that should run does.
    assert_eq!(
        host.post("/api/v1/channels/t/stop", &json!({}))?.status,
        200
    );
    let ready = host.get("/readyz")?;
    assert_eq!((ready.status, &ready.body["ready"]), (200, &json!(true)));
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}
