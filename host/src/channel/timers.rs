//! The timers of one incarnation. They end with it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::event::MonotonicNs;
use crate::ids::TimerId;

/// The most timers that may be set at once.
pub(super) const MAX_TIMERS: usize = crate::limits::TIMERS;
/// The least time from setting to ringing: a driver that sets a timer of nothing in each turn does not spin.
const LEAST: Duration = Duration::from_millis(1);

/// The set timers, by moment.
#[derive(Default)]
pub(super) struct Timers {
    by_moment: BTreeSet<(MonotonicNs, u32)>,
    moments: HashMap<u32, MonotonicNs>,
}

impl Timers {
    pub(super) fn len(&self) -> usize {
        self.moments.len()
    }

    pub(super) fn contains(&self, timer: TimerId) -> bool {
        self.moments.contains_key(&timer.0)
    }

    /// Sets a timer, or moves it.
    pub(super) fn set(&mut self, timer: TimerId, now: MonotonicNs, after: Duration) {
        let moment = now.after(after.max(LEAST));
        if let Some(old) = self.moments.insert(timer.0, moment) {
            self.by_moment.remove(&(old, timer.0));
        }
        self.by_moment.insert((moment, timer.0));
    }

    pub(super) fn cancel(&mut self, timer: TimerId) {
        if let Some(moment) = self.moments.remove(&timer.0) {
            self.by_moment.remove(&(moment, timer.0));
        }
    }

    /// The next moment at which one rings.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        self.by_moment.first().map(|(moment, _)| *moment)
    }

    /// Takes the first one that has run out.
    pub(super) fn pop(&mut self, now: MonotonicNs) -> Option<(TimerId, MonotonicNs)> {
        let (moment, timer) = *self.by_moment.first()?;
        if moment > now {
            return None;
        }
        self.by_moment.pop_first();
        self.moments.remove(&timer);
        Some((TimerId(timer), moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn timers_ring_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set(TimerId(1), MonotonicNs(0), 30 * MS);
        timers.set(TimerId(2), MonotonicNs(0), 10 * MS);
        timers.set(TimerId(3), MonotonicNs(0), 20 * MS);
        timers.set(TimerId(2), MonotonicNs(0), 40 * MS);
        timers.cancel(TimerId(3));
        timers.cancel(TimerId(9));
        assert_eq!(timers.next(), Some(MonotonicNs(30_000_000)));
        assert_eq!(timers.pop(MonotonicNs(29_999_999)), None, "never early");
        let late = MonotonicNs(100_000_000);
        assert_eq!(
            timers.pop(late),
            Some((TimerId(1), MonotonicNs(30_000_000)))
        );
        assert_eq!(
            timers.pop(late),
            Some((TimerId(2), MonotonicNs(40_000_000)))
        );
        assert_eq!(
            (timers.pop(late), timers.len(), timers.next()),
            (None, 0, None)
        );
    }

    #[test]
    fn a_timer_of_nothing_still_waits_a_millisecond() {
        let mut timers = Timers::default();
        timers.set(TimerId(1), MonotonicNs(5), Duration::ZERO);
        assert_eq!(timers.next(), Some(MonotonicNs(1_000_005)));
    }
}
