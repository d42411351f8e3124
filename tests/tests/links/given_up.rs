//! A write that was given up does not come to the device later, after those that were made since.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_tests::PATIENCE;
use bulkhead_tests::netns::apart;
use bulkhead_tests::plant::{Fault, Options, Plant};
use serde_json::json;

use super::outages::{QUICK, qualities, settled};

/// Sockets that were closed with bytes still to be sent (`FIN_WAIT1`, proc(5)), and how often each has sent them again.
fn closed_and_sending() -> Result<Vec<u64>> {
    let sockets = std::fs::read_to_string("/proc/self/net/tcp")?;
    let closed = sockets.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let again = u64::from_str_radix(fields.get(6)?, 16).ok()?;
        (*fields.get(3)? == "04").then_some(again)
    });
    Ok(closed.collect())
}

#[test]
fn what_was_given_up_does_not_come_later() -> Result<()> {
    const STEP: Duration = Duration::from_millis(10);
    const GIVEN_UP: u64 = 7_000;
    const LATER: u64 = 8_000;
    apart(|network| {
        let mut plant = Plant::start(
            network,
            Options {
                fault: Fault::BlackHole,
                number: 0,
                link: QUICK,
                timeout: Duration::from_millis(500),
            },
        )?;
        let seen = plant.record()?;
        plant.inject()?;
        let written = "/api/v1/tags/plant/written/write";
        let refused = plant
            .host
            .post(written, &json!({ "value": GIVEN_UP, "timeout_ms": 2_000 }))?;
        assert_ne!(refused.status, 200, "{refused:?}");
        // The driver gives its connection up, and nobody takes the next call.
        seen.wait("the link is dialled again", |seen| {
            let last = qualities(seen, "written", 0).pop();
            last.is_some_and(|quality| quality == "bad-not-connected")
        })?;
        // The kernel sends again ever more rarely: after four times there are more than three seconds until it tries again.
        let mut steps = PATIENCE.as_millis() / STEP.as_millis();
        while closed_and_sending()?.iter().any(|again| *again < 4) {
            ensure!(steps > 0, "a closed socket neither sends nor ends");
            steps -= 1;
            std::thread::sleep(STEP);
        }
        plant.lift()?;
        loop {
            let reply = plant.host.post(written, &json!({ "value": LATER }))?;
            match reply.status {
                200 => break,
                _ if steps == 0 => bail!("it cannot be written: {reply:?}"),
                _ => steps -= 1,
            }
            std::thread::sleep(STEP);
        }
        settled()?;
        let device = plant.device.as_mut().context("it is there")?;
        assert_eq!(u64::from(device.holding(1, 210, 1)?[0]), LATER);
        Ok(())
    })
}
