//! What a link has done since it was first seen, and how that stands on the disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::WallNs;
use crate::store::Slot;

pub(super) static STATISTICS: Slot = Slot {
    table: "slot:link_statistics",
    version: 1,
    max_bytes: 8 * 1_024,
};

/// What a link has done since it was first seen, over restarts of the driver and the host. After a crash of the host the last
/// minute may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// When it was first seen.
    pub since: WallNs,
    /// Dials that were begun.
    pub dials: u64,
    /// Dials that led to no stream.
    pub failed_dials: u64,
    /// Streams that came up.
    pub streams: u64,
    /// For how long a stream was up, of all connections together.
    pub up: Duration,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// How long the last dial that led to a stream took, without the name's resolution.
    pub dial_time: Option<Duration>,
    /// The driver's own heartbeat.
    pub probes: Probes,
}

/// The statistics of a driver's own heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Probes that the driver said it had sent.
    pub sent: u64,
    /// Probes that were answered.
    pub answered: u64,
    /// The round trip of the last one that was answered.
    pub round_trip: Option<Duration>,
    /// The mean of the last ones, each new one counting an eighth (as RFC 6298, 2.3).
    pub mean: Option<Duration>,
}

impl Probes {
    /// One was answered.
    pub(super) fn answered(&mut self, round_trip: Duration) {
        self.answered += 1;
        // A driver that tells of answers only has asked for each.
        self.sent = self.sent.max(self.answered);
        self.round_trip = Some(round_trip);
        self.mean = Some(match self.mean {
            None => round_trip,
            Some(mean) => (mean * 7 + round_trip) / 8,
        });
    }
}

/// What the slot holds besides: the configuration, by which a change is noticed.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    configuration: String,
    since_ns: u64,
    dials: u64,
    failed_dials: u64,
    streams: u64,
    up_ns: u64,
    bytes_in: u64,
    bytes_out: u64,
    dial_ns: Option<u64>,
    probes_sent: u64,
    probes_answered: u64,
    probe_ns: Option<u64>,
    probe_mean_ns: Option<u64>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl LinkStatistics {
    pub(super) fn encode(&self, configuration: &str) -> Vec<u8> {
        let on_disk = OnDisk {
            configuration: configuration.to_owned(),
            since_ns: self.since.0,
            dials: self.dials,
            failed_dials: self.failed_dials,
            streams: self.streams,
            up_ns: nanos(self.up),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            dial_ns: self.dial_time.map(nanos),
            probes_sent: self.probes.sent,
            probes_answered: self.probes.answered,
            probe_ns: self.probes.round_trip.map(nanos),
            probe_mean_ns: self.probes.mean.map(nanos),
        };
        serde_json::to_vec(&on_disk).expect("text and numbers have JSON")
    }

    /// With the configuration. `None` where it has another shape.
    pub(super) fn decode(payload: &[u8]) -> Option<(Self, String)> {
        let on_disk: OnDisk = serde_json::from_slice(payload).ok()?;
        let statistics = Self {
            since: WallNs(on_disk.since_ns),
            dials: on_disk.dials,
            failed_dials: on_disk.failed_dials,
            streams: on_disk.streams,
            up: Duration::from_nanos(on_disk.up_ns),
            bytes_in: on_disk.bytes_in,
            bytes_out: on_disk.bytes_out,
            dial_time: on_disk.dial_ns.map(Duration::from_nanos),
            probes: Probes {
                sent: on_disk.probes_sent,
                answered: on_disk.probes_answered,
                round_trip: on_disk.probe_ns.map(Duration::from_nanos),
                mean: on_disk.probe_mean_ns.map(Duration::from_nanos),
            },
        };
        Some((statistics, on_disk.configuration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_as_they_were_written() {
        let most = Duration::from_nanos(u64::MAX);
        let statistics = LinkStatistics {
            since: WallNs(u64::MAX),
            dials: u64::MAX,
            failed_dials: u64::MAX,
            streams: u64::MAX,
            up: most,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            dial_time: Some(most),
            probes: Probes {
                sent: u64::MAX,
                answered: u64::MAX,
                round_trip: Some(most),
                mean: Some(most),
            },
        };
        let digest = "\n".repeat(2_048);
        let payload = statistics.encode(&digest);
        assert!(payload.len() < STATISTICS.max_bytes, "{}", payload.len());
        let read = LinkStatistics::decode(&payload);
        assert_eq!(read, Some((statistics, digest)));
        assert_eq!(LinkStatistics::decode(b"{}"), None);
    }

    #[test]
    fn the_mean_follows_slowly() {
        let ms = Duration::from_millis;
        let mut probes = Probes::default();
        for trip in [80, 160, 80] {
            probes.answered(ms(trip));
        }
        assert_eq!(probes.round_trip, Some(ms(80)));
        assert_eq!(probes.mean, Some(Duration::from_micros(88_750)));
        assert_eq!(probes.answered, 3);
    }
}
