//! How many samples a sink delivers in a second, over the last ten of them.

use crate::event::MonotonicNs;

/// Whole seconds that are counted; the one under way is not.
const SECONDS: u64 = 10;
const SLOTS: usize = SECONDS as usize + 1;
const SECOND_NS: u64 = 1_000_000_000;

/// Samples by the second in which they arrived.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The last second that is in it, counted from the clock's beginning.
    newest: u64,
    counts: [u64; SLOTS],
}

impl Rate {
    /// So many arrived now.
    pub(super) fn count(&mut self, samples: u64, now: MonotonicNs) {
        self.go_on(now);
        if let Some(count) = self.counts.get_mut(slot(self.newest)) {
            *count += samples;
        }
    }

    /// Samples per second over the last ten whole seconds; since the clock's beginning while that is less. The second under way counts only
    /// where there is no other.
    pub(super) fn per_second(&mut self, now: MonotonicNs) -> u64 {
        self.go_on(now);
        let whole = self.newest.min(SECONDS);
        if whole == 0 {
            return self.counts.iter().sum();
        }
        let under_way = self.counts.get(slot(self.newest)).copied().unwrap_or(0);
        (self.counts.iter().sum::<u64>() - under_way) / whole
    }

    /// Forgets what is older.
    fn go_on(&mut self, now: MonotonicNs) {
        let second = now.0 / SECOND_NS;
        let passed = second.saturating_sub(self.newest).min(SLOTS as u64);
        for step in 1..=passed {
            if let Some(count) = self.counts.get_mut(slot(second - passed + step)) {
                *count = 0;
            }
        }
        self.newest = self.newest.max(second);
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_last_ten_whole_seconds() {
        let at = |tenths: u64| MonotonicNs(tenths * SECOND_NS / 10);
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(1)), 0);
        rate.count(30, at(2));
        assert_eq!(rate.per_second(at(3)), 30, "nothing else is known yet");
        // 10 samples each tenth of a second, from the second one to the twentieth.
        for tenth in 10..200 {
            rate.count(10, at(tenth));
        }
        assert_eq!(rate.per_second(at(199)), 100);
        assert_eq!(rate.per_second(at(200)), 100);
        assert_eq!(
            rate.per_second(at(250)),
            50,
            "five of ten seconds were silent"
        );
        assert_eq!(rate.per_second(at(310)), 0);
        assert_eq!(rate.per_second(at(90_000)), 0);
        rate.count(7, at(90_001));
        assert_eq!(rate.per_second(at(90_010)), 0, "7 in ten seconds");
        rate.count(70, at(90_010));
        assert_eq!(rate.per_second(at(90_020)), 7);
    }
}
