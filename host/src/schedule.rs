//! When a group is polled: on a fixed grid, so that nothing drifts, with phases spread, so that not all of many groups are
//! due together. A few of them are, on purpose: who wakes a processor for one poll finds its code and tables cold, and what that costs
//! is more than the poll. So channels keep company, up to eight of them at one moment, where there are many.
//!
//! The grid counts from the start of the host's monotonic clock, so a restarted channel keeps its rhythm. A moment that
//! cannot be used, because the poll before is not done or the host is late, is skipped and counted; it is
//! never made up for, since a burst of late polls helps nobody.

use std::time::Duration;

use crate::event::MonotonicNs;

/// The moments of one group. 40 bytes, and a few integer operations per question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    period: u64,
    next: u64,
    /// The number of the next moment, counted from 1.
    cycle: u64,
    skipped: u64,
    /// Whether a poll is on its way.
    busy: bool,
    /// A moment beside the grid.
    extra: Option<u64>,
}

/// What is to be done about a group at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before [`Schedule::next`].
    NotYet,
    /// Poll. The group is busy until [`Schedule::done`].
    Poll {
        /// Counts the due moments, skipped ones included, from 1.
        cycle: u64,
        /// When it was due.
        scheduled: MonotonicNs,
        /// How many moments since the poll before went by unused because the host was late.
        skipped: u64,
    },
    /// The poll before is not done: these moments are skipped.
    Overlap {
        /// How many; at least one.
        skipped: u64,
    },
}

impl Schedule {
    /// The moments after `now` of the group at this place in the host's tables. The phase depends on the place alone.
    /// A period below a millisecond is taken for one, which no configuration asks for.
    pub fn new(period: Duration, channel: usize, group: usize, now: MonotonicNs) -> Self {
        let period = u64::try_from(period.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1_000_000);
        let phase = phase(period, channel, group);
        let past = now
            .0
            .checked_sub(phase)
            .map_or(0, |since| since / period + 1);
        let next = past.saturating_mul(period).saturating_add(phase);
        Self {
            period,
            next,
            cycle: 1,
            skipped: 0,
            busy: false,
            extra: None,
        }
    }

    /// Adds one moment beside the grid: a group whose link has just come up does not wait for its period, which may be a
    /// day. Of several, the last counts.
    pub fn soon(&mut self, at: MonotonicNs) {
        self.extra = Some(at.0);
    }

    /// The next moment to ask at.
    pub fn next(&self) -> MonotonicNs {
        MonotonicNs(self.extra.map_or(self.next, |extra| extra.min(self.next)))
    }

    /// Moments that were skipped so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether a poll is on its way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The poll is done, or its instance has ended.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// What is to be done now. Of several moments that went by, the last counts, and the others are skipped.
    pub fn due(&mut self, now: MonotonicNs) -> Due {
        let extra = self.extra.take_if(|extra| *extra <= now.0);
        let Some(late) = now.0.checked_sub(self.next) else {
            return match extra {
                Some(scheduled) if !self.busy => {
                    self.busy = true;
                    self.cycle += 1;
                    Due::Poll {
                        cycle: self.cycle - 1,
                        scheduled: MonotonicNs(scheduled),
                        skipped: 0,
                    }
                }
                Some(_) | None => Due::NotYet,
            };
        };
        let missed = late / self.period;
        let scheduled = self.next + missed * self.period;
        let cycle = self.cycle + missed;
        self.next = scheduled.saturating_add(self.period);
        self.cycle = cycle + 1;
        let skipped = missed + u64::from(self.busy);
        self.skipped += skipped;
        if self.busy {
            return Due::Overlap { skipped };
        }
        self.busy = true;
        Due::Poll {
            cycle,
            scheduled: MonotonicNs(scheduled),
            skipped,
        }
    }
}

/// How many channels have phases of their own before others join them.
const ALONE: usize = 16;

/// How many channels stand at the same moment of equal periods at most: so many turns of a driver, some tens of microseconds each
/// where it is not slow, is what a poll may be late for the sake of the others.
const COMPANY: usize = 8;

/// Where in its period a group stands. The phase is that of the channel's company: two additive recurrences over the place, which
/// leave no large gap however many places there are. Steps: 2^64 over the golden ratio for companies (Knuth, The Art of
/// Computer Programming, volume 3, section 6.4), 2^64 over the square of the plastic number for groups.
fn phase(period: u64, channel: usize, group: usize) -> u64 {
    const CHANNEL_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    const GROUP_STEP: u64 = 0x91E1_0DA5_C79E_7B1D;
    let company = channel / (ALONE * COMPANY) * ALONE + channel % ALONE;
    let fraction = (company as u64)
        .wrapping_mul(CHANNEL_STEP)
        .wrapping_add((group as u64).wrapping_mul(GROUP_STEP));
    ((u128::from(fraction) * u128::from(period)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> MonotonicNs {
        MonotonicNs(ms * 1_000_000)
    }

    fn poll(cycle: u64, ms: u64, skipped: u64) -> Due {
        Due::Poll {
            cycle,
            scheduled: at(ms),
            skipped,
        }
    }

    #[test]
    fn an_extra_moment_is_used_once_and_leaves_the_grid_alone() {
        let mut schedule = Schedule::new(PERIOD, 0, 0, at(0));
        assert_eq!(schedule.due(at(100)), poll(1, 100, 0));
        schedule.soon(at(130));
        assert_eq!(schedule.next(), at(130));
        assert_eq!(
            schedule.due(at(130)),
            Due::NotYet,
            "busy: the answer under way is fresh enough"
        );
        schedule.done();
        assert_eq!(schedule.next(), at(200));
        schedule.soon(at(140));
        assert_eq!(schedule.due(at(141)), poll(2, 140, 0));
        schedule.done();
        assert_eq!(schedule.due(at(200)), poll(3, 200, 0));
        assert_eq!(schedule.skipped(), 0);
    }

    #[test]
    fn polls_keep_to_the_grid_and_count_what_they_skip() {
        let mut schedule = Schedule::new(PERIOD, 0, 0, at(250));
        // (when, what, whether the poll is done right after)
        let table = [
            (250, Due::NotYet, false),
            (299, Due::NotYet, false),
            (300, poll(1, 300, 0), true),
            (301, Due::NotYet, false),
            (437, poll(2, 400, 0), false),
            (500, Due::Overlap { skipped: 1 }, false),
            (750, Due::Overlap { skipped: 2 }, true),
            (800, poll(6, 800, 0), true),
            (1_199, poll(9, 1_100, 2), true),
            (1_200, poll(10, 1_200, 0), true),
        ];
        for (when, expected, done) in table {
            assert_eq!(schedule.due(at(when)), expected, "at {when}");
            if done {
                schedule.done();
            }
        }
        assert_eq!(schedule.skipped(), 5);
    }

    #[test]
    fn a_restarted_channel_keeps_its_rhythm() {
        let first = Schedule::new(PERIOD, 7, 2, at(0)).next();
        for now in [0, 1, 99, 100, 12_345] {
            let again = Schedule::new(PERIOD, 7, 2, at(now)).next();
            assert!(again > at(now) && again.since(at(now)) <= PERIOD, "{now}");
            assert_eq!((again.0 - first.0) % (PERIOD.as_nanos() as u64), 0, "{now}");
        }
    }

    #[test]
    fn phases_leave_no_large_gap() {
        // (channels, groups each): the largest gap is at most a few times the even one.
        for (channels, groups) in [
            (2, 1),
            (20, 1),
            (100, 1),
            (1_000, 1),
            (1, 10),
            (50, 2),
            (100, 4),
        ] {
            let period = 1_000_000_000;
            let places =
                (0..channels).flat_map(|channel| (0..groups).map(move |group| (channel, group)));
            let mut phases: Vec<u64> = places
                .map(|(channel, group)| phase(period, channel, group))
                .collect();
            phases.sort_unstable();
            phases.dedup();
            let around = phases[0] + period - phases[phases.len() - 1];
            let largest = phases
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap_or(0)
                .max(around);
            let even = period / phases.len() as u64;
            assert!(
                largest <= even * 4,
                "{channels} x {groups}: {largest} against {even}"
            );
        }
    }

    #[test]
    fn many_channels_keep_company_and_few_stand_alone() {
        // (channels, moments, the most channels at one of them)
        for (channels, moments, most) in [
            (1, 1, 1),
            (16, 16, 1),
            (17, 16, 2),
            (100, 16, 7),
            (128, 16, 8),
            (1_000, 128, 8),
        ] {
            let mut phases: Vec<u64> = (0..channels)
                .map(|channel| phase(1_000_000_000, channel, 0))
                .collect();
            phases.sort_unstable();
            let companies: Vec<usize> = phases
                .chunk_by(|one, other| one == other)
                .map(<[u64]>::len)
                .collect();
            let largest = companies.iter().copied().max();
            assert_eq!(
                (companies.len(), largest),
                (moments, Some(most)),
                "{channels}"
            );
        }
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let end = MonotonicNs(u64::MAX);
        for (period, start) in [
            (Duration::MAX, end),
            (Duration::MAX, at(0)),
            (Duration::ZERO, end),
            (Duration::ZERO, at(0)),
        ] {
            let mut schedule = Schedule::new(period, usize::MAX, usize::MAX, start);
            schedule.due(end);
            schedule.done();
            schedule.due(end);
            assert_eq!(schedule.next(), end);
        }
    }

    proptest! {
        /// Whatever the host's delays: every moment is either polled or skipped, in order, on the grid, and never early.
        #[test]
        fn every_moment_is_accounted_for(
            period_ms in 10u64..1_000,
            channel in 0usize..10_000,
            start in 0u64..100_000,
            steps in prop::collection::vec((0u64..3_000, any::<bool>()), 1..200),
        ) {
            let period = period_ms * 1_000_000;
            let mut schedule = Schedule::new(Duration::from_millis(period_ms), channel, 0, at(start));
            let first = schedule.next().0;
            let (mut now, mut polled, mut last_cycle) = (start, 0, 0);
            for (step, done) in steps {
                now += step;
                if let Due::Poll { cycle, scheduled, .. } = schedule.due(at(now)) {
                    polled += 1;
                    prop_assert!(cycle > last_cycle);
                    prop_assert_eq!(scheduled.0, first + (cycle - 1) * period);
                    prop_assert!(scheduled <= at(now) && at(now).since(scheduled).as_nanos() < u128::from(period));
                    last_cycle = cycle;
                }
                let moments = at(now).0.checked_sub(first).map_or(0, |since| since / period + 1);
                prop_assert_eq!(polled + schedule.skipped(), moments);
                prop_assert!(schedule.next() > at(now));
                if done {
                    schedule.done();
                }
            }
        }
    }
}
