//! Five hundred links to one device that goes and comes back.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::Bulkhead;
use bulkhead_tests::firewall::{Dial, Firewall as _};
use bulkhead_tests::fleet::Fleet;
use bulkhead_tests::netns::apart;
use bulkhead_tests::plant::PORT;
use tokio::time::Instant;

const LINKS: usize = 500;

/// So many calls, and when each of them came.
fn take_calls(device: &TcpListener, count: usize) -> Result<Vec<(TcpStream, Instant)>> {
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        let (call, _) = device.accept()?;
        calls.push((call, Instant::now()));
    }
    Ok(calls)
}

#[test]
fn the_device_sees_no_more_calls_than_the_hosts_rate() -> Result<()> {
    const PER_SECOND: u32 = 100;
    const BURST: u32 = 20;
    let device = TcpListener::bind("127.0.0.1:0")?;
    let at = device.local_addr()?;
    let mut toml = format!(
        "[host]\ndata_dir = \"$DIR/data\"\ndials_per_second = {PER_SECOND}\ndial_burst = {BURST}\n"
    );
    for number in 0..LINKS {
        // Nothing is polled, so nothing but the end of a stream makes anybody call.
        writeln!(
            toml,
            "[[channel]]\nid = \"c{number}\"\ndriver = \"$DRIVERS/modbus.wasm\"\n\
             links.plc = {{ connect = \"tcp://{at}\", base_delay = \"10ms\", max_delay = \"10ms\" }}\n\
             tag = [{{ name = \"t\", address = \"holding:0\", type = \"uint16\" }}]"
        )?;
    }
    let host = Bulkhead::start(&toml)?;
    let first = take_calls(&device, LINKS)?;
    // All lose it in one moment, and every one of them would be back after 13 ms.
    let lost = Instant::now();
    drop(first);
    let again = take_calls(&device, LINKS)?;
    // A stall of whoever counts makes calls later, never sooner.
    for (number, (_, came)) in (1_u32..).zip(&again) {
        let least = Duration::from_secs(1) * number.saturating_sub(BURST + 1) / PER_SECOND;
        let after = came.duration_since(lost);
        assert!(
            after >= least,
            "call {number} came {after:?} after the loss, before {least:?}"
        );
    }
    host.get_until("/api/v1/links?limit=1000", |links| {
        let links = links["links"].as_array()?;
        let up = links.iter().filter(|link| link["state"] == "connected");
        (up.count() == LINKS).then_some(())
    })?;
    assert_eq!(host.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn all_of_five_hundred_links_come_back() -> Result<()> {
    apart(|network| {
        let quick = r#", connect_timeout = "1s", base_delay = "200ms", max_delay = "1s""#;
        let mut fleet = Fleet::start(network, LINKS, "", quick, Duration::from_millis(500))?;
        let seen = fleet.record()?;
        fleet.kill();
        fleet.wait_for_bad()?;
        // While it is away each link calls again, on average thrice.
        network.count_dials()?;
        let plc = Dial::tcp(&fleet.remote.far, PORT);
        let called = || -> Result<u64> { Ok(network.dials()?.get(&plc).copied().unwrap_or(0)) };
        while called()? < 3 * LINKS as u64 {
            std::thread::sleep(Duration::from_millis(20));
        }
        fleet.revive()?;
        fleet.wait_for_good()?;

        // Nobody else was called.
        let dials = network.dials()?;
        let elsewhere = dials
            .keys()
            .filter(|dial| **dial != plc && dial.address != "127.0.0.1");
        assert_eq!(elsewhere.count(), 0, "{dials:?}");

        // The register counts all reads of all channels, so each sees it grow, but for the new device's beginning.
        let mut last = vec![0; LINKS];
        let mut began_anew = vec![0; LINKS];
        for (_, sample) in seen.so_far() {
            if sample["quality"] != "good" {
                continue;
            }
            let channel = Fleet::channel(&sample)?;
            let value = sample["value"].as_u64().unwrap_or(0);
            if value <= last[channel] {
                began_anew[channel] += 1;
            }
            last[channel] = value;
        }
        let twice = began_anew.iter().filter(|times| **times > 1).count();
        assert_eq!(twice, 0, "channels whose values went back twice");
        let status = fleet.host.get("/api/v1/status")?.body;
        assert_eq!(status["tags"]["good"], LINKS, "{status:#}");
        Ok(())
    })
}
