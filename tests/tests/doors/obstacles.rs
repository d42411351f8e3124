//! A reload that meets something in its way: a driver that hangs, one that is about to start, another reload.

use std::thread;

use anyhow::{Result, ensure};
use bulkhead_tests::{Bulkhead, Folder, Peer, Recorder};
use serde_json::{Value, json};

use super::{SIGNAL, refused};

/// Room for a turn that takes long.
const LONG: &str = "limits = { turn_deadline = \"1m\", fuel_per_turn = 10_000_000_000 }\n";

fn channel(host: &Bulkhead, id: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    host.get_until(&format!("/api/v1/channels/{id}"), |shown| {
        wanted(shown).then(|| shown.clone())
    })
}

fn reload(host: &Bulkhead) -> Result<Value> {
    let reply = host.post("/api/v1/reload", &json!({}))?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(reply.body)
}

/// Publishes a number at each poll, and hangs in the third one of its first life.
fn hanging(period: &str) -> String {
    let polled = "{ publish = { tag = 0, value = { int = 5 } } }, { poll-done = {} }";
    format!(
        "[[channel]]\nid = \"hangs\"\ndriver = \"$DRIVERS/guests/puppet.wasm\"\n{LONG}\
         settings = {{ rules = [{{ on = \"poll\", do = [{polled}] }}, \
         {{ on = \"poll\", nth = 3, life = 1, do = [\"spin\"] }}] }}\n\
         [[channel.group]]\nname = \"all\"\nperiod = \"{period}\"\n\
         tags = [{{ name = \"level\", address = \"x\", type = \"int32\" }}]\n{SIGNAL}"
    )
}

#[test]
fn a_driver_that_hangs_is_dropped_and_whoever_reloads_meanwhile_waits() -> Result<()> {
    let host = Bulkhead::start(&hanging("50ms"))?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=sample&channel=hangs")?);
    // The third poll is with it, and it does not come back.
    channel(&host, "hangs", |shown| shown["counters"]["polls"] == 3)?;
    host.rewrite_config(&hanging("60ms"))?;
    thread::scope(|scope| -> Result<()> {
        let first = scope.spawn(|| reload(&host));
        channel(&host, "hangs", |shown| shown["state"] == "stopping")?;
        // Nobody goes on beside it; a signal waits until it is over.
        host.rewrite_config(&hanging("70ms"))?;
        let busy = host.post("/api/v1/reload", &json!({}))?;
        assert_eq!(refused(&busy), (409, "reload-under-way"));
        host.process().hang_up()?;
        let first = first.join().expect("a reload does not panic")?;
        assert_eq!(
            (&first["applied"], &first["late"]),
            (&json!(true), &Value::Null),
            "it was dropped in time: {first:#}"
        );
        Ok(())
    })?;
    let shown = channel(&host, "hangs", |shown| {
        shown["groups"][0]["period_ms"] == 70 && shown["state"] == "running"
    })?;
    assert_eq!(shown["incarnation"], 3, "{shown:#}");
    host.get_until("/api/v1/tags/hangs/level", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;
    // It was never good while nobody read it.
    recorder.wait("it is good again", |seen| {
        let level = seen.iter().map(|(_, data)| data);
        let mut later = level.skip_while(|data| data["quality"] == "good");
        later.any(|data| data["quality"] == "good" && data["incarnation"] == 3)
    })?;
    for (_, data) in &recorder.so_far() {
        let fresh = data["quality"] != "good" || data["value"] == 5;
        assert!(fresh, "{data:#}");
    }
    // The one beside it has not been touched.
    let beside = host.get("/api/v1/channels/a")?.body;
    assert_eq!(beside["incarnation"], 1, "{beside:#}");
    Ok(())
}

/// Connects and publishes in its first life, and does not come to an end of its first turn in the second.
fn starting(peer: &Peer, more: &str) -> String {
    format!(
        "[[channel]]\nid = \"slow\"\ndriver = \"$DRIVERS/guests/puppet.wasm\"\n{LONG}\
         links.plc = {{ connect = \"tcp://{}\" }}\n\
         settings = {{ rules = [\
         {{ on = \"started\", life = 1, do = [{{ open = {{ connection = 0, link = 0 }} }}] }}, \
         {{ on = \"opened\", do = [{{ publish = {{ tag = 0, value = {{ int = 5 }} }} }}] }}, \
         {{ on = \"started\", life = 2, do = [\"spin\"] }}] }}\n\
         tag = [{{ name = \"level\", address = \"x\", type = \"int32\" }}{more}]\n",
        peer.address()
    )
}

#[test]
fn a_channel_that_is_about_to_start_keeps_what_it_has() -> Result<()> {
    const ONE: &str = ", { name = \"one\", address = \"x\", type = \"int32\" }";
    const TWO: &str = ", { name = \"two\", address = \"x\", type = \"int32\" }";
    let mut peer = Peer::simulated(&["--units", "1"])?;
    let host = Bulkhead::start(&starting(&peer, ""))?;
    host.get_until("/api/v1/tags/slow/level", |tag| {
        (tag["quality"] == "good").then_some(())
    })?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?tag=slow%2Flevel")?);
    host.rewrite_config(&starting(&peer, ONE))?;
    reload(&host)?;
    let starts = |shown: &Value| shown["state"] == "starting" && shown["incarnation"] == 2;
    channel(&host, "slow", starts)?;
    host.rewrite_config(&starting(&peer, &format!("{ONE}{TWO}")))?;
    let second = reload(&host)?;
    assert_eq!(second["applied"], true, "{second:#}");
    channel(&host, "slow", |shown| {
        shown["state"] == "running" && shown["incarnation"] == 3
    })?;

    // Nothing has happened to the tag, and nothing is said of it that would not be so.
    let tag = host.get("/api/v1/tags/slow/level")?.body;
    assert_eq!(
        (&tag["quality"], &tag["value"]),
        (&json!("good"), &json!(5)),
        "{tag:#}"
    );
    let bad = |(name, data): &(String, Value)| name == "sample" && data["quality"] != "good";
    let seen = recorder.so_far();
    assert!(!seen.iter().any(bad), "{seen:#?}");
    let link = host.get("/api/v1/links/slow/plc")?.body;
    assert_eq!(link["state"], "connected", "{link:#}");
    assert_eq!(peer.stats()?["connections"], 1);

    // An operator who stops it says something else.
    host.post("/api/v1/channels/slow/stop", &json!({}))?;
    host.get_until("/api/v1/tags/slow/level", |tag| {
        (tag["quality"] == "bad-out-of-service").then_some(())
    })?;
    Ok(())
}

#[test]
fn a_watched_file_of_tags_is_taken_up_when_it_changes() -> Result<()> {
    const HEADER: &str = "name,address,type\n";
    let folder = Folder::new()?;
    let csv = folder.write("tags.csv", format!("{HEADER}one,hold(1),uint8\n"))?;
    let line = format!("tags_file = '{}'\n", csv.display());
    let group = "[[channel.group]]\nname = \"slow\"\nperiod = \"100ms\"\n";
    let config = format!("{SIGNAL}{group}{line}");
    let host = Bulkhead::start_in(folder, &config, &["--watch"])?;
    let good = |tag: &str| {
        host.get_until(&format!("/api/v1/tags/a/{tag}"), |tag| {
            (tag["quality"] == "good").then_some(())
        })
    };
    good("one")?;
    // Faults are told by the row, and change nothing.
    std::fs::write(&csv, format!("{HEADER}one,hold(1),uint9\n"))?;
    let said = |line: &str| {
        let is_it = line.contains("not reloaded") && line.contains("tags.csv:2:");
        is_it.then_some(())
    };
    host.process().err().wait_for(0, said)?;
    good("one")?;
    std::fs::write(
        &csv,
        format!("{HEADER}one,hold(1),uint8\ntwo,hold(2),uint8\n"),
    )?;
    good("two")?;
    let shown = host.get("/api/v1/channels/a")?.body;
    assert_eq!(shown["incarnation"], 2, "{shown:#}");
    Ok(())
}
