//! What the device was asked, counted at the device.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Function codes with a count of their own; all others share slot 0.
const FUNCTIONS: usize = 24;

/// Counts that every connection adds to.
#[derive(Debug)]
pub(super) struct Counters {
    units: Box<[UnitCounters]>,
    pub(super) connections: AtomicU64,
    pub(super) connections_open: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) exceptions: AtomicU64,
    pub(super) faults: AtomicU64,
}

#[derive(Debug, Default)]
struct UnitCounters {
    functions: [AtomicU64; FUNCTIONS],
    /// Nanoseconds since the start of the device, plus one; 0 while there was no request.
    last: AtomicU64,
    longest_gap_ns: AtomicU64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            units: (0..=u8::MAX).map(|_| UnitCounters::default()).collect(),
            connections: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            connections_refused: AtomicU64::default(),
            malformed: AtomicU64::default(),
            exceptions: AtomicU64::default(),
            faults: AtomicU64::default(),
        }
    }

    /// Counts one request.
    pub(super) fn request(&self, unit: u8, function: u8, since_start: Duration) {
        let unit = &self.units[usize::from(unit)];
        let slot = usize::from(function);
        unit.functions[if slot < FUNCTIONS { slot } else { 0 }].fetch_add(1, Relaxed);
        let now = since_start.as_nanos() as u64 + 1;
        let last = unit.last.swap(now, Relaxed);
        if last != 0 {
            unit.longest_gap_ns
                .fetch_max(now.saturating_sub(last), Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let units: BTreeMap<u8, UnitCounts> = (0..=u8::MAX)
            .zip(&self.units)
            .filter_map(|(id, unit)| Some((id, unit.counts()?)))
            .collect();
        Counts {
            requests: units.values().map(|unit| unit.requests).sum(),
            exceptions: self.exceptions.load(Relaxed),
            faults: self.faults.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            connections: self.connections.load(Relaxed),
            connections_open: self.connections_open.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            units,
        }
    }
}

impl UnitCounters {
    fn counts(&self) -> Option<UnitCounts> {
        let functions: BTreeMap<u8, u64> = (0..)
            .zip(&self.functions)
            .map(|(function, count)| (function, count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        (!functions.is_empty()).then(|| UnitCounts {
            requests: functions.values().sum(),
            functions,
            longest_gap_ms: self.longest_gap_ns.load(Relaxed) as f64 / 1e6,
        })
    }
}

/// All counts since the start of the device. Taken while requests go on, so sums may differ by the last few.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// Complete requests, whatever became of them.
    pub requests: u64,
    /// Requests that were answered with an exception.
    pub exceptions: u64,
    /// Answers that were spoilt, held back or withheld by a fault.
    pub faults: u64,
    /// Connections that ended because what arrived was not Modbus TCP.
    pub malformed: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Those that are open now.
    pub connections_open: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
    /// By unit id, only those that were asked: dead and unknown ones included.
    pub units: BTreeMap<u8, UnitCounts>,
}

impl Counts {
    /// Requests to one unit with one function code.
    #[must_use]
    pub fn of(&self, unit: u8, function: u8) -> u64 {
        self.units
            .get(&unit)
            .and_then(|unit| unit.functions.get(&function))
            .copied()
            .unwrap_or(0)
    }
}

/// The counts of one unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnitCounts {
    /// Its requests.
    pub requests: u64,
    /// By function code; 0 stands for all codes above 23.
    pub functions: BTreeMap<u8, u64>,
    /// The longest time from one of its requests to the next, in milliseconds.
    pub longest_gap_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_unit_and_function() {
        let counters = Counters::new();
        for (unit, function, milliseconds) in [
            (1, 3, 0),
            (1, 3, 100),
            (1, 16, 350),
            (255, 200, 1),
            (255, 43, 2),
        ] {
            counters.request(unit, function, Duration::from_millis(milliseconds));
        }
        let counts = counters.counts();
        assert_eq!(
            (
                counts.requests,
                counts.of(1, 3),
                counts.of(1, 16),
                counts.of(2, 3)
            ),
            (5, 2, 1, 0)
        );
        assert_eq!(counts.of(255, 0), 2);
        assert!((counts.units[&1].longest_gap_ms - 250.0).abs() < 0.001);
        assert_eq!(counts.units.len(), 2);
    }
}
