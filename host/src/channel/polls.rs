//! The poll groups of a channel, by the moment at which each is due.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Group;
use crate::event::MonotonicNs;
use crate::ids::GroupId;
use crate::schedule::{Due, Schedule};

/// Over how long the first polls of a channel without links are spread, at most.
const FIRST_WITHIN: Duration = Duration::from_millis(100);

/// The schedules of all groups. Lives as long as the incarnation; the grid itself does not depend on it.
pub(super) struct Polls {
    groups: Vec<Entry>,
    queue: BTreeSet<(MonotonicNs, u32)>,
    /// Groups whose tags may have become stale.
    aging: Vec<GroupId>,
}

struct Entry {
    schedule: Schedule,
    /// The cycle that the driver has not answered yet.
    outstanding: Option<u64>,
    /// When the driver got its last poll.
    handed_out: MonotonicNs,
    /// Where it stands in the queue.
    queued: MonotonicNs,
    /// When it was last looked at whether its tags are stale.
    looked: MonotonicNs,
}

/// How often that is looked at, at most.
const LOOK: Duration = Duration::from_millis(250);

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
        let groups: Vec<Entry> = groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let schedule = Schedule::new(group.period, channel, index, now);
                Entry {
                    queued: schedule.next(),
                    schedule,
                    outstanding: None,
                    handed_out: now,
                    looked: now,
                }
            })
            .collect();
        let queue = (0u32..)
            .zip(&groups)
            .map(|(index, entry)| (entry.queued, index))
            .collect();
        Self {
            groups,
            queue,
            aging: Vec::new(),
        }
    }

    /// The next moment at which a group is due.
    pub(super) fn next(&self) -> Option<MonotonicNs> {
        self.queue.first().map(|(moment, _)| *moment)
    }

    /// Takes the next group that is due; says by `skipped` which moments of which group could not be used.
    pub(super) fn pop(
        &mut self,
        now: MonotonicNs,
        mut skipped: impl FnMut(GroupId, u64),
    ) -> Option<DuePoll> {
        loop {
            let (moment, index) = *self.queue.first()?;
            if moment > now {
                return None;
            }
            let entry = &mut self.groups[index as usize];
            let due = entry.schedule.due(now);
            if now.since(entry.looked) >= LOOK {
                entry.looked = now;
                self.aging.push(GroupId(index));
            }
            self.requeue(index);
            match due {
                Due::NotYet => {}
                Due::Overlap { skipped: missed } => skipped(GroupId(index), missed),
                Due::Poll {
                    cycle,
                    scheduled,
                    skipped: missed,
                } => {
                    if missed > 0 {
                        skipped(GroupId(index), missed);
                    }
                    let entry = &mut self.groups[index as usize];
                    entry.outstanding = Some(cycle);
                    entry.handed_out = now;
                    return Some(DuePoll {
                        group: GroupId(index),
                        cycle,
                        scheduled,
                    });
                }
            }
        }
    }

    /// The groups whose moment has come, polled or not, since this was last asked: their tags may have become stale.
    pub(super) fn take_aging(&mut self) -> Vec<GroupId> {
        std::mem::take(&mut self.aging)
    }

    /// Polls a group out of turn, now.
    pub(super) fn soon(&mut self, group: GroupId, now: MonotonicNs) {
        if let Some(entry) = self.groups.get_mut(group.index()) {
            entry.schedule.soon(now);
            self.requeue(group.0);
        }
    }

    /// Polls every group out of turn, each at its place within a short while.
    pub(super) fn all_soon(&mut self, now: MonotonicNs) {
        let count = u32::try_from(self.groups.len()).unwrap_or(u32::MAX).max(1);
        for (index, entry) in (0u32..).zip(&mut self.groups) {
            entry.schedule.soon(now.after(FIRST_WITHIN * index / count));
        }
        for index in 0..self.groups.len() as u32 {
            self.requeue(index);
        }
    }

    fn requeue(&mut self, index: u32) {
        let entry = &mut self.groups[index as usize];
        self.queue.remove(&(entry.queued, index));
        entry.queued = entry.schedule.next();
        self.queue.insert((entry.queued, index));
    }

    /// This poll was handed out, whatever the schedule says.
    pub(super) fn handed_out(&mut self, group: GroupId, cycle: u64) {
        if let Some(entry) = self.groups.get_mut(group.index()) {
            entry.outstanding = Some(cycle);
        }
    }

    /// Whether this poll was handed out and not answered yet.
    pub(super) fn is_outstanding(&self, group: GroupId, cycle: u64) -> bool {
        self.groups
            .get(group.index())
            .is_some_and(|entry| entry.outstanding == Some(cycle))
    }

    /// The driver has answered. Gives when it got the poll.
    pub(super) fn done(&mut self, group: GroupId) -> Option<MonotonicNs> {
        let entry = self.groups.get_mut(group.index())?;
        entry.outstanding = None;
        entry.schedule.done();
        Some(entry.handed_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(period_ms: u64) -> Group {
        Group {
            name: "g".into(),
            period: Duration::from_millis(period_ms),
            tags: Vec::new(),
            stale_after: None,
        }
    }

    #[test]
    fn each_group_is_handed_out_once_until_it_is_done() {
        let mut polls = Polls::new(&[group(10), group(25)], 0, MonotonicNs(0));
        let mut skipped = 0;
        let mut seen = [0u32; 2];
        for ms in 0..100 {
            let now = MonotonicNs(ms * 1_000_000);
            while let Some(due) = polls.pop(now, |_, missed| skipped += missed) {
                assert!(polls.is_outstanding(due.group, due.cycle));
                assert!(!polls.is_outstanding(due.group, due.cycle + 1));
                seen[due.group.index()] += 1;
                polls.done(due.group);
            }
        }
        assert_eq!((seen, skipped), ([9, 4], 0));
    }

    #[test]
    fn a_busy_group_is_skipped_and_counted() {
        let mut polls = Polls::new(&[group(10)], 0, MonotonicNs(0));
        let mut skipped = 0;
        assert!(
            polls
                .pop(MonotonicNs(10_000_000), |_, missed| skipped += missed)
                .is_some()
        );
        for ms in 11..=60 {
            assert_eq!(
                polls.pop(MonotonicNs(ms * 1_000_000), |_, missed| skipped += missed),
                None
            );
        }
        assert_eq!(skipped, 5);
        polls.done(GroupId(0));
        assert_eq!(
            polls
                .pop(MonotonicNs(70_000_000), |_, missed| skipped += missed)
                .unwrap()
                .cycle,
            7
        );
    }

    #[test]
    fn groups_out_of_turn_are_handed_out_once_and_spread() {
        let day = 24 * 3600 * 1000;
        let mut polls = Polls::new(&[group(day), group(day)], 1, MonotonicNs(5));
        polls.all_soon(MonotonicNs(5));
        let mut skipped = 0;
        let first = polls
            .pop(MonotonicNs(5), |_, missed| skipped += missed)
            .unwrap();
        assert_eq!(
            (first.group, polls.next()),
            (GroupId(0), Some(MonotonicNs(50_000_005)))
        );
        assert_eq!(
            polls.pop(MonotonicNs(5), |_, missed| skipped += missed),
            None
        );
        let second = polls
            .pop(MonotonicNs(50_000_005), |_, missed| skipped += missed)
            .unwrap();
        assert_eq!(second.group, GroupId(1));
        polls.done(GroupId(0));
        polls.soon(GroupId(0), MonotonicNs(60_000_000));
        assert_eq!(
            polls
                .pop(MonotonicNs(70_000_000), |_, missed| skipped += missed)
                .unwrap()
                .group,
            GroupId(0)
        );
        assert_eq!(
            (
                polls.pop(MonotonicNs(70_000_000), |_, missed| skipped += missed),
                skipped
            ),
            (None, 0)
        );
    }
}
