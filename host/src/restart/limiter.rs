//! How often the host as a whole restarts channels: a token bucket, with time as an argument.
//!
//! When a broker or a plant goes down, many channels may fault in the same moment. Their restarts are then let through
//! in the order in which they became due, `burst` at once and the rest `per_second` apart, so that those who still
//! work keep their rhythm. Whoever asks is given a place at once, as a moment: there is no queue that could fill up, and
//! nobody is passed over. A place that is not used (its channel was stopped meanwhile) is lost.
//!
//! What people start is not asked for here: they are few, and they look on.

use std::time::Duration;

use crate::config::Rate;
use crate::event::MonotonicNs;

/// The bucket of one host.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// Between two restarts once the burst is spent.
    interval: Duration,
    /// How much of the future may be used up at once: the burst, less the one that is always free.
    tolerance: Duration,
    /// When the bucket is full again. What is spent lies between now and then.
    full_at: MonotonicNs,
}

impl Limiter {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        let nanos = 1_000_000_000_u64.div_ceil(u64::from(rate.per_second.max(1)));
        let interval = Duration::from_nanos(nanos);
        Self {
            interval,
            tolerance: interval.saturating_mul(rate.burst.max(1) - 1),
            full_at: MonotonicNs(0),
        }
    }

    /// Takes a token, and says from when on it is good: now, or in the future. Tokens of the same moment become good
    /// in the order in which they were taken.
    pub fn take(&mut self, now: MonotonicNs) -> MonotonicNs {
        let tolerated = u64::try_from(self.tolerance.as_nanos()).unwrap_or(u64::MAX);
        let from = now.max(MonotonicNs(self.full_at.0.saturating_sub(tolerated)));
        self.full_at = self.full_at.max(from).after(self.interval);
        from
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        Limiter::new(Rate { per_second, burst })
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_order() {
        let mut limiter = limiter(50, 3);
        let mut take = |ms: u64| limiter.take(MonotonicNs(ms * MS)).0 / MS;
        assert_eq!([0; 6].map(&mut take), [0, 0, 0, 20, 40, 60]);
        // One more is due by the time the last one is let through, and not before.
        assert_eq!([60, 60].map(&mut take), [80, 100]);
        // What is not used comes back, up to the burst.
        assert_eq!([500; 5].map(&mut take), [500, 500, 500, 520, 540]);
    }

    proptest! {
        /// In any stretch of time: the burst, and what the rate gives for it.
        #[test]
        fn no_stretch_of_time_sees_more_than_its_share(
            per_second in 1u32..2_000, burst in 1u32..50, steps in prop::collection::vec(0u64..100, 1..200),
        ) {
            let mut limiter = limiter(per_second, burst);
            let mut now = MonotonicNs(0);
            let mut taken = Vec::new();
            for step in steps {
                now = MonotonicNs(now.0 + step * MS);
                let from = limiter.take(now);
                prop_assert!(from >= now);
                prop_assert!(taken.last().is_none_or(|last| *last <= from), "out of order");
                taken.push(from);
            }
            for (index, first) in taken.iter().enumerate() {
                for (count, last) in (1u64..).zip(&taken[index..]) {
                    let earned = last.since(*first).as_nanos() * u128::from(per_second) / 1_000_000_000;
                    prop_assert!(u128::from(count) <= u128::from(burst) + earned);
                }
            }
        }
    }
}
