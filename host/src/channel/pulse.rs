//! Whether the task of a channel makes progress, for the watchdog.
//!
//! A guest has fuel and a deadline; the host's own code around it has neither. So the task says until when the work that it
//! begins may take, and when it is done; whoever looks on sees whether it is late. Two stores in a turn, no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::MonotonicNs;
use crate::limits::HOST_PART;

const IDLE: u64 = 0;

/// The pulse of one channel's task.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Until when the present work may take, or [`IDLE`].
    until: AtomicU64,
}

impl Pulse {
    /// Work begins in which the guest may take until `deadline`.
    pub(super) fn busy(&self, deadline: MonotonicNs) {
        self.until
            .store(deadline.after(HOST_PART).0.max(IDLE + 1), Ordering::Relaxed);
    }

    /// Idle at the latest when what is given here is dropped, however the work ends.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// The work is done.
    pub(super) fn idle(&self) {
        self.until.store(IDLE, Ordering::Relaxed);
    }

    /// For how long the task has been late, if it is.
    pub fn late(&self, now: MonotonicNs) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        (until != IDLE && now.0 > until).then(|| now.since(MonotonicNs(until)))
    }
}

/// See [`Pulse::guard`].
pub(super) struct Guard<'a>(&'a Pulse);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_late_when_its_work_takes_longer_than_it_may() {
        let pulse = Pulse::default();
        let at = |seconds: u64| MonotonicNs(seconds * 1_000_000_000);
        assert_eq!(pulse.late(at(1_000)), None, "idle is never late");
        pulse.busy(at(20));
        assert_eq!(pulse.late(at(30)), None);
        assert_eq!(pulse.late(at(31)), Some(Duration::from_secs(1)));
        pulse.idle();
        assert_eq!(pulse.late(at(31)), None);
        let guard = pulse.guard();
        pulse.busy(at(20));
        drop(guard);
        assert_eq!(pulse.late(at(31)), None, "what was dropped hangs no more");
    }
}
