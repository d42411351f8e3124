//! How long turns and polls take: a histogram of fixed size, in which each costs one addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets. Each is twice as wide as the one before: below 1,024 ns, below 2,048 ns, ... below 4.3 s, and all the rest.
pub const BUCKETS: usize = 24;

/// Nanoseconds in the first bucket, as a power of two.
const FIRST: u32 = 10;

/// What a bucket counts is shorter than this; `None` for the last, which has no end.
pub fn bucket_limit(bucket: usize) -> Option<Duration> {
    let shift = u32::try_from(bucket).ok()?.checked_add(FIRST)?;
    (bucket + 1 < BUCKETS).then(|| Duration::from_nanos(1 << shift))
}

fn bucket(nanos: u64) -> usize {
    let bits = u64::BITS - (nanos >> FIRST).leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

/// The histogram as the channel's task raises it: it alone does, so no read-modify-write is needed.
#[derive(Debug, Default)]
pub struct LatencyCells {
    counts: [AtomicU64; BUCKETS],
    /// Of those that were counted here.
    total_ns: AtomicU64,
}

impl LatencyCells {
    pub(super) fn beginning_with(latencies: &Latencies) -> Self {
        Self {
            counts: latencies.0.map(AtomicU64::new),
            total_ns: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let raise = |cell: &AtomicU64, by| {
            cell.store(
                cell.load(Ordering::Relaxed).wrapping_add(by),
                Ordering::Relaxed,
            );
        };
        raise(&self.total_ns, nanos);
        if let Some(cell) = self.counts.get(bucket(nanos)) {
            raise(cell, 1);
        }
    }

    /// How long those took together that were counted here; not those that it began with.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns.load(Ordering::Relaxed))
    }

    /// What was counted so far.
    pub fn read(&self) -> Latencies {
        Latencies(std::array::from_fn(|at| {
            self.counts[at].load(Ordering::Relaxed)
        }))
    }
}

/// A histogram of latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies(pub [u64; BUCKETS]);

impl Latencies {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Without the empty buckets at the end.
    pub(super) fn up_to_the_last(&self) -> Vec<u64> {
        let empty = self.0.iter().rev().take_while(|count| **count == 0);
        self.0[..BUCKETS - empty.count()].to_vec()
    }

    /// With empty buckets at the end; `None` where there are too many.
    pub(super) fn from_the_first(counts: &[u64]) -> Option<Self> {
        let mut latencies = Self::default();
        latencies.0.get_mut(..counts.len())?.copy_from_slice(counts);
        Some(latencies)
    }

    /// What this share of all (0 to 1) was shorter than, as the buckets know it: at most twice too long. `None`
    /// where none was counted, and where it lies in the last bucket.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among turns; beyond 2^53 of them the last digits do not matter"
        )]
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0u64;
        let bucket = self.0.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        })?;
        bucket_limit(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_falls_below_the_limit_of_its_bucket_and_not_below_that_of_the_one_before() {
        let mut random = fastrand::Rng::with_seed(1);
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]);
        let nanos: Vec<u64> = edges
            .chain(std::iter::repeat_with(|| random.u64(..) >> random.u32(0..64)).take(10_000))
            .chain([u64::MAX])
            .collect();
        for nanos in nanos {
            let at = bucket(nanos);
            let latency = Duration::from_nanos(nanos);
            assert!(
                bucket_limit(at).is_none_or(|limit| latency < limit),
                "{nanos}"
            );
            let before = at.checked_sub(1).and_then(bucket_limit);
            assert!(before.is_none_or(|limit| latency >= limit), "{nanos}");
        }
        assert_eq!(bucket_limit(0), Some(Duration::from_nanos(1_024)));
        let longest = Duration::from_nanos(1 << 32);
        assert_eq!(bucket_limit(BUCKETS - 2), Some(longest));
        assert_eq!(bucket_limit(BUCKETS - 1), None);
    }

    #[test]
    fn quantiles_are_those_of_the_buckets() {
        let cells = LatencyCells::default();
        assert_eq!(cells.read().quantile(0.5), None);
        for _ in 0..98 {
            cells.count(Duration::from_micros(5));
        }
        cells.count(Duration::from_micros(300));
        cells.count(Duration::from_secs(60));
        assert_eq!(cells.total(), Duration::from_micros(60_000_790));
        let others = LatencyCells::beginning_with(&cells.read());
        assert_eq!(others.total(), Duration::ZERO);
        let latencies = others.read();
        assert_eq!(latencies.count(), 100);
        let micros = |share| {
            latencies
                .quantile(share)
                .map(|limit| limit.as_nanos() / 1_024)
        };
        assert_eq!(micros(0.5), Some(8));
        assert_eq!(micros(0.98), Some(8));
        assert_eq!(micros(0.99), Some(512));
        assert_eq!(micros(1.0), None);
    }
}
