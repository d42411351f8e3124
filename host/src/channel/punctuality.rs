//! How punctual the polls of each group are: how late each is handed out, how long it takes until it is done, and how many moments of the
//! schedule went by unused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::raise;
use crate::history::{Latencies, LatencyCells};

/// How punctual the polls of one group are, since the channel took up its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Punctuality {
    /// Polls handed to the driver.
    pub polls: u64,
    /// Moments of the schedule without a poll: the one before was not done, or the host was late.
    pub skipped: u64,
    /// Requests that the driver made for them, as it says.
    pub requests: u64,
    /// Those of them that failed, as it says.
    pub failed: u64,
    /// How long after its moment each was handed to the driver.
    pub deviation: Latencies,
    /// The sum of these.
    pub deviation_total: Duration,
    /// The longest of these.
    pub deviation_most: Duration,
    /// How long each took until the driver said that it was done.
    pub took: Latencies,
    /// The sum of these.
    pub took_total: Duration,
    /// The mean time from request to answer of the last one that had any, as the driver says.
    pub round_trip: Duration,
}

/// The same as the channel's task raises it.
#[derive(Debug, Default)]
pub(super) struct PunctualityCells {
    polls: AtomicU64,
    skipped: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    deviation: LatencyCells,
    deviation_most_ns: AtomicU64,
    took: LatencyCells,
    round_trip_ns: AtomicU64,
}

impl PunctualityCells {
    /// A poll was handed out, so long after its moment.
    pub(super) fn handed_out(&self, late: Duration) {
        raise(&self.polls, 1);
        self.deviation.count(late);
        let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.deviation_most_ns.load(Ordering::Relaxed) {
            self.deviation_most_ns.store(nanos, Ordering::Relaxed);
        }
    }

    /// Moments went by unused.
    pub(super) fn skipped(&self, count: u64) {
        raise(&self.skipped, count);
    }

    /// The driver has done a poll, so long after it was handed out.
    pub(super) fn done(
        &self,
        took: Duration,
        (requests, failed): (u32, u32),
        round_trip_ns: Option<u64>,
    ) {
        self.took.count(took);
        raise(&self.requests, u64::from(requests));
        raise(&self.failed, u64::from(failed));
        if let Some(round_trip_ns) = round_trip_ns {
            self.round_trip_ns.store(round_trip_ns, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Punctuality {
        let nanos = |cell: &AtomicU64| Duration::from_nanos(cell.load(Ordering::Relaxed));
        Punctuality {
            polls: self.polls.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            deviation: self.deviation.read(),
            deviation_total: self.deviation.total(),
            deviation_most: nanos(&self.deviation_most_ns),
            took: self.took.read(),
            took_total: self.took.total(),
            round_trip: nanos(&self.round_trip_ns),
        }
    }
}
