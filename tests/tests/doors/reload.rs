//! Another configuration for a host that runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::{Bulkhead, Machine, Peer, Recorder, Recording};
use serde_json::{Value, json};

use super::{SIGNAL, refused};

/// Of the groups whose tags are held: longer than a machine commonly keeps anybody waiting.
const PERIOD: Duration = Duration::from_millis(100);

/// Tags that are held, each with a value of its own, in this order.
fn held(id: &str, tags: &[(&str, u32)]) -> String {
    let tags = tags.iter().map(|(name, value)| {
        format!("{{ name = \"{name}\", address = \"hold({value})\", type = \"uint32\", access = \"rw\" }},\n")
    });
    let tags: String = tags.collect();
    format!(
        "[[channel]]\nid = \"{id}\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
         [[channel.group]]\nname = \"fast\"\nperiod = \"{}ms\"\ntags = [\n{tags}]\n",
        PERIOD.as_millis()
    )
}

/// A device with two groups; `slow` may hold more tags.
fn press(peer: &Peer, unit: u32, slow: &str) -> String {
    format!(
        "[[channel]]\nid = \"press\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
         links.plc = {{ connect = \"tcp://{}\" }}\n\
         [[channel.device]]\nname = \"one\"\naddress = \"{unit}\"\n\
         [[channel.group]]\nname = \"fast\"\nperiod = \"20ms\"\n\
         tags = [{{ name = \"steady\", address = \"holding:0\", type = \"uint16\" }}]\n\
         [[channel.group]]\nname = \"slow\"\nperiod = \"50ms\"\ntags = [{slow}]\n",
        peer.address()
    )
}

const GONE: &str = "{ name = \"gone\", address = \"holding:1\", type = \"uint16\" }";
const NEW: &str = "{ name = \"new\", address = \"holding:2\", type = \"uint16\" }";

fn good(host: &Bulkhead, tag: &str) -> Result<()> {
    host.get_until(&format!("/api/v1/tags/{tag}"), |tag| {
        (tag["quality"] == "good").then_some(())
    })
}

fn reload(host: &Bulkhead, more: &[&str]) -> Result<Value> {
    let ended = host.client(&[&["reload", "--json"][..], more].concat())?;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Ok(serde_json::from_str(&ended.out.concat())?)
}

fn of_tag<'a>(
    seen: &'a Recording,
    channel: &'a str,
    tag: &'a str,
) -> impl Iterator<Item = &'a Value> {
    seen.iter()
        .filter(move |(name, data)| {
            name == "sample" && data["channel"] == channel && data["tag"] == tag
        })
        .map(|(_, data)| data)
}

#[test]
fn what_has_not_changed_is_not_touched() -> Result<()> {
    let machine = Machine::watch(&[])?;
    let mut peer = Peer::simulated(&["--units", "1"])?;
    let still = held("still", &[("a", 1)]);
    let host = Bulkhead::start(&format!(
        "{still}{}{}",
        press(&peer, 1, GONE),
        held("leaves", &[("b", 2)])
    ))?;
    let ours = [host.process().id(), peer.process().id()];
    for tag in ["still/a", "press/steady", "press/gone", "leaves/b"] {
        good(&host, tag)?;
    }
    let recorder = Recorder::start(host.stream("/api/v1/stream")?);
    recorder.wait("samples come", |seen| {
        of_tag(seen, "press", "steady").count() > 2 && of_tag(seen, "press", "gone").count() > 2
    })?;
    host.rewrite_config(&format!(
        "{}{still}{}",
        held("comes", &[("c", 3)]),
        press(&peer, 1, NEW)
    ))?;

    let plan = json!({
        "added": ["comes"], "removed": ["leaves"], "unchanged": 1, "of_host": [],
        "changed": [{
            "channel": "press", "keys": [],
            "links": { "added": [], "removed": [], "changed": [] },
            "devices": { "added": [], "removed": [], "changed": [] },
            "groups": { "added": [], "removed": [], "changed": ["slow"] },
            "tags": { "added": ["new"], "removed": ["gone"], "changed": [] },
        }],
    });
    let with = |applied: bool| {
        let mut plan = plan.clone();
        plan["applied"] = applied.into();
        plan
    };
    assert_eq!(reload(&host, &["--dry-run"])?, with(false));
    let before = host.get("/api/v1/channels")?.body;
    assert_eq!(
        before["channels"].as_array().map(Vec::len),
        Some(3),
        "nothing was done yet"
    );
    assert_eq!(reload(&host, &[])?, with(true));

    good(&host, "press/new")?;
    good(&host, "comes/c")?;
    recorder.wait("the channel goes on", |seen| {
        of_tag(seen, "press", "new").count() > 2
            && of_tag(seen, "press", "steady").any(|data| data["incarnation"] == 2)
    })?;
    let seen = recorder.so_far();
    let ids = host.get("/api/v1/channels")?.body;
    let ids: Vec<&Value> = ids["channels"]
        .as_array()
        .context("channels")?
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["comes", "still", "press"], "in the order of the file");
    assert_eq!(
        refused(&host.get("/api/v1/channels/leaves")?),
        (404, "no-such-channel")
    );
    assert_eq!(
        refused(&host.get("/api/v1/tags/press/gone")?),
        (404, "no-such-tag")
    );

    // The one beside it has noticed nothing.
    let still = host.get("/api/v1/channels/still")?.body;
    assert_eq!(still["incarnation"], 1, "{still:#}");
    let counted = |what: &str| still["counters"][what].as_u64().context("a counter");
    let late = machine.late_at_most(counted("polls")?, PERIOD, &ours)?;
    assert!(counted("polls_skipped")? <= late, "{still:#}");
    let told = |channel: &str| {
        seen.iter()
            .filter(|(name, data)| name == "state" && data["channel"] == channel)
            .count()
    };
    assert_eq!(told("still"), 0);
    // What stayed was good all the time, over one connection, with counters that go on.
    assert!(
        of_tag(&seen, "press", "steady").all(|data| data["quality"] == "good"),
        "{seen:#?}"
    );
    let press = host.get("/api/v1/channels/press")?.body;
    assert_eq!(press["incarnation"], 2, "{press:#}");
    assert_eq!(peer.stats()?["connections"], 1);
    let sequences: Vec<u64> = seen
        .iter()
        .filter(|(name, data)| name == "sample" && data["channel"] == "press")
        .filter_map(|(_, data)| data["sequence"].as_u64())
        .collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    // What went said so.
    for (channel, tag) in [("press", "gone"), ("leaves", "b")] {
        let last = of_tag(&seen, channel, tag).last().context("it was there")?;
        assert_eq!(last["quality"], "bad-out-of-service", "{channel}/{tag}");
    }
    let history = host.get("/api/v1/channels/press/history")?.body;
    assert!(
        history
            .to_string()
            .contains("its configuration was reloaded"),
        "{history:#}"
    );
    // The same again is nothing.
    let same = reload(&host, &[])?;
    assert_eq!(
        (&same["applied"], &same["unchanged"]),
        (&json!(false), &json!(3))
    );
    ensure!(host.stop()?.code() == Some(0));
    Ok(())
}

#[test]
fn another_device_is_no_longer_believed() -> Result<()> {
    let mut peer = Peer::simulated(&["--units", "1-2"])?;
    let host = Bulkhead::start(&press(&peer, 1, GONE))?;
    good(&host, "press/steady")?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=sample")?);
    recorder.wait("samples come", |seen| {
        of_tag(seen, "press", "steady").count() > 2
    })?;
    peer.set_faults(&["silence"])?;
    host.rewrite_config(&press(&peer, 2, GONE))?;
    let plan = reload(&host, &[])?;
    assert_eq!(
        plan["changed"][0]["devices"]["changed"],
        json!(["one"]),
        "{plan:#}"
    );
    assert_eq!(
        plan["changed"][0]["tags"]["changed"],
        json!(["steady", "gone"]),
        "{plan:#}"
    );
    let tag = host.get("/api/v1/tags/press/steady")?.body;
    assert_ne!(tag["quality"], "good", "{tag:#}");
    assert_eq!(
        tag["value"],
        Value::Null,
        "it is the other device's: {tag:#}"
    );
    recorder.wait("it is told", |seen| {
        of_tag(seen, "press", "steady")
            .last()
            .is_some_and(|data| data["quality"] == "bad-out-of-service")
    })?;
    Ok(())
}

#[test]
fn a_link_that_leads_elsewhere_brings_nothing_of_the_old_one() -> Result<()> {
    let one = Peer::simulated(&["--units", "1"])?;
    let mut other = Peer::simulated(&["--units", "1"])?;
    other.set_faults(&["silence"])?;
    let host = Bulkhead::start(&press(&one, 1, GONE))?;
    good(&host, "press/steady")?;
    host.rewrite_config(&press(&other, 1, GONE))?;
    let plan = reload(&host, &[])?;
    assert_eq!(
        plan["changed"][0]["links"]["changed"],
        json!(["plc"]),
        "{plan:#}"
    );
    let tag = host.get("/api/v1/tags/press/steady")?.body;
    assert_ne!(tag["quality"], "good", "{tag:#}");
    assert_eq!(tag["value"], Value::Null, "{tag:#}");
    other.set_faults(&[])?;
    good(&host, "press/steady")?;
    // Gone and back at once: never two of one name.
    host.rewrite_config(SIGNAL)?;
    assert_eq!(reload(&host, &[])?["removed"], json!(["press"]));
    host.rewrite_config(&press(&one, 1, GONE))?;
    assert_eq!(reload(&host, &[])?["added"], json!(["press"]));
    good(&host, "press/steady")?;
    Ok(())
}

#[test]
fn values_never_stand_under_another_name() -> Result<()> {
    const TURNS: usize = 20;
    let orders = [
        held("a", &[("one", 1_000), ("two", 2_000), ("three", 3_000)]),
        held("a", &[("three", 3_000), ("one", 1_000), ("two", 2_000)]),
        held("a", &[("two", 2_000), ("one", 1_000)]),
    ];
    let host = Bulkhead::start(&orders[0])?;
    good(&host, "a/three")?;
    let recorder = Recorder::start(host.stream("/api/v1/stream?kind=sample&snapshot=true")?);
    let over = AtomicBool::new(false);
    let (done, restarted) = thread::scope(|scope| -> Result<(u32, u32)> {
        let (host, over) = (&host, &over);
        let writer = scope.spawn(move || -> Result<(u32, u32)> {
            let (mut done, mut restarted) = (0, 0);
            for value in (0..1_000).cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                for (tag, base) in [("one", 1_000), ("two", 2_000)] {
                    let body = json!({ "value": base + value });
                    let reply = host.post(&format!("/api/v1/tags/a/{tag}/write"), &body)?;
                    match (reply.status, reply.body["error"]["code"].as_str()) {
                        (200, None) => done += 1,
                        (503, Some("restarted")) | (409, Some("not-running")) => restarted += 1,
                        _ => anyhow::bail!("{reply:?}"),
                    }
                }
            }
            Ok((done, restarted))
        });
        for turn in 1..=TURNS {
            host.rewrite_config(&orders[turn % orders.len()])?;
            let plan = reload(host, &[])?;
            ensure!(plan["applied"] == true, "{plan:#}");
        }
        over.store(true, Ordering::Relaxed);
        writer.join().expect("the writer does not panic")
    })?;
    eprintln!("{done} writes were done, {restarted} met a restart");
    assert!(done > 0);
    let count = recorder.so_far().len();
    recorder.wait("it goes on", |seen| seen.len() > count + 10)?;
    let seen = recorder.so_far();
    for (tag, base) in [("one", 1_000), ("two", 2_000), ("three", 3_000)] {
        let mut some = false;
        for data in seen
            .iter()
            .map(|(_, data)| data)
            .filter(|data| data["tag"] == tag)
        {
            if let Some(value) = data["value"].as_u64() {
                some = true;
                assert!((base..base + 1_000).contains(&value), "{data:#}");
            }
        }
        assert!(some, "{tag}");
    }
    let incarnation = host.get("/api/v1/channels/a")?.body["incarnation"].clone();
    assert_eq!(incarnation, TURNS as u64 + 1);
    Ok(())
}

#[test]
fn a_faulty_file_changes_nothing_and_says_why() -> Result<()> {
    let host = Bulkhead::start(SIGNAL)?;
    good(&host, "a/held")?;
    let other = SIGNAL.replace("50ms", "60ms");
    for (text, code, words) in [
        (
            "[[channel".to_owned(),
            "faulty-configuration",
            "not valid TOML",
        ),
        (
            other.replace("period", "perlod"),
            "faulty-configuration",
            "perlod",
        ),
        (
            other.replace("hold(20)", "nonsense"),
            "faulty-configuration",
            "nonsense",
        ),
        (
            other.replace("signal.wasm", "nobody.wasm"),
            "faulty-configuration",
            "nobody.wasm",
        ),
        (
            format!("[host]\ndata_dir = \"elsewhere\"\n{other}"),
            "needs-restart",
            "host.data_dir",
        ),
        (
            format!("{other}[[sink]]\nkind = \"stdout\"\n"),
            "needs-restart",
            "sink stdout",
        ),
        (
            other.replace("driver =", "limits = { memory = \"1GiB\" }\ndriver ="),
            "no-room",
            "`limits.memory` of a is greater than 32MiB, which is the most that this host was started for",
        ),
    ] {
        host.rewrite_config(&text)?;
        let ended = host.client(&["reload"])?;
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        assert!(ended.err.concat().contains(words), "{words}: {ended:?}");
        let reply = host.post("/api/v1/reload", &json!({ "dry_run": true }))?;
        assert_eq!(refused(&reply).1, code, "{reply:?}");
        let faults = reply.body["error"]["faults"]["faults"].as_array();
        assert_eq!(
            faults.is_some(),
            code == "faulty-configuration",
            "{reply:?}"
        );
    }
    let shown = host.get("/api/v1/channels/a")?.body;
    assert_eq!(
        [&shown["incarnation"], &shown["groups"][0]["period_ms"]],
        [1, 50],
        "{shown:#}"
    );

    // Mended, it is taken up: by a signal.
    host.rewrite_config(&other)?;
    host.process().hang_up()?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["groups"][0]["period_ms"] == 60 && shown["incarnation"] == 2).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_watched_file_is_taken_up_when_it_changes() -> Result<()> {
    let host = Bulkhead::start_with(SIGNAL, &["--watch"])?;
    good(&host, "a/held")?;
    host.rewrite_config("no TOML")?;
    let refused = |line: &str| line.contains("not reloaded").then_some(());
    host.process().err().wait_for(0, refused)?;
    host.rewrite_config(&SIGNAL.replace("50ms", "60ms"))?;
    host.get_until("/api/v1/channels/a", |shown| {
        (shown["groups"][0]["period_ms"] == 60).then_some(())
    })?;
    Ok(())
}

#[test]
fn who_rests_goes_on_to_rest_and_who_is_broken_gets_another_chance() -> Result<()> {
    let broken = "[[channel]]\nid = \"broken\"\ndriver = \"$DRIVERS/guests/traps.wasm\"\n\
        settings = { when = \"poll\" }\nrestart = { max_attempts = 0, retry_broken = \"never\" }\n\
        [[channel.group]]\nname = \"all\"\nperiod = \"50ms\"\ntags = [{ name = \"t\", address = \"x\", type = \"float64\" }]\n";
    let text = format!("{SIGNAL}{broken}");
    let host = Bulkhead::start(&text)?;
    good(&host, "a/held")?;
    let state = |channel: &str, state: &str| {
        host.get_until(&format!("/api/v1/channels/{channel}"), |shown| {
            (shown["state"] == state).then(|| shown.clone())
        })
    };
    state("broken", "broken")?;
    host.post("/api/v1/channels/a/stop", &json!({}))?;
    state("a", "stopped")?;
    let mended = text
        .replace("\"poll\"", "\"never\"")
        .replace("50ms", "60ms");
    host.rewrite_config(&mended)?;
    reload(&host, &[])?;
    state("broken", "running")?;
    let rests = host.get("/api/v1/channels/a")?.body;
    assert_eq!(
        [&rests["state"], &rests["incarnation"]],
        [&json!("stopped"), &json!(1)],
        "{rests:#}"
    );
    host.post("/api/v1/channels/a/start", &json!({}))?;
    state("a", "running")?;
    good(&host, "a/held")?;
    // Switched off and on again.
    let off = mended.replacen("driver =", "enabled = false\ndriver =", 1);
    host.rewrite_config(&off)?;
    reload(&host, &[])?;
    state("a", "stopped")?;
    let held = host.get("/api/v1/tags/a/held")?.body;
    assert_eq!(held["quality"], "bad-out-of-service", "{held:#}");
    host.rewrite_config(&mended)?;
    reload(&host, &[])?;
    state("a", "running")?;
    Ok(())
}
