//! The statistics of a channel, and how they stand on the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latencies;
use crate::event::WallNs;
use crate::exit::ExitKind;
use crate::store::Slot;

pub(super) static STATISTICS: Slot = Slot {
    table: "slot:statistics",
    version: 1,
    max_bytes: 16 * 1_024,
};

/// What a channel has done since it was first seen, over restarts of the host. After a crash of the host the last
/// minute may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When it was first seen.
    pub since: WallNs,
    /// Incarnations that have begun.
    pub lives: u64,
    /// How many of them ended how. Names are text: another version of the host may have others.
    pub exits: BTreeMap<String, u64>,
    /// For how long it was `running` or `degraded`.
    pub running: Duration,
    /// Fuel of all turns that returned.
    pub fuel: u64,
    /// The most fuel of one turn that returned.
    pub fuel_max_turn: u64,
    /// The most memory that an incarnation held, in bytes.
    pub peak_memory: u64,
    /// How long turns took, from gathering their events to what they asked for being done.
    pub latencies: Latencies,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    since_ns: u64,
    lives: u64,
    exits: BTreeMap<String, u64>,
    running_ns: u64,
    fuel: u64,
    fuel_max_turn: u64,
    peak_memory: u64,
    /// The empty buckets at the end are left out.
    latencies: Vec<u64>,
}

impl Statistics {
    pub(super) fn count_exit(&mut self, kind: ExitKind) {
        match self.exits.get_mut(kind.as_str()) {
            Some(count) => *count += 1,
            None => drop(self.exits.insert(kind.as_str().to_owned(), 1)),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let on_disk = OnDisk {
            since_ns: self.since.0,
            lives: self.lives,
            exits: self.exits.clone(),
            running_ns: u64::try_from(self.running.as_nanos()).unwrap_or(u64::MAX),
            fuel: self.fuel,
            fuel_max_turn: self.fuel_max_turn,
            peak_memory: self.peak_memory,
            latencies: self.latencies.up_to_the_last(),
        };
        serde_json::to_vec(&on_disk).expect("text and numbers have JSON")
    }

    /// `None` where it has another shape.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let on_disk: OnDisk = serde_json::from_slice(payload).ok()?;
        let latencies = Latencies::from_the_first(&on_disk.latencies)?;
        Some(Self {
            since: WallNs(on_disk.since_ns),
            lives: on_disk.lives,
            exits: on_disk.exits,
            running: Duration::from_nanos(on_disk.running_ns),
            fuel: on_disk.fuel,
            fuel_max_turn: on_disk.fuel_max_turn,
            peak_memory: on_disk.peak_memory,
            latencies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::latency::BUCKETS;
    use super::*;

    #[test]
    fn statistics_are_read_as_they_were_written() {
        let mut statistics = Statistics {
            since: WallNs(u64::MAX),
            lives: 2,
            running: Duration::from_nanos(u64::MAX),
            fuel: u64::MAX,
            fuel_max_turn: 4,
            peak_memory: 5,
            latencies: Latencies([u64::MAX; BUCKETS]),
            ..Statistics::default()
        };
        for kind in ExitKind::ALL {
            statistics.count_exit(*kind);
        }
        statistics.count_exit(ExitKind::Trapped);
        assert_eq!(statistics.exits["trapped"], 2);
        assert_eq!(statistics.exits["finished"], 1);
        let payload = statistics.encode();
        assert!(payload.len() < STATISTICS.max_bytes, "{}", payload.len());
        assert_eq!(Statistics::decode(&payload).as_ref(), Some(&statistics));
        assert_eq!(Statistics::decode(b"{}"), None);
        statistics.latencies.0[7..].fill(0);
        let payload = statistics.encode();
        assert_eq!(Statistics::decode(&payload), Some(statistics));
    }
}
