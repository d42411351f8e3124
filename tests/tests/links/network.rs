//! What the machine's own network does to its links. Here nothing else could tell: time-outs and heartbeats are far too long, and a
//! single attempt is all that a link has.

use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::netns::{Network, Place as _, apart};
use bulkhead_tests::plant::{Fault, Options, Plant};
use serde_json::{Value, json};

const ONE_ATTEMPT: &str = r#", max_attempts = 1, connect_timeout = "500ms", heartbeat = { interval = "10m", lost_after = "30m" }"#;
const LINK: &str = "/api/v1/links/plant/plc";

fn plant(network: &Network, number: u8) -> Result<Plant<'_>> {
    Plant::start(
        network,
        Options {
            fault: Fault::AddressRemoved,
            number,
            link: ONE_ATTEMPT,
            timeout: Duration::from_secs(600),
        },
    )
}

fn link(plant: &Plant<'_>, state: &str) -> Result<Value> {
    plant
        .host
        .get_until(LINK, |link| (link["state"] == state).then(|| link.clone()))
}

fn tags(plant: &Plant<'_>, quality: &str) -> Result<()> {
    plant.host.get_until("/api/v1/tags?limit=10", |page| {
        let mut tags = page["tags"].as_array()?.iter();
        tags.all(|tag| tag["quality"] == quality).then_some(())
    })
}

/// The wire of the first plant is cut at the host's end and mended, the other plant's is not.
fn check(
    network: &Network,
    cut: impl FnOnce(&mut Plant<'_>) -> Result<()>,
    mend: impl FnOnce(&mut Plant<'_>) -> Result<()>,
) -> Result<()> {
    let (mut cut_off, other) = (plant(network, 0)?, plant(network, 1)?);
    assert_eq!(link(&cut_off, "connected")?["statistics"]["streams"], 1);
    cut(&mut cut_off)?;
    // It is dropped, dialled in vain, and given up.
    link(&cut_off, "failed")?;
    tags(&cut_off, "bad-not-connected")?;
    let history = cut_off.host.get(&format!("{LINK}/events"))?.body;
    let happened = history["events"].as_array().cloned().unwrap_or_default();
    let lost = happened
        .iter()
        .find(|event| event["event"] == "disconnected");
    assert_eq!(
        lost.map(|event| &event["cause"]),
        Some(&json!(
            "this machine lost the address or interface that it went through"
        )),
        "{history:#}"
    );
    mend(&mut cut_off)?;
    let back = link(&cut_off, "connected")?;
    assert_eq!(back["statistics"]["streams"], 2, "{back:#}");
    tags(&cut_off, "good")?;
    let untouched = link(&other, "connected")?;
    assert_eq!(untouched["statistics"]["streams"], 1, "{untouched:#}");
    Ok(())
}

#[test]
fn links_go_and_come_with_the_address_that_they_go_through() -> Result<()> {
    apart(|network| {
        check(
            network,
            |plant| plant.inject().map(drop),
            |plant| plant.lift().map(drop),
        )
    })
}

#[test]
fn links_go_and_come_with_the_interface_that_they_go_through() -> Result<()> {
    apart(|network| {
        let set = |state: &str| {
            let arguments = ["link", "set", "wire0", state];
            network.run("ip", &arguments).map(drop)
        };
        check(network, |_| set("down"), |_| set("up"))
    })
}
