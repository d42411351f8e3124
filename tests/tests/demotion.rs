//! Devices that keep silent are polled less and come back by themselves; devices that an operator has locked are left alone.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bulkhead_tests::{Bulkhead, Machine, Peer, Reply, Requests};
use serde_json::{Value, json};

const CHANNEL: &str = "/api/v1/channels/line";
const DEVICES: &str = "/api/v1/channels/line/devices";

/// A channel with so many units on one link, each with one tag, all of them in one group.
fn config(peer: &Peer, units: u8, keys: &str, period: &str) -> String {
    let mut text = format!(
        r#"
[[channel]]
id = "line"
driver = "$DRIVERS/modbus.wasm"
links.plc = {{ connect = "tcp://{}", base_delay = "50ms", max_delay = "100ms" }}
{keys}
"#,
        peer.address()
    );
    let mut tags = String::new();
    for unit in 1..=units {
        text += &format!("[[channel.device]]\nname = \"u{unit}\"\naddress = \"{unit}\"\n");
        let tag = format!(r#"name = "t{unit}", device = "u{unit}", address = "holding:250""#);
        tags += &format!("    {{ {tag}, type = \"uint16\", access = \"rw\" }},\n");
    }
    text +=
        &format!("[[channel.group]]\nname = \"all\"\nperiod = \"{period}\"\ntags = [\n{tags}]\n");
    text
}

/// How a device stands.
fn device(host: &Bulkhead, unit: u8, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let place = usize::from(unit) - 1;
    host.get_until(DEVICES, |shown| {
        let device = &shown["devices"][place];
        wanted(device).then(|| device.clone())
    })
}

fn quality(host: &Bulkhead, unit: u8, wanted: &str) -> Result<Value> {
    host.get_until(&format!("/api/v1/tags/line/t{unit}"), |tag| {
        (tag["quality"] == wanted).then(|| tag.clone())
    })
}

fn all_good(host: &Bulkhead) -> Result<()> {
    host.get_until(CHANNEL, |shown| {
        (shown["tags"]["good"] == shown["tags"]["total"]).then_some(())
    })
}

/// Polls handed out and skipped, once as many were handed out.
fn polls(host: &Bulkhead, at_least: u64) -> Result<(u64, u64)> {
    host.get_until(CHANNEL, |shown| {
        let count = |name: &str| shown["counters"][name].as_u64();
        let polls = count("polls")?;
        (polls >= at_least).then_some((polls, count("polls_skipped")?))
    })
}

/// Reads of a unit, as the device counts them.
fn reads(requests: &Requests, unit: u8) -> u64 {
    requests.get(&(unit, 3)).copied().unwrap_or_default()
}

fn code(reply: &Reply) -> (u16, &str) {
    let code = reply.body["error"]["code"].as_str().unwrap_or_default();
    (reply.status, code)
}

#[test]
fn one_dead_unit_among_32_costs_the_other_31_no_poll() -> Result<()> {
    const UNITS: u8 = 32;
    const POLLS: u64 = 8;
    let mut peer = Peer::simulated(&["--units", "1-32"])?;
    // A poll that waits for the dead unit takes longer than two periods.
    let keys = "settings = { timeout_ms = 2500, retries = 0 }\ndemotion = { after = 2, delay = \"1s\", max_delay = \"2s\" }";
    let host = Bulkhead::start(&config(&peer, UNITS, keys, "1s"))?;
    let ours = [host.process().id(), peer.process().id()];
    all_good(&host)?;
    peer.set_faults(&["silence:unit=32"])?;
    let down = device(&host, 32, |device| device["condition"] == "down")?;
    quality(&host, 32, "bad-timeout")?;
    let demoted = device(&host, 32, |device| device["standing"] == "demoted")?;
    assert!(demoted["next_probe_ns"].is_u64(), "{down} {demoted}");
    let (before, skipped) = polls(&host, 0)?;
    assert!(
        skipped >= 2,
        "before that it cost them their rhythm: {skipped}"
    );

    let machine = Machine::watch(&ours)?;
    // A poll that is done before the count begins, and one that may be under way when it ends.
    let (begin, skipped) = polls(&host, before + 2)?;
    let first = peer.requests()?;
    let (end, still) = polls(&host, begin + POLLS)?;
    let second = peer.requests()?;
    let late = machine.late_at_most(end - begin, Duration::from_secs(1), &ours)?;
    assert!(
        still - skipped <= late,
        "the others keep their period: {still}, {skipped} before"
    );
    let probes = reads(&second, 32) - reads(&first, 32);
    assert!(
        (1..POLLS).contains(&probes),
        "it is asked now and then, and nobody waits for it: {probes}"
    );
    for unit in 1..UNITS {
        let asked = reads(&second, unit) - reads(&first, unit);
        assert!(
            (POLLS - 1..=end - begin + 1).contains(&asked),
            "unit {unit}: {asked}"
        );
    }
    let shown = host.get(CHANNEL)?.body;
    assert_eq!(shown["tags"], json!({ "good": 31, "total": 32 }));
    let reasons = quality(&host, 32, "bad-timeout")?["reasons"].to_string();
    assert!(
        reasons.contains("device u32 keeps silent, and is polled less"),
        "{reasons}"
    );
    // While a probe is under way, there is no next one to tell of.
    device(&host, 32, |device| device["next_probe_ns"].is_u64())?;
    let list = || Ok::<_, anyhow::Error>(host.client(&["device", "list", "line"])?.out.join("\n"));
    let first = list()?;
    let told = first.contains("demoted, probed at") || list()?.contains("demoted, probed at");
    assert!(told, "{first}");
    Ok(())
}

#[test]
fn a_silent_unit_is_probed_now_and_then_and_comes_back_by_itself() -> Result<()> {
    let mut peer = Peer::simulated(&["--units", "1-2"])?;
    let keys = "settings = { timeout_ms = 100, retries = 0 }\ndemotion = { after = 2, delay = \"300ms\", max_delay = \"600ms\" }";
    let host = Bulkhead::start(&config(&peer, 2, keys, "20ms"))?;
    all_good(&host)?;
    peer.set_faults(&["silence:unit=2"])?;
    device(&host, 2, |device| device["standing"] == "demoted")?;
    let first = peer.requests()?;
    let probed =
        |peer: &mut Peer| -> Result<u64> { Ok(reads(&peer.requests()?, 2) - reads(&first, 2)) };
    while probed(&mut peer)? < 4 {
        polls(&host, polls(&host, 0)?.0 + 1)?;
    }
    let second = peer.requests()?;
    let (living, dead) = (
        reads(&second, 1) - reads(&first, 1),
        reads(&second, 2) - reads(&first, 2),
    );
    assert!(living > 2 * dead, "{living} {dead}");
    assert_eq!(quality(&host, 2, "bad-timeout")?["quality"], "bad-timeout");
    peer.set_faults(&[])?;
    quality(&host, 2, "good")?;
    let back = device(&host, 2, |device| device["standing"] == "polled")?;
    assert_eq!(
        (&back["condition"], back.get("next_probe")),
        (&json!("up"), None)
    );
    // With the others from now on.
    let (from, _) = polls(&host, 0)?;
    let third = peer.requests()?;
    polls(&host, from + 10)?;
    let fourth = peer.requests()?;
    let asked = |unit| reads(&fourth, unit) - reads(&third, unit);
    assert!(
        asked(2) >= 8 && asked(2).abs_diff(asked(1)) <= 1,
        "{} {}",
        asked(1),
        asked(2)
    );
    Ok(())
}

#[test]
fn a_locked_device_is_left_alone_until_it_is_unlocked_also_over_a_restart() -> Result<()> {
    let mut peer = Peer::simulated(&["--units", "1-2"])?;
    let toml = config(&peer, 2, "settings = { timeout_ms = 500 }", "20ms");
    let host = Bulkhead::start(&toml)?;
    all_good(&host)?;
    let write = |host: &Bulkhead| host.post("/api/v1/tags/line/t2/write", &json!({ "value": 7 }));
    assert_eq!(write(&host)?.status, 200);

    let locked = host.client(&["device", "lock", "line/u2", "--why", "being mended"])?;
    assert_eq!(locked.code(), Some(0), "{locked:?}");
    let is_left_alone = |host: &Bulkhead, peer: &mut Peer| -> Result<()> {
        let tag = quality(host, 2, "bad-out-of-service")?;
        let reasons = tag["reasons"].to_string();
        let sentence = "device u2 is locked by an operator: being mended";
        assert!(reasons.contains(sentence), "{reasons}");
        // A poll from before may be under way.
        let (from, _) = polls(host, polls(host, 0)?.0 + 2)?;
        let first = peer.requests()?;
        polls(host, from + 20)?;
        let second = peer.requests()?;
        assert_eq!(reads(&second, 2), reads(&first, 2));
        assert!(reads(&second, 1) > reads(&first, 1) + 10);
        let refused = write(host)?;
        assert_eq!(code(&refused), (409, "device-locked"), "{refused:?}");
        let error = &refused.body["error"];
        assert_eq!(error["message"], sentence);
        let remedy = error["remedy"].as_str().context("a remedy")?;
        assert!(
            remedy.contains("bulkhead device unlock line/u2"),
            "{remedy}"
        );
        let read = host.post("/api/v1/tags/line/t2/read", &json!({}))?;
        assert_eq!(code(&read), (409, "device-locked"), "{read:?}");
        let many = host.post(
            "/api/v1/tags/read",
            &json!({ "tags": ["line/t1", "line/t2"] }),
        )?;
        let results = many.body["results"].to_string();
        assert!(
            results.contains("device-locked") && results.contains("good"),
            "{results}"
        );
        // Commands find it by the device that they name.
        let test_read = |unit: &str| {
            let place = json!({ "device": unit, "address": "holding:250", "type": "uint16" });
            let path = format!("{CHANNEL}/commands/test-read");
            host.post(&path, &json!({ "payload": place }))
        };
        let refused = test_read("u2")?;
        assert_eq!(code(&refused), (409, "device-locked"), "{refused:?}");
        assert_eq!(test_read("u1")?.status, 200);
        let third = peer.requests()?;
        assert_eq!(
            (reads(&third, 2), third.get(&(2, 6))),
            (reads(&first, 2), first.get(&(2, 6)))
        );
        let listed = host.client(&["device", "list", "line", "--json"])?;
        let second: Value = serde_json::from_str(&listed.out[1])?;
        assert_eq!(
            (&second["standing"], &second["locked_why"]),
            (&json!("locked"), &json!("being mended"))
        );
        Ok(())
    };
    is_left_alone(&host, &mut peer)?;
    let host = host.start_again(&toml)?;
    quality(&host, 1, "good")?;
    is_left_alone(&host, &mut peer)?;

    let unknown = host.post(&format!("{DEVICES}/u3/lock"), &json!({}))?;
    assert_eq!(code(&unknown), (404, "no-such-device"), "{unknown:?}");
    let wrong = host.client(&["device", "lock", "u2"])?;
    assert_eq!(wrong.code(), Some(2), "{wrong:?}");

    let unlocked = host.post(&format!("{DEVICES}/u2/unlock"), &json!({}))?;
    assert_eq!(
        (unlocked.status, &unlocked.body["standing"]),
        (200, &json!("polled"))
    );
    quality(&host, 2, "good")?;
    assert_eq!(write(&host)?.status, 200);
    Ok(())
}
