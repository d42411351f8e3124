//! Five hundred links to one device that goes and comes back.

use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::firewall::{Dial, Firewall as _};
use bulkhead_tests::fleet::Fleet;
use bulkhead_tests::netns::apart;
use bulkhead_tests::plant::PORT;

const LINKS: usize = 500;

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
