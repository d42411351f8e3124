//! How many events of one link go to the disk: a link that flaps for a year must not wear it out.
//!
//! Pure. Events are let through `BURST` at once and then one per `INTERVAL`; those that are not are counted, and the next one that is
//! tells of them.

use std::time::Duration;

use crate::event::MonotonicNs;

/// Events that may follow each other at once.
const BURST: u32 = 60;
/// Between two events once the burst is spent: 8,640 in a day.
const INTERVAL: Duration = Duration::from_secs(10);

/// The sieve of one link.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    /// When the whole burst is there again.
    full_at: MonotonicNs,
    left_out: u64,
}

impl Sieve {
    /// Whether an event is let through; if so, how many were not since the last one.
    pub(super) fn pass(&mut self, now: MonotonicNs) -> Option<u64> {
        let spent = self.full_at.max(now).after(INTERVAL);
        if spent.since(now) > INTERVAL * BURST {
            self.left_out += 1;
            return None;
        }
        self.full_at = spent;
        Some(std::mem::take(&mut self.left_out))
    }

    /// How many were not let through since the last one that was.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_per_interval_and_none_is_forgotten() {
        let at = |ms: u64| MonotonicNs(ms * 1_000_000);
        let mut sieve = Sieve::default();
        let passed = (0..100).filter(|_| sieve.pass(at(5)).is_some()).count();
        assert_eq!((passed, sieve.left_out()), (BURST as usize, 40));
        assert_eq!(sieve.pass(at(10_004)), None);
        assert_eq!(sieve.pass(at(10_005)), Some(41));
        assert_eq!(sieve.pass(at(10_006)), None);
        // A day of an event each second.
        let passed = (0..86_400).filter(|s| sieve.pass(at(20_000 + s * 1_000)).is_some());
        assert!(passed.count() <= 8_700);
        // A day of rest brings the burst back, and no more.
        let rested = at(3 * 86_400_000);
        let passed = (0..100).filter(|_| sieve.pass(rested).is_some()).count();
        assert_eq!(passed, BURST as usize);
    }
}
