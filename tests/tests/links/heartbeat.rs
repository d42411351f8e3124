//! Heartbeats: what the probes of drivers tell and what their silence does, and how TCP finds a peer that vanished without a word.

use anyhow::{Context as _, Result, ensure};
use bulkhead_tests::firewall::Firewall as _;
use bulkhead_tests::netns::{Network, apart};
use bulkhead_tests::{Bulkhead, Calls};
use serde_json::{Value, json};

use super::reconnection::opener;

const LINK: &str = "/api/v1/links/press/plc";

/// Has the driver do this.
fn pull(host: &Bulkhead, steps: &Value) -> Result<()> {
    let body = json!({ "value": steps.to_string() });
    let reply = host.post("/api/v1/tags/press/strings/write", &body)?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(())
}

#[test]
fn a_driver_whose_probes_are_no_more_answered_loses_its_stream_and_gets_another() -> Result<()> {
    let calls = Calls::listen()?;
    let host = Bulkhead::start(&opener(&format!(
        r#"connect = "tcp://{}", base_delay = "10ms", max_delay = "20ms", heartbeat = {{ interval = "1s", lost_after = "2s" }}"#,
        calls.address
    )))?;
    let _first = calls.accept()?;
    host.get_until(LINK, |link| (link["state"] == "connected").then_some(()))?;
    let link = host.get(LINK)?.body;
    assert!(
        link["statistics"]["healthy"].is_null(),
        "nobody probes: {link:#}"
    );
    pull(&host, &json!([{ "probe": 0 }, { "probe": 0 }]))?;
    // Each counts by itself: whoever looks may see one of them.
    let healthy = host.get_until(LINK, |link| {
        (link["statistics"]["probes_answered"] == 2).then(|| link["statistics"].clone())
    })?;
    assert_eq!(
        (&healthy["probes_sent"], &healthy["healthy"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(healthy["round_trip_ns"], 1, "as the driver said");

    // The peer is still there, but no probe is answered: the stream is lost and dialled again.
    let _second = calls.accept()?;
    host.get_until(LINK, |link| {
        (link["statistics"]["streams"] == 2).then_some(())
    })?;
    let history = host.get(&format!("{LINK}/events"))?.body;
    let told: Vec<(&str, &str)> = history["events"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| Some((event["event"].as_str()?, event["cause"].as_str()?)))
        .collect();
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| *kind).collect();
    let expected = [
        "connected",
        "health-check",
        "health-check",
        "disconnected",
        "reconnecting",
        "reconnected",
    ];
    assert_eq!(kinds, expected, "{told:?}");
    assert_eq!(told[2].1, "no probe of the driver was answered for 2s");
    assert_eq!(told[3].1, "the peer stopped answering the heartbeat");
    let link = host.get(LINK)?.body;
    assert!(
        link["statistics"]["healthy"].is_null(),
        "a new stream is not probed yet: {link:#}"
    );
    Ok(())
}

/// A connection is half open: nobody says so, the driver waits for nothing, and the kernel's own limits are a quarter of an hour and more.
fn vanish(network: &Network, bytes_on_their_way: bool) -> Result<()> {
    let machine = network.machine(0)?;
    let listen = ["-dd", "TCP-LISTEN:502,reuseaddr,fork", "SYSTEM:cat"];
    let device = machine.start("socat", &listen)?;
    let listening = |line: &str| line.contains("listening on").then_some(());
    device.err().wait_for(0, listening)?;
    let host = Bulkhead::start(&opener(&format!(
        r#"connect = "tcp://{}:502", connect_timeout = "500ms", base_delay = "10ms", max_delay = "50ms", heartbeat = {{ interval = "1s", lost_after = "3s" }}"#,
        machine.far
    )))?;
    host.get_until(LINK, |link| (link["state"] == "connected").then_some(()))?;
    machine.black_hole()?;
    if bytes_on_their_way {
        pull(
            &host,
            &json!([{ "send": { "connection": 0, "text": "anybody?" } }]),
        )?;
    }
    host.get_until(LINK, |link| (link["state"] == "reconnecting").then_some(()))?;
    let history = host.get(&format!("{LINK}/events"))?.body;
    let mut events = history["events"].as_array().into_iter().flatten();
    let lost = events.find(|event| event["event"] == "disconnected");
    let cause = lost.and_then(|event| event["cause"].as_str());
    let cause = cause.context("the stream was lost")?;
    assert!(cause.contains("timed out"), "{cause}");
    ensure!(machine.heal()? > 0, "nothing was in the way of anything");
    host.get_until(LINK, |link| {
        (link["state"] == "connected" && link["statistics"]["streams"] == 2).then_some(())
    })
}

#[test]
fn a_peer_that_vanishes_is_found_while_nothing_is_said() -> Result<()> {
    apart(|network| vanish(network, false))
}

#[test]
fn a_peer_that_vanishes_is_found_while_bytes_are_on_their_way() -> Result<()> {
    apart(|network| vanish(network, true))
}
