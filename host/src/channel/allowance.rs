//! What a driver may use up now of something that comes back with time: samples, alarms.

use crate::event::MonotonicNs;
use crate::limits::RATE_SECONDS;

/// So much a second, averaged over [`RATE_SECONDS`].
#[derive(Debug)]
pub(super) struct Allowance {
    rate: u64,
    left: u64,
    /// Until when it has come back.
    at: MonotonicNs,
}

impl Allowance {
    /// All of it.
    pub(super) fn new(rate: u64, now: MonotonicNs) -> Self {
        Self {
            rate,
            left: rate.saturating_mul(RATE_SECONDS),
            at: now,
        }
    }

    /// What is left now.
    pub(super) fn left(&mut self, now: MonotonicNs) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let passed = now.since(self.at).as_nanos();
        let earned = passed.saturating_mul(u128::from(self.rate)) / SECOND;
        if earned > 0 {
            let most = self.rate.saturating_mul(RATE_SECONDS);
            let left = u128::from(self.left).saturating_add(earned);
            if left >= u128::from(most) {
                (self.left, self.at) = (most, now);
            } else {
                // What was passed beyond the last whole one counts for the next.
                let rest = passed - earned * SECOND / u128::from(self.rate);
                let rest = u64::try_from(rest).unwrap_or(0);
                self.left = u64::try_from(left).unwrap_or(most);
                self.at = MonotonicNs(now.0.saturating_sub(rest));
            }
        }
        self.left
    }

    /// Takes what was allowed.
    pub(super) fn spend(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> MonotonicNs {
        MonotonicNs(count * 1_000_000)
    }

    #[test]
    fn it_begins_full_and_comes_back_at_its_rate() {
        let mut allowance = Allowance::new(100, ms(0));
        assert_eq!(allowance.left(ms(0)), 1_000);
        allowance.spend(1_000);
        assert_eq!(allowance.left(ms(9)), 0);
        assert_eq!(allowance.left(ms(10)), 1);
        assert_eq!(allowance.left(ms(1_000)), 100);
        assert_eq!(
            allowance.left(ms(60_000)),
            1_000,
            "never more than at the beginning"
        );
    }

    #[test]
    fn looking_often_loses_nothing() {
        let mut allowance = Allowance::new(3, ms(0));
        allowance.spend(30);
        let seen: Vec<u64> = (1..=1_000).map(|at| allowance.left(ms(at))).collect();
        assert_eq!((seen[332], seen[333], seen[999]), (0, 1, 3));
        let mut slow = Allowance::new(1, ms(0));
        slow.spend(10);
        assert_eq!((slow.left(ms(999)), slow.left(ms(1_000))), (0, 1));
    }
}
