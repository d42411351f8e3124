//! Channels that do nothing wrong, beside those that do: nothing of them may be lost.
//!
//! Each polls a unit of its own of one simulated device, one request each time. Register 0 of a unit is how often it
//! was read, so a poll that was lost, repeated or not published shows as a gap, and register 100 is the unit's
//! number, so a value of somebody else shows too.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{Bulkhead, Machine, Peer, Recording};

/// The period of its polls.
const PERIOD: Duration = Duration::from_millis(100);

/// The channel's id.
#[must_use]
pub fn id(unit: u8) -> String {
    format!("neighbour-{unit}")
}

/// The channel that polls this unit of the device at this address.
#[must_use]
pub fn channel(unit: u8, address: &str) -> String {
    let (id, period) = (id(unit), PERIOD.as_millis());
    format!(
        r#"
        [[channel]]
        id = "{id}"
        driver = "$DRIVERS/modbus.wasm"
        links.plc = {{ connect = "tcp://{address}" }}
        settings = {{ unit_id = {unit}, max_gap_registers = 125 }}
        [[channel.group]]
        name = "all"
        period = "{period}ms"
        tags = [
            {{ name = "reads", address = "holding:0", type = "uint16" }},
            {{ name = "unit", address = "holding:100", type = "uint16" }},
        ]
        "#
    )
}

/// What register 0 of a unit was wherever it was good, and when the host had it.
pub fn good_reads(seen: &Recording, unit: u8) -> impl Iterator<Item = (u64, u64)> {
    let channel = id(unit);
    seen.iter().filter_map(move |(name, data)| {
        let wanted = name == "sample"
            && data["channel"] == *channel
            && data["tag"] == "reads"
            && data["quality"] == "good";
        let read = || Some((data["value"].as_u64()?, data["server_time_ns"].as_u64()?));
        wanted.then(read)?
    })
}

/// A channel that has done its work.
#[derive(Debug)]
pub struct Retired {
    unit: u8,
    /// Requests that came to the device.
    arrived: u64,
    /// Polls that others on the machine made late.
    late: u64,
}

/// Stops the channel and checks that it lost nothing on the way to the device. The machine was watched since it
/// started.
///
/// # Errors
///
/// Where the host or the device does not answer.
///
/// # Panics
///
/// Where a poll was skipped, failed or did not arrive.
pub fn retire(host: &Bulkhead, peer: &mut Peer, machine: &Machine, unit: u8) -> Result<Retired> {
    let path = format!("/api/v1/channels/{}", id(unit));
    let reply = host.post(&format!("{path}/stop"), &json!({}))?;
    ensure!(reply.status == 200, "{reply:?}");
    let channel = host.get_until(&path, |channel| {
        (channel["state"] == "stopped").then(|| channel.clone())
    })?;
    assert_eq!(channel["incarnation"], 1, "{channel:#}");
    assert_eq!(channel["attempts"], 0, "{channel:#}");
    let counters: BTreeMap<String, u64> = serde_json::from_value(channel["counters"].clone())?;
    for never in ["poll_failures", "faults"] {
        assert_eq!(counters[never], 0, "unit {unit}, {never}: {counters:?}");
    }
    let (polls, late) = (counters["polls"], counters["polls_skipped"]);
    let ours = [host.process().id(), peer.process().id()];
    let most = machine.late_at_most(polls, PERIOD, &ours)?;
    assert!(late <= most, "unit {unit}: {late} late: {counters:?}");
    // The last poll may have been under way when the channel was stopped.
    let requests = peer.requests()?;
    let arrived = *requests.get(&(unit, 3)).context("it was never asked")?;
    assert!(
        arrived == polls || arrived + 1 == polls,
        "unit {unit}: {polls} polls were due, {arrived} came to the device"
    );
    Ok(Retired {
        unit,
        arrived,
        late,
    })
}

impl Retired {
    /// Checks that every answer was published, once, and every period used.
    ///
    /// # Panics
    ///
    /// Where that is not so.
    pub fn check_published(&self, seen: &Recording) {
        let Self {
            unit,
            arrived,
            late,
        } = *self;
        let reads: Vec<(u64, u64)> = good_reads(seen, unit).collect();
        assert!(reads.len() > 10, "unit {unit}: {reads:?}");
        let (first, last) = (reads[0], reads[reads.len() - 1]);
        let expected: Vec<u64> = (first.0..).take(reads.len()).collect();
        let values: Vec<u64> = reads.iter().map(|read| read.0).collect();
        assert_eq!(values, expected, "unit {unit}: lost or repeated");
        assert!(
            last.0 == arrived || last.0 + 1 == arrived,
            "unit {unit}: the last was read {}, the device counts {arrived}",
            last.0
        );
        // From poll to poll a period passes; the first may come beside the grid, and the last late.
        let periods = u128::from(last.1 - first.1) / PERIOD.as_nanos();
        assert!(
            periods.abs_diff(reads.len() as u128) <= u128::from(2 + late),
            "unit {unit}: {} polls in {periods} periods",
            reads.len()
        );
        let of_another = seen.iter().find(|(name, data)| {
            name == "sample"
                && data["channel"] == *id(unit)
                && data["tag"] == "unit"
                && data["quality"] == "good"
                && data["value"] != unit
        });
        assert_eq!(of_another, None, "unit {unit} has the value of another");
        // After the first good sample nothing is bad until the channel is stopped.
        let of_it = seen
            .iter()
            .filter(|(name, data)| name == "sample" && data["channel"] == *id(unit));
        let bad = of_it
            .skip_while(|(_, data)| data["quality"] != "good")
            .find(|(_, data)| data["quality"] != "good" && data["quality"] != "bad-out-of-service");
        assert_eq!(bad, None, "unit {unit}");
    }
}
