//! Everything that can come between a host and a device, one fault in each test: the tags say so while it lasts, and are good again
//! afterwards; each read and each write that people asked for meanwhile is answered; and no value is shown that the device did
//! not hold.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bulkhead_tests::netns::{Network, apart};
use bulkhead_tests::plant::{Fault, Options, Plant, Values, is_sample};
use bulkhead_tests::{PATIENCE, Recorder, Recording};
use serde_json::Value;

/// So that a test need not wait for a redial as long as a plant does.
pub(crate) const QUICK: &str =
    r#", connect_timeout = "500ms", base_delay = "100ms", max_delay = "500ms""#;
/// How long people wait for the answer to a read or a write.
const PATIENT_FOR: Duration = Duration::from_secs(1);
/// What people may be told instead of an answer.
const REFUSALS: [&str; 6] = [
    "link-down",
    "timed-out",
    "failed",
    "bad-not-connected",
    "bad-no-communication",
    "bad-timeout",
];

/// What was seen of one tag from some moment on.
pub(crate) fn qualities(seen: &Recording, tag: &str, from: usize) -> Vec<String> {
    let samples = seen.iter().skip(from).filter(|event| is_sample(event, tag));
    let mut qualities: Vec<String> = samples
        .filter_map(|(_, sample)| Some(sample["quality"].as_str()?.to_owned()))
        .collect();
    qualities.dedup();
    qualities
}

/// Waits for so many good samples in a row of each tag.
fn good(seen: &Recorder, from: usize, count: usize) -> Result<()> {
    seen.wait("all tags are good", |seen| {
        ["reads", "unit", "far", "written"].iter().all(|tag| {
            let last = seen[from..]
                .iter()
                .rev()
                .filter(|event| is_sample(event, tag));
            let in_a_row = last.take_while(|(_, sample)| sample["quality"] == "good");
            in_a_row.count() >= count
        })
    })
}

/// Waits until nothing of an earlier connection can come any more: no socket of ours that was closed still has bytes to send
/// (`FIN_WAIT1` or `LAST_ACK`, proc(5)).
pub(crate) fn settled() -> Result<()> {
    const STEP: Duration = Duration::from_millis(10);
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        let sockets = std::fs::read_to_string("/proc/self/net/tcp")?;
        let state = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
        let mut states = sockets.lines().filter_map(state);
        if !states.any(|state| state == "04" || state == "09") {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
    bail!("closed sockets go on sending")
}

/// One fault, twice: an outage shows as one of these qualities first, and what is no outage shows as nothing.
fn endure(network: &Network, fault: Fault, timeout: Duration, first: &[&str]) -> Result<()> {
    // What is only slow takes long enough once.
    let rounds = if fault.is_outage() { 2 } else { 1 };
    let mut plant = Plant::start(
        network,
        Options {
            fault,
            number: 0,
            link: QUICK,
            timeout,
        },
    )?;
    let seen = plant.record()?;
    let traffic = plant.traffic(PATIENT_FOR.max(3 * timeout));
    for _ in 0..rounds {
        traffic.wait_for_more(3)?;
        let from = seen.so_far().len();
        plant.inject()?;
        if fault.is_outage() {
            seen.wait("all tags are bad", |seen| {
                ["reads", "unit", "far", "written"].iter().all(|tag| {
                    let last = qualities(seen, tag, from).pop();
                    last.is_some_and(|quality| quality.starts_with("bad-"))
                })
            })?;
            for tag in ["reads", "written"] {
                let between = qualities(&seen.so_far(), tag, from);
                let bad = between.iter().find(|quality| *quality != "good");
                let bad = bad.context("it is bad")?.as_str();
                assert!(first.contains(&bad), "{tag}: {between:?}");
            }
            if fault == Fault::CertificateExpired {
                plant.host.get_until("/api/v1/channels/plant", |channel| {
                    let said = channel["links"][0]["detail"].as_str()?;
                    said.contains("certificate expired on").then_some(())
                })?;
            }
        } else {
            good(&seen, from, 3)?;
            traffic.wait_for_more(1)?;
        }
        let from = seen.so_far().len();
        plant.lift()?;
        good(&seen, from, 3)?;
        traffic.wait_for_more(3)?;
    }
    settled()?;
    let account = traffic.stop()?;
    assert_eq!(account.unanswered, [""; 0], "left without an answer");
    assert_eq!(account.answered(), account.asked, "{account:?}");
    for refusal in account.answers.keys().filter(|code| *code != "good") {
        assert!(REFUSALS.contains(&refusal.as_str()), "{account:?}");
    }

    // What the device holds is what was written last, or what was asked for after that and given up.
    let device = plant.device.as_mut().context("it is back")?;
    let holds = u64::from(device.holding(1, 210, 1)?[0]);
    let possible = account.acknowledged..=account.written;
    assert!(possible.contains(&holds), "{holds}, {account:?}");
    seen.wait("the last value is seen", |seen| {
        let last = seen.iter().rev().find(|event| is_sample(event, "written"));
        last.is_some_and(|(_, sample)| sample["value"] == holds)
    })?;
    let values = Values::check(&seen.so_far(), account.written);
    assert_eq!(values.wrong, [""; 0]);
    assert!(values.restarts <= plant.restarts, "{values:?}");

    // A device that is away is no fault of its driver.
    let channel = plant.host.get("/api/v1/channels/plant")?.body;
    assert_eq!(channel["incarnation"], 1, "{channel:#}");
    assert_eq!(channel["counters"]["faults"], Value::from(0), "{channel:#}");
    println!(
        "{}: {} good samples, {} of {} reads and writes done",
        fault.name(),
        values.good,
        account.done.0 + account.done.1,
        account.asked
    );
    Ok(())
}

/// Shorter than the period of a retransmission that comes too late, and longer than a busy machine takes to answer.
const SHORT: Duration = Duration::from_millis(500);
/// Longer than an answer takes that is held up.
const LONG: Duration = Duration::from_secs(5);

const AWAY: &[&str] = &["bad-not-connected"];
const SILENT: &[&str] = &["bad-timeout", "bad-no-communication", "bad-not-connected"];

#[test]
fn nobody_listens() -> Result<()> {
    apart(|network| endure(network, Fault::Refused, SHORT, AWAY))
}

#[test]
fn connections_are_reset() -> Result<()> {
    apart(|network| endure(network, Fault::Reset, SHORT, AWAY))
}

#[test]
fn packets_vanish() -> Result<()> {
    apart(|network| endure(network, Fault::BlackHole, SHORT, SILENT))
}

#[test]
fn three_packets_of_ten_vanish() -> Result<()> {
    apart(|network| endure(network, Fault::Loss, LONG, &[]))
}

#[test]
fn answers_are_a_second_late() -> Result<()> {
    apart(|network| endure(network, Fault::Delay, LONG, &[]))
}

#[test]
fn every_byte_comes_alone() -> Result<()> {
    apart(|network| endure(network, Fault::OneByte, LONG, &[]))
}

#[test]
fn the_device_is_killed_and_comes_back() -> Result<()> {
    apart(|network| endure(network, Fault::PeerRestart, SHORT, AWAY))
}

#[test]
fn the_device_moves_and_its_name_follows() -> Result<()> {
    apart(|network| endure(network, Fault::NameMoved, SHORT, AWAY))
}

#[test]
fn the_host_loses_its_address() -> Result<()> {
    apart(|network| endure(network, Fault::AddressRemoved, SHORT, SILENT))
}

#[test]
fn a_certificate_expires_and_is_renewed() -> Result<()> {
    apart(|network| endure(network, Fault::CertificateExpired, SHORT, AWAY))
}

#[test]
fn a_serial_line_is_pulled_and_plugged_in_again() -> Result<()> {
    apart(|network| endure(network, Fault::TerminalPulled, SHORT, AWAY))
}
