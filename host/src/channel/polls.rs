//! The poll groups of a channel, by the moment at which each is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::config::Group;
use crate::event::MonotonicNs;
use crate::ids::GroupId;
use crate::schedule::{Due, Schedule};

/// The schedules of all groups. Lives as long as the incarnation; the grid itself does not depend on it.
pub(super) struct Polls {
    schedules: Vec<(Schedule, Option<u64>)>,
    queue: BinaryHeap<Reverse<(MonotonicNs, u32)>>,
}

/// One poll to hand to the driver.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DuePoll {
    pub(super) group: GroupId,
    pub(super) cycle: u64,
    pub(super) scheduled: MonotonicNs,
}

impl Polls {
    /// All groups of the channel at this place in the host's tables, from `now` on.
    pub(super) fn new(groups: &[Group], channel: usize, now: MonotonicNs) -> Self {
        let schedules: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(index, group)| (Schedule::new(group.period, channel, index, now), None))
            .collect();
        let queue = (0u32..)
            .zip(&schedules)
            .map(|(index, (schedule, _))| Reverse((schedule.next(), index)))
            .collect();
        Self { schedules, queue }
    }

    /// The next moment at which a group is due.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        self.queue.peek().map(|Reverse((moment, _))| *moment)
    }

    /// Takes the next group that is due; counts into `skipped` the moments that could not be used.
    pub(super) fn pop(&mut self, now: MonotonicNs, skipped: &mut u64) -> Option<DuePoll> {
        loop {
            let Reverse((moment, index)) = *self.queue.peek()?;
            if moment > now {
                return None;
            }
            self.queue.pop();
            let (schedule, outstanding) = &mut self.schedules[index as usize];
            let due = schedule.due(now);
            self.queue.push(Reverse((schedule.next(), index)));
            match due {
                Due::NotYet => {}
                Due::Overlap { skipped: missed } => *skipped += missed,
                Due::Poll {
                    cycle,
                    scheduled,
                    skipped: missed,
                } => {
                    *skipped += missed;
                    *outstanding = Some(cycle);
                    return Some(DuePoll {
                        group: GroupId(index),
                        cycle,
                        scheduled,
                    });
                }
            }
        }
    }

    /// Whether this poll was handed out and not answered yet.
    pub(super) fn is_outstanding(&self, group: GroupId, cycle: u64) -> bool {
        self.schedules
            .get(group.index())
            .is_some_and(|(_, outstanding)| *outstanding == Some(cycle))
    }

    /// The driver has answered.
    pub(super) fn done(&mut self, group: GroupId) {
        if let Some((schedule, outstanding)) = self.schedules.get_mut(group.index()) {
            *outstanding = None;
            schedule.done();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group(period_ms: u64) -> Group {
        Group {
            name: "g".into(),
            period: Duration::from_millis(period_ms),
            tags: Vec::new(),
        }
    }

    #[test]
    fn each_group_is_handed_out_once_until_it_is_done() {
        let mut polls = Polls::new(&[group(10), group(25)], 0, MonotonicNs(0));
        let mut skipped = 0;
        let mut seen = [0u32; 2];
        for ms in 0..100 {
            let now = MonotonicNs(ms * 1_000_000);
            while let Some(due) = polls.pop(now, &mut skipped) {
                assert!(polls.is_outstanding(due.group, due.cycle));
                assert!(!polls.is_outstanding(due.group, due.cycle + 1));
                seen[due.group.index()] += 1;
                polls.done(due.group);
            }
        }
        assert_eq!((seen, skipped), ([10, 4], 0));
    }

    #[test]
    fn a_busy_group_is_skipped_and_counted() {
        let mut polls = Polls::new(&[group(10)], 0, MonotonicNs(0));
        let mut skipped = 0;
        assert!(polls.pop(MonotonicNs(0), &mut skipped).is_some());
        for ms in 1..=50 {
            assert_eq!(polls.pop(MonotonicNs(ms * 1_000_000), &mut skipped), None);
        }
        assert_eq!(skipped, 5);
        polls.done(GroupId(0));
        assert_eq!(
            polls
                .pop(MonotonicNs(60_000_000), &mut skipped)
                .unwrap()
                .cycle,
            7
        );
    }
}
